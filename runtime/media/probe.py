"""Opens a video and decodes its first frame, because only that shows for certain what the file holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import MachineError, MediaError
from ...text import counted, with_article
from ..stream.frames import RGB, RGB16, FrameForm
from . import colour
from .alpha import DROPPED, has_alpha, is_opaque, keeps_alpha
from .base import DEFAULT_RATE, CopiedStream, SourceInfo
from .decoder import VideoDecoder
from .ffmpeg_log import ffmpeg_errors, first_error
from .file_state import state_of
from .filters import FilterChain, FilterInput, filters_of, measure
from .interlacing import decide
from .kept import HDR_METADATA, stereo_mode
from .nvcodec import nvdec
from .pipes import is_input_pipe
from .planes import bits_of, form_of_frame
from .playlists import files_of_playlist
from .promise import CONTAINER_CLOCK, is_cover, shown_seconds
from .pyav import fraction, readable
from .quicktime import titled
from .side_data import side_data
from .siting import Siting
from .source_options import SourceOptions
from .surfaces import is_on_gpu, on_host
from .timeline import rescale
from .tonemap import refuse_hdr, tone_map_of

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer
    from av.container.core import Chapter
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_FILE_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
"""Metadata of a container that describes the old file and would be wrong in the new one."""

_STREAM_TAGS = frozenset({
    "encoder", "rotate", "vendor_id", "bps", "duration", "number_of_frames", "number_of_bytes", "alpha_mode",
})  # fmt: skip
"""Metadata of a video stream that describes its old encoding."""

_USUAL_RATE = 1000
"""Frames per second. A container that claims more often gives the frequency of its clock as its frame rate."""

_ENOUGH = 8
"""Frames in an index that tell a rate."""

_MOST_AHEAD = 250
"""Frames that filters may take before they give the first one."""


@dataclass(frozen=True)
class OpenedVideo:
    """An open video, and everything known about it before its second frame is decoded.

    decoder       has yielded `packets` and `first`, and continues after them; close it when done
    packets       the packets to copy that lie before the first frame
    first         the first frame, as FFmpeg decodes it; it may lie on a GPU
    ahead         what `decoder` has yielded after it
    filters       what frames go through before they are restored; `given` describes those that go in
    """

    decoder: VideoDecoder
    packets: tuple[Packet[Any], ...]
    first: VideoFrame
    info: SourceInfo
    given: FilterInput
    filters: FilterChain | None = None
    ahead: tuple[VideoFrame | Packet[Any], ...] = ()

    @property
    def siting(self) -> Siting:
        """Where the chroma of the frames lies that are to be restored."""
        return self.decoder.siting if self.filters is None else self.filters.siting(self.decoder.siting)


def open_video(
    path: Path, gpu: int | None = None, options: SourceOptions | None = None, *, surfaces: bool = False
) -> OpenedVideo:
    """Open a video. gpu: number of the GPU that decodes it; None for software. A pipe is decoded in software.

    surfaces: frames that the GPU decodes stay there (`surfaces.on_host` fetches one).
    If the GPU cannot decode it, software does, and `info.notes` says why. Raises `MediaError` if the file is not a
    video, or if none of its frames can be decoded.
    """
    options = options or SourceOptions()
    if gpu is None or is_input_pipe(path):
        return _probe(path, options)
    try:
        with ffmpeg_errors() as said:
            opened = _probe(path, options, nvdec(gpu, surfaces=surfaces))
    except (MediaError, MachineError, OSError) as error:  # if the file is at fault, software decoding will report that
        refusal = first_error(said, error)
    else:
        if is_on_gpu(opened.first) or opened.decoder.stream.codec_context.pix_fmt == "cuda":
            return opened
        opened.decoder.close()
        refusal = f"NVDEC does not decode this {opened.decoder.codec} video"
    opened = _probe(path, options)
    notes = (f"decoding in software, not on the GPU: {refusal}", *opened.info.notes)
    return replace(opened, info=replace(opened.info, notes=notes))


def _probe(path: Path, options: SourceOptions, hardware: HWAccel | None = None) -> OpenedVideo:
    state = state_of(path)
    decoder = VideoDecoder(path, hardware, options)
    try:
        packets, decoded = _read_first(decoder)
        first = on_host(decoded)
        rate, read_once = rate_of(decoder.stream), is_input_pipe(path)
        decided = decide(path, options, first, rate, can_look=not read_once)
        tone = tone_map_of(first) if options.tonemap else None
        options = replace(options, deinterlace=decided.deinterlace, again=True, tonemap=tone is not None)
        copies = _with_covers(decoder.copies, packets)
        info = _describe(decoder, first, copies, decided.line, to_sdr=options.tonemap)
        files = files_of_playlist(path, options.allow_playlist)
        info = replace(info, files=files, reading=options, read_once=read_once, treatment=decided.line)
        info = replace(info, state=state)
        given = FilterInput(info.time_base, rate, fraction(decoder.stream.sample_aspect_ratio) or None)
        filters = filters_of(options, colour.display_matrix(first), tone)
        opened = OpenedVideo(decoder, packets, decoded, info, given, filters)
        opened = _in_form(opened, first) if filters is None else _filtered(opened, filters)
        refuse_hdr(str(path), opened.info.colour.transfer, side_data(first), assume_sdr=options.assume_sdr)
        return opened
    except BaseException:
        decoder.close()
        raise


def _on_host(item: VideoFrame | Packet[Any]) -> VideoFrame | Packet[Any]:
    from av.packet import Packet

    return item if isinstance(item, Packet) else on_host(item)


def _read_first(decoder: VideoDecoder) -> tuple[tuple[Packet[Any], ...], VideoFrame]:
    """The packets before the first frame, and that frame."""
    from av.video.frame import VideoFrame

    packets: list[Packet[Any]] = []
    for item in decoder:
        if isinstance(item, VideoFrame):
            return tuple(packets), item
        packets.append(item)
    damaged = decoder.reading.troubled
    found = f"none of its {damaged} video packets" if damaged else "no frame"
    raise MediaError(
        f"{decoder.path} holds {with_article(decoder.codec)} video stream of which {found} could be decoded, "
        "expected at least one: check that the file is complete"
    )


def _with_covers(copies: tuple[CopiedStream, ...], packets: tuple[Packet[Any], ...]) -> tuple[CopiedStream, ...]:
    """The streams with the bytes of their cover pictures: one packet each, at the very beginning of the file."""
    data = {packet.stream_index: packet for packet in packets}
    return tuple(
        replace(copy, cover=bytes(data[copy.index])) if copy.kind == "cover" and copy.index in data else copy
        for copy in copies
    )


def _filtered(opened: OpenedVideo, filters: FilterChain) -> OpenedVideo:
    """The video as it comes out of its filters. Reads on until the first frame does."""
    from av.video.frame import VideoFrame

    ahead: list[VideoFrame | Packet[Any]] = []
    times: list[tuple[VideoFrame, int | None]] = []

    def frames() -> Iterator[VideoFrame]:
        """Frames with time stamps that only count them."""
        for number, item in enumerate(map(_on_host, chain((opened.first,), opened.decoder))):
            if number:
                ahead.append(item)
            if isinstance(item, VideoFrame):
                if len(times) == _MOST_AHEAD:
                    return
                times.append((item, item.pts))
                item.pts = round((len(times) - 1) / opened.given.rate / opened.given.time_base)
                yield item

    found, info = measure(filters, opened.given, frames()), opened.info
    for frame, pts in times:
        frame.pts = pts
    first, tags = found.first, colour.colour_of(found.first)
    turned = not filters.upright and colour.is_turned(colour.display_matrix(first))
    width, height = (first.height, first.width) if turned else (first.width, first.height)
    changed = replace(
        info,
        width=width,
        height=height,
        frames=None if info.frames is None else max(1, round(info.frames * found.rate / opened.given.rate)),
        rate=found.rate,
        shown_s=info.shown_s if info.reading.vf is None else None,
        time_base=fraction(first.time_base) or info.time_base,
        colour=tags,
        sample_aspect=1 / found.aspect if found.aspect and turned else found.aspect,
        description=f"{info.description}, filtered to {first.format.name} {width}x{height}, {_shown(found.rate)} fps"
        if opened.info.reading.vf is not None
        else info.description,
    )
    return _in_form(replace(opened, info=changed, ahead=tuple(ahead)), first, upright=filters.upright)


def _in_form(opened: OpenedVideo, first: VideoFrame, *, upright: bool = False) -> OpenedVideo:
    """The video with the form and the depth of its pictures. first: a frame as it is to be restored."""
    info, matrix = opened.info, None if upright else colour.display_matrix(first)
    # FFmpeg's decoder of VP9 and VP8 leaves out what WebM stores beside the picture.
    hidden = opened.decoder.stream.metadata.get("alpha_mode") == "1" and not has_alpha(first)
    notes = info.notes
    reading, depth = info.reading, bits_of(first)
    alpha = reading.restores and keeps_alpha(info.path, reading.alpha, first, hidden=hidden)
    notes += (DROPPED,) if (hidden or not is_opaque(first)) and not alpha else ()
    form = RGB16 if reading.restores and depth > 8 else RGB
    if reading.planes:
        form = form_of_frame(first, opened.siting, matrix)
        notes += about_form(first, form)
    return replace(opened, info=replace(info, form=form, bits=depth, alpha=alpha, notes=notes))


def _lost_of_hdr(first: VideoFrame) -> str:
    """The metadata of HDR that is lost, to append to a line; empty if the video has none."""
    found = sorted({HDR_METADATA[kind] for kind in side_data(first) if kind in HDR_METADATA})
    return f"; its {' and '.join(found)} are left out" if found else ""


def _describe(
    decoder: VideoDecoder, first: VideoFrame, copies: tuple[CopiedStream, ...], interlacing: str, *, to_sdr: bool
) -> SourceInfo:
    container, stream = decoder.container, decoder.stream
    rate, tags = rate_of(stream), colour.colour_of(first)
    turned = colour.is_turned(colour.display_matrix(first))
    width, height = (first.height, first.width) if turned else (first.width, first.height)
    aspect = fraction(stream.sample_aspect_ratio)
    if aspect and turned:
        aspect = 1 / aspect
    words = ", ".join(filter(None, (colour.describe_colour(tags), interlacing)))
    shown_size = f"{first.format.name} {width}x{height}"
    return SourceInfo(
        path=decoder.path,
        width=width,
        height=height,
        frames=decoder.shown or stream.frames or _frames_by_time(decoder, rate),
        rate=rate,
        time_base=fraction(stream.time_base) or 1 / rate,
        colour=tags,
        sample_aspect=aspect if aspect and aspect > 0 else None,
        description=f"{stream.name} {shown_size}, {_shown(rate)} fps, {words}",
        notes=_notes(first, container, stream, interlacing, to_sdr=to_sdr),
        metadata=_without(container.metadata, _FILE_TAGS),
        stream_metadata={**stereo_mode(first), **titled(_without(stream.metadata, _STREAM_TAGS))},
        disposition=int(stream.disposition),
        chapters=tuple(_chapters(container.chapters(), decoder.begin)),
        copies=copies,
        left_out=_left_out(container, stream),
        container=container.format.name,
        shown_s=shown_seconds(container, stream),
    )


def _shown(rate: Fraction) -> str:
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")


def rate_of(stream: VideoStream) -> Fraction:
    """Frames per second, on average."""
    claims = [fraction(rate) for rate in (stream.guessed_rate, stream.average_rate, stream.base_rate)]
    rates = [rate for rate in claims if rate is not None and rate > 0]
    usual = next((rate for rate in rates if rate <= _USUAL_RATE), None)
    return usual or _measured_rate(stream, rates) or DEFAULT_RATE


def _measured_rate(stream: VideoStream, claims: Iterable[Fraction]) -> Fraction | None:
    """A rate above the usual ones, if the container knows when its frames are shown, or counts finer than frames."""
    tick = fraction(stream.time_base)
    moments = [entry.timestamp for entry in stream.index_entries if entry.size > 0]
    if tick is not None and len(moments) > _ENOUGH and max(moments) > min(moments):
        return (len(moments) - 1) / ((max(moments) - min(moments)) * tick)
    return next((rate for rate in claims if tick is not None and rate * tick < 1), None)


def _frames_by_time(decoder: VideoDecoder, rate: Fraction) -> int | None:
    """From the length of the video, or else of the file, in which subtitles or sound may last longer."""
    stream, length = decoder.stream, Fraction(decoder.container.duration or 0, CONTAINER_CLOCK)
    tick, end = fraction(stream.time_base), decoder.promise.stream_end
    if end is not None and tick is not None:
        length = end - max(Fraction(0), (stream.start_time or 0) * tick - decoder.start)
    return round(length * rate) if length > 0 else None


def _chapters(chapters: Iterable[Chapter], begin: Fraction) -> Iterator[Mapping[str, Any]]:
    """The chapters on the clock of the pictures, without what lies before its 0. begin: see `VideoDecoder`."""
    for chapter in chapters:
        tick = fraction(chapter["time_base"]) or Fraction(1)
        start, end = (rescale(1, chapter[edge] * tick - begin, tick) for edge in ("start", "end"))
        if end > 0:
            tags = {"time_base": tick, "metadata": readable(chapter["metadata"])}
            yield {**chapter, **tags, "start": max(start, 0), "end": end}


def _without(metadata: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    """The metadata without `names`, also in upper case or with a language suffix, and without muxer statistics."""
    return {
        key: value
        for key, value in readable(metadata).items()
        if key.lower().split("-")[0] not in names and not key.startswith("_STATISTICS")
    }


def _notes(
    first: VideoFrame, container: InputContainer, main: VideoStream, interlacing: str, *, to_sdr: bool
) -> tuple[str, ...]:
    """What will be lost or may look wrong, one line each."""
    return (*about_first(first, interlacing, to_sdr=to_sdr), *_left_out(container, main))


def about_first(first: VideoFrame, interlacing: str, *, to_sdr: bool) -> tuple[str, ...]:
    """What will be lost or may look wrong of frames like this one. interlacing, to_sdr: what is done about them."""
    notes = []
    transfer = int(first.color_trc)
    if transfer in colour.HDR_TRANSFERS:
        name = colour.HDR_TRANSFERS[transfer]
        kept = f"is restored as if it were SDR and keeps its tags{_lost_of_hdr(first)}"
        notes.append(f"HDR input ({name}) {'is converted to SDR' if to_sdr else kept}")
    if first.interlaced_frame and not interlacing:
        notes.append("interlaced input is restored frame by frame and written as progressive: add --deinterlace auto")
    return tuple(notes)


def about_form(first: VideoFrame, form: FrameForm) -> tuple[str, ...]:
    """A line about frames like this one that have to be converted to be restored in this form."""
    if form.format.yuv or colour.is_rgb(first):
        return ()
    return (f"{first.format.name} frames are converted to {form} before they are restored",)


def _left_out(container: InputContainer, main: VideoStream) -> tuple[str, ...]:
    """The streams that no output gets, in a line."""
    others = [s for s in container.streams.video if s.index != main.index and not is_cover(s)]
    unknown = [s for s in container.streams if s.type not in ("video", "audio", "subtitle", "data", "attachment")]
    found = [counted(len(others), "further video stream")] if others else []
    found += [counted(len(unknown), "stream of an unknown type", "streams of an unknown type")] if unknown else []
    count = len(others) + len(unknown)
    return (f"{' and '.join(found)} {'are' if count > 1 else 'is'} left out",) if found else ()
