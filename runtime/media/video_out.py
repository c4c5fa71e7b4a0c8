"""A video file as a sink: encodes pictures, copies other streams, and shows the file when it is complete."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from ...errors import MediaError
from ..budget import CLOSING_S
from ..stream.frames import FrameForm
from .base import CopiedPacket, Item, OutputForm, Picture, SinkOptions, SourceInfo
from .codecs import quality_of
from .container_trial import MUXING, try_out
from .copies import Carriage, StreamCopier, plan_carriage
from .encoder import Encoding, EncodingRequest, open_encoder
from .even_steps import FilledSteps
from .ffmpeg_log import mute
from .files import PartFile, TrialFile, output_error
from .image_names import is_other_image
from .kept import Told, about_side_data, misshapen, read_back
from .last_packet import LastPacket
from .muxer import format_name_of, open_muxer
from .photo_tags import TagsLost, about_tags
from .picture_encoder import EncodedPicture, PictureEncoder, about_captions
from .pipes import RAW_FORMATS, PipeFile, TrialPipe, is_output_pipe, output_name, pipe_error
from .pixel_shape import shaped
from .quicktime import tag_options
from .readback import check_output
from .repeats import repeat_options

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

_READABLE = frozenset({
    "mp4", "mov", "ipod", "3gp", "3g2", "psp", "f4v", "avi", "matroska", "webm", "nut", "flv", "asf", "mpegts", "mxf",
})  # fmt: skip
"""Containers that hold exactly the pictures that were written. Others are streams without a container."""


_File = PartFile | PipeFile | TrialFile | TrialPipe


class VideoSink:
    """Encodes pictures of one size. See `base.Sink`. Raises `OutputError` if the disk is full or gone.

    lost_captions, lost_side_data: of pictures that were encoded before, as in `PictureEncoder`.
    """

    def __init__(  # many parameters: the last one is known to those who encoded all pictures before
        self,
        path: Path,
        info: SourceInfo,
        width: int,
        height: int,
        options: SinkOptions,
        last_s: Fraction | None = None,
    ) -> None:
        """last_s: how long the last picture is shown, if that is known already. A GIF stores it in its header."""
        self._path = path
        self._is_pipe = is_output_pipe(path)
        format_name = format_of_output(path, options.out_format, info)
        if self._is_pipe and format_name in RAW_FORMATS and options.codec is None:
            options = replace(options, codec="rawvideo")
        self._file = _open_file(path, options)
        muxing = repeat_options(format_name, info)
        if last_s is not None and format_name == "gif":
            muxing["final_delay"] = str(_gif_delay(last_s))
        self._info, self._options = info, options
        self._encoded, self._last = 0, LastPacket(format_name)
        self.lost_captions, self.lost_side_data = 0, set[str]()
        self._photo_tags_lost = TagsLost()
        self._lost_streams: tuple[str, ...] = ()
        self._lost_tags: tuple[str, ...] = ()
        self._committed = False
        self._busy = threading.Lock()
        try:
            wanted = [copy for copy in info.copies if options.wants(copy.kind)]
            plan = plan_carriage(format_name, info, wanted, options.audio_fallback)
            passed_on = any(carriage.passed_on for carriage in plan)
            has_cover = any(each.source.kind == "cover" and not each.is_lost for each in plan)
            tags = tag_options(format_name, info.metadata if options.metadata else {}, has_cover=has_cover)
            request = EncodingRequest(info, width, height, options)
            target = shaped(self._file, format_name, request.aspect)
            encoding = open_encoder(
                lambda: _container(target, format_name, {**muxing, **tags}, live=self._is_pipe, passed_on=passed_on),
                request,
            )
            self._about_shape = about_shape(encoding, request.aspect) if self._is_pipe else ()
            self._encoding, self._encoder = encoding, PictureEncoder(encoding, width, height)
            self._steps = FilledSteps(format_name, encoding.time_base)
            self._copies = self._set_up_header(info, options, plan)
            self._told = Told.of(encoding.container, len(info.chapters) if options.metadata else 0)
            with self._explain_ffmpeg_errors():
                self._encoding.container.start_encoding()  # fail now if the header cannot be written
        except BaseException:
            self._file.discard()
            raise

    def _set_up_header(self, info: SourceInfo, options: SinkOptions, plan: list[Carriage]) -> StreamCopier:
        """Set everything that goes into the header. Returns what copies the other streams."""
        container = self._encoding.container
        cast(Any, self._encoding.stream).disposition = info.disposition
        if options.metadata:
            container.metadata.update(info.metadata)
            self._encoding.stream.metadata.update(info.stream_metadata)
            container.set_chapters([cast(Any, dict(chapter)) for chapter in info.chapters])
        return StreamCopier(container, plan)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about this output. Complete after `commit()`."""
        lost = self.lost_side_data | self._encoder.lost_side_data
        attached = about_side_data(lost, self._told, format_name_of(self._encoding.container))
        return (
            *self._encoding.notes,
            *self._about_shape,
            *(self._steps.lost if self._options.clock is None else ()),  # else it was known before
            *self._copies.notes,
            *self._about_captions,
            *attached,
            *self._about_tags,
        )

    @property
    def lost(self) -> tuple[str, ...]:
        """The streams that the output lacks though they were wanted. Complete after `commit()`."""
        return (*self._info.left_out, *self._copies.lost, *self._lost_streams, *self._about_captions)

    @property
    def _about_tags(self) -> tuple[str, ...]:
        options = self._options
        will_lose = (about_tags("videos"),) if options.trial and options.metadata and self._info.tagged else ()
        return (*will_lose, *self._photo_tags_lost.notes, *self._lost_streams, *self._lost_tags)

    @property
    def _about_captions(self) -> tuple[str, ...]:
        return about_captions(self.lost_captions + self._encoder.lost_captions, self._encoder.codec)

    @property
    def description(self) -> str:
        """One line for people."""
        return self._encoder.description

    @property
    def frames(self) -> FrameForm:
        """The form in which pictures need no conversion to be encoded."""
        return self._encoding.form

    @property
    def surfaces(self) -> bool:
        """Whether pictures may be surfaces on the GPU that encodes."""
        return self._encoding.surfaces

    @property
    def header(self) -> str:
        """Of the encoder, see `Encoding`. Pictures that were encoded with another one cannot be written here."""
        return self._encoding.header

    @property
    def form(self) -> OutputForm:
        """What this output is."""
        encoding, options = self._encoding, self._options
        codec = encoding.stream.codec_context.name
        unwanted = ((str(copy), "as asked for") for copy in self._info.copies if not options.wants(copy.kind))
        refused = ((str(copy), reason) for copy, reason in self._copies.left_out)
        converted = {str(copy): name for copy, name, _ in self._copies.converted}
        return OutputForm(
            format_name_of(encoding.container),
            codec,
            encoding.pix_fmt,
            quality_of(codec, options.crf),
            tuple(str(copy) for copy in self._copies.copied if str(copy) not in converted),
            (*unwanted, *refused),
            tuple(converted.items()),
        )

    def write(self, item: Item) -> None:
        """Encode a picture, or copy a packet."""
        with self._busy, self._explain_ffmpeg_errors():
            if isinstance(item, CopiedPacket):
                self._copies.write(item)
            else:
                self._encode(item)

    def _encode(self, picture: Picture) -> None:
        if self._options.metadata:
            self._photo_tags_lost.note(picture.stamp.tags)
        self._mux(self._encoder.encode(picture))

    def _mux(self, packets: list[Packet[Any]]) -> None:
        self._steps.note(packets)
        self._encoding.container.mux(self._last.ready(packets))

    def write_encoded(self, picture: EncodedPicture, time_base: Fraction) -> None:
        """Write a picture that was encoded before, with the same options. time_base: seconds per tick of its stamps."""
        with self._busy, self._explain_ffmpeg_errors():
            self._mux([picture.packet(self._encoding.stream, time_base)])
            self._encoded += 1

    @property
    def _written(self) -> int:
        return self._encoder.count + self._encoded

    def commit(self) -> None:
        """Write what the encoder still holds, and give the file its final name. Raises `MediaError` if it is empty."""
        if not self._written:
            raise MediaError(
                f"no frame was written to {output_name(self._path)}, expected at least one: nothing was kept"
            )
        encoding = self._encoding
        with self._busy:
            with self._explain_ffmpeg_errors():
                self._mux(self._encoder.finish())
                encoding.container.mux(self._last.rest())
                self._copies.finish(self._steps.length)
                encoding.container.close()
            if isinstance(self._file, PartFile) and format_name_of(encoding.container) in _READABLE:
                check_output(self._file.written, self._path, self._written)
            if isinstance(self._file, PartFile):
                name = format_name_of(encoding.container)
                self._lost_streams, self._lost_tags = read_back(self._file.written, self._told, name)
            self._file.commit()
            self._committed = True

    @contextmanager
    def _explain_ffmpeg_errors(self) -> Iterator[None]:
        """Turns FFmpeg's errors into ours: `OutputError` if writing the file failed, else `MediaError`."""
        import av

        try:
            yield
        except (OSError, av.FFmpegError) as error:
            if isinstance(self._file, PipeFile) and self._file.error is not None:
                raise pipe_error(self._path, self._file.error) from error
            if self._file.error is not None:
                raise output_error(self._path, self._file.error) from error
            reason = getattr(error, "strerror", None) or error
            if self._is_pipe and not self._written:
                name = self._encoding.container.format.name
                raise MediaError(
                    f"{name} cannot be written to a pipe ({reason}): choose a format that needs no seeking, e.g. "
                    "--out-format mkv"
                ) from error
            raise MediaError(
                f"frame {self._written} cannot be written to {output_name(self._path)}: {reason}; choose another codec "
                "or container"
            ) from error

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._committed:
            return
        self._file.discard()  # first: into a closed file FFmpeg writes no trailer
        if self._busy.acquire(timeout=CLOSING_S):  # else a thread is still in the encoder
            try:
                with mute(), suppress(Exception):
                    self._encoding.container.close()
                    self._encoding = cast(Any, None)  # frees the encoder
            finally:
                self._busy.release()


def format_of_output(path: Path, out_format: str | None, info: SourceInfo) -> str:
    """FFmpeg's name of the format of an output, a file or a pipe."""
    return pipe_format(out_format, info) if is_output_pipe(path) else container_format(path)


def container_format(path: Path) -> str:
    """The container format for the suffix of `path`, as `open_muxer` calls it."""
    import av

    try:
        guessed = av.open(str(path), "w").format  # creates no file before the header
    except ValueError:
        if is_other_image(path):
            raise _not_written(path) from None
        raise MediaError(
            f"{path.name} has the suffix {path.suffix!r}, which is not a video container, expected e.g. .mp4, .mkv, "
            ".mov or .webm: rename the output; for a folder of images, leave out the suffix"
        ) from None
    if guessed.name == "image2":
        raise _not_written(path)
    if guessed.no_file:
        raise MediaError(f"{path.suffix} outputs are many files, expected one file such as .mp4: rename the output")
    return _MEANT.get(path.suffix.lower(), guessed.name)


def _not_written(path: Path) -> MediaError:
    return MediaError(
        f"{path.suffix} is a format of pictures that is not written, expected e.g. .png or .tif for a picture, .mp4 "
        "for a video: rename the output; for a folder of images, leave out the suffix"
    )


_MEANT = {".vob": "vob", ".m2ts": "m2ts"}
"""Suffixes that FFmpeg takes for something else first: `svcd`, and a transport stream for broadcasts."""


def pipe_format(wanted: str | None, info: SourceInfo) -> str:
    """The format of a pipe, as `open_muxer` calls it. wanted: FFmpeg's name, or a suffix; None for the usual one."""
    import av

    if wanted is None:
        return info.container if info.container in RAW_FORMATS else RAW_FORMATS[0]
    with suppress(ValueError):
        return av.open(io.BytesIO(), "w", format=wanted).format.name
    try:
        return container_format(Path(f"out.{wanted.removeprefix('.')}"))
    except MediaError:
        raise MediaError(f"--out-format is {wanted!r}, expected a format of FFmpeg, e.g. nut, y4m or mkv") from None


def _open_file(path: Path, options: SinkOptions) -> _File:
    if not is_output_pipe(path):
        return (TrialFile if options.trial else PartFile)(path, options.overwrite)
    return (TrialPipe if options.trial else PipeFile)(path)


def _container(
    file: Any, format_name: str, muxing: Mapping[str, str], *, live: bool, passed_on: bool
) -> OutputContainer:
    """muxing: options of the muxer. live: hand on every packet at once. passed_on: see `open_muxer`."""
    options = {**MUXING.get(format_name, {}), **muxing}
    if live:
        options["flush_packets"] = "1"
    return open_muxer(file, format_name, options, passed_on=passed_on)


def about_shape(encoding: Encoding, aspect: Fraction | None) -> tuple[str, ...]:
    """A line if readers will not find the shape of pixels. A pipe cannot be read back, so a trial shows it."""
    if aspect is None:
        return ()
    context, name = encoding.stream.codec_context, format_name_of(encoding.container)
    codec = context.codec
    if codec.name == "mpeg2video":  # keeps one of a few shapes of the picture, which are others for other sizes
        trial = try_out(name, codec.name, aspect, (context.width, context.height))
    else:
        trial = try_out(name, codec.name, aspect)
    if not trial.held:
        return ()
    return tuple(misshapen(aspect, trial.aspect or Fraction(1), codec.canonical_name, name))


def _gif_delay(seconds: Fraction) -> int:
    """In hundredths of a second, as far as a GIF can count."""
    return min(round(100 * seconds), 65535)
