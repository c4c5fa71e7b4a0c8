"""A video file as a sink: encodes pictures, copies other streams, and shows the file when it is complete."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from ...errors import MediaError
from ..budget import CLOSING_S
from .base import CopiedPacket, Item, Picture, SinkOptions, SourceInfo, check_pixels
from .colour import from_rgb
from .copies import StreamCopier
from .encoder import EncodingRequest, open_encoder
from .files import PartFile, check_overwrite, check_parent, output_error
from .timeline import ClockConverter

if TYPE_CHECKING:
    from av.container import OutputContainer


class VideoSink:
    """Encodes pictures of one size. See `base.Sink`. Raises `OutputError` if the disk is full or gone."""

    def __init__(self, path: Path, info: SourceInfo, width: int, height: int, options: SinkOptions) -> None:
        from av.video.reformatter import VideoReformatter

        self._path, self._width, self._height = path, width, height
        format_name = _format(path)
        check_parent(path)
        check_overwrite(path, options.overwrite)
        self._file = PartFile(path, options.overwrite)
        self._count = 0
        self._committed = False
        self._busy = threading.Lock()
        try:
            self._encoding = open_encoder(
                lambda: _container(self._file, format_name), EncodingRequest(info, width, height, options)
            )
            self._copies = self._set_up_header(info, options)
            with self._explain_ffmpeg_errors():
                self._encoding.container.start_encoding()  # fail now if the header cannot be written
        except BaseException:
            self._file.discard()
            raise
        self._convert = ClockConverter(self._encoding.time_base)
        self._reformatter = VideoReformatter()

    def _set_up_header(self, info: SourceInfo, options: SinkOptions) -> StreamCopier:
        """Set everything that goes into the header. Returns what copies the other streams."""
        container = self._encoding.container
        if options.metadata:
            container.metadata.update(info.metadata)
            self._encoding.stream.metadata.update(info.stream_metadata)
            container.set_chapters([cast(Any, dict(chapter)) for chapter in info.chapters])
        return StreamCopier(container, info, [copy for copy in info.copies if options.wants(copy)])

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about this output. Complete after `commit()`."""
        return (*self._encoding.notes, *self._copies.notes)

    @property
    def description(self) -> str:
        """One line for people."""
        encoding = self._encoding
        return f"{encoding.stream.codec_context.name} {encoding.pix_fmt} {self._width}x{self._height}"

    def write(self, item: Item) -> None:
        """Encode a picture, or copy a packet."""
        with self._busy, self._explain_ffmpeg_errors():
            if isinstance(item, CopiedPacket):
                self._copies.write(item)
            else:
                self._encode(item)

    def _encode(self, picture: Picture) -> None:
        encoding, stamp = self._encoding, picture.stamp
        pixels = check_pixels(picture.pixels, self._width, self._height)
        frame = from_rgb(pixels, encoding.colour, encoding.pix_fmt, self._reformatter)
        frame.time_base = encoding.time_base
        frame.pts, frame.duration = self._convert(stamp.pts, stamp.duration, stamp.time_base)
        encoding.container.mux(encoding.stream.encode(frame))
        self._count += 1

    def commit(self) -> None:
        """Write what the encoder still holds, and give the file its final name. Raises `MediaError` if it is empty."""
        if not self._count:
            raise MediaError(f"no frame was written to {self._path}, expected at least one: nothing was kept")
        encoding = self._encoding
        with self._busy:
            with self._explain_ffmpeg_errors():
                encoding.container.mux(encoding.finish(self._count))
                encoding.container.close()
            self._file.commit()
            self._committed = True

    @contextmanager
    def _explain_ffmpeg_errors(self) -> Iterator[None]:
        """Turns FFmpeg's errors into ours: `OutputError` if writing the file failed, else `MediaError`."""
        import av

        try:
            yield
        except (OSError, av.FFmpegError) as error:
            if self._file.error is not None:
                raise output_error(self._path, self._file.error) from error
            reason = getattr(error, "strerror", None) or error
            raise MediaError(
                f"frame {self._count} cannot be written to {self._path}: {reason}; choose another codec or container"
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
                with suppress(Exception):
                    self._encoding.container.close()
            finally:
                self._busy.release()


def _format(path: Path) -> str:
    """The container format for the suffix of `path`."""
    import av

    try:
        guessed = av.open(str(path), "w").format  # creates no file before the header
    except ValueError:
        raise MediaError(
            f"{path.name} has the suffix {path.suffix!r}, which is not a video container, expected e.g. .mp4, .mkv, "
            ".mov or .webm: rename the output; for a folder of images, leave out the suffix"
        ) from None
    if guessed.no_file:
        raise MediaError(f"{path.suffix} outputs are many files, expected one file such as .mp4: rename the output")
    return guessed.name


def _container(file: PartFile, format_name: str) -> OutputContainer:
    import av

    return av.open(file, "w", format=format_name)
