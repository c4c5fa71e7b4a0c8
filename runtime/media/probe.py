"""Opens a video and decodes its first frame, because only that shows for certain what the file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import MediaError
from . import colour
from .base import DEFAULT_RATE, Colour, CopiedStream, SourceInfo
from .decoder import VideoDecoder, is_cover
from .ffmpeg_log import ffmpeg_errors, first_error
from .nvcodec import nvdec

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_FILE_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
"""Metadata of a container that describes the old file and would be wrong in the new one."""

_STREAM_TAGS = frozenset({"encoder", "rotate", "vendor_id", "bps", "duration", "number_of_frames", "number_of_bytes"})
"""Metadata of a video stream that describes its old encoding."""

_SANE_RATE = 1000
"""Frames per second. A container that claims more gives the frequency of its clock as its frame rate."""


@dataclass(frozen=True)
class OpenedVideo:
    """An open video, and everything known about it before its second frame is decoded.

    decoder       has yielded `packets` and `first`, and continues after them; close it when done
    packets       the packets to copy that lie before the first frame
    first         the first frame, as FFmpeg decodes it
    """

    decoder: VideoDecoder
    packets: tuple[Packet[Any], ...]
    first: VideoFrame
    info: SourceInfo


def open_video(path: Path, gpu: int | None = None) -> OpenedVideo:
    """Open a video. gpu: number of the GPU that decodes it; None for software.

    If the GPU cannot decode it, software does, and `info.notes` says why. Raises `MediaError` if the file is not a
    video, or if none of its frames can be decoded.
    """
    if gpu is None:
        return _probe(path)
    try:
        with ffmpeg_errors() as said:
            opened = _probe(path, nvdec(gpu))
    except (MediaError, OSError) as error:  # if the file is at fault, software decoding will report that
        refusal = first_error(said, error)
    else:
        if opened.decoder.stream.codec_context.pix_fmt == "cuda":
            return opened
        opened.decoder.close()
        refusal = f"NVDEC does not decode this {opened.decoder.stream.name} video"
    opened = _probe(path)
    notes = (f"decoding in software, not on the GPU: {refusal}", *opened.info.notes)
    return replace(opened, info=replace(opened.info, notes=notes))


def _probe(path: Path, hardware: HWAccel | None = None) -> OpenedVideo:
    decoder = VideoDecoder(path, hardware)
    try:
        packets, first = _read_first(decoder)
        return OpenedVideo(decoder, packets, first, _describe(decoder, first, _with_covers(decoder.copies, packets)))
    except BaseException:
        decoder.close()
        raise


def _read_first(decoder: VideoDecoder) -> tuple[tuple[Packet[Any], ...], VideoFrame]:
    """The packets before the first frame, and that frame."""
    from av.video.frame import VideoFrame

    packets: list[Packet[Any]] = []
    for item in decoder:
        if isinstance(item, VideoFrame):
            return tuple(packets), item
        packets.append(item)
    found = f"none of its {decoder.damaged} video packets" if decoder.damaged else "no frame"
    raise MediaError(
        f"{decoder.path} holds a {decoder.stream.name} video stream of which {found} could be decoded, "
        "expected at least one: check that the file is complete"
    )


def _with_covers(copies: tuple[CopiedStream, ...], packets: tuple[Packet[Any], ...]) -> tuple[CopiedStream, ...]:
    """The streams with the bytes of their cover pictures: one packet each, at the very beginning of the file."""
    data = {packet.stream_index: packet for packet in packets}
    return tuple(
        replace(copy, cover=bytes(data[copy.index])) if copy.kind == "cover" and copy.index in data else copy
        for copy in copies
    )


def _describe(decoder: VideoDecoder, first: VideoFrame, copies: tuple[CopiedStream, ...]) -> SourceInfo:
    container, stream = decoder.container, decoder.stream
    rate, tags = _rate(stream), colour.colour_of(first)
    turned = colour.is_turned(colour.display_matrix(first))
    width, height = (first.height, first.width) if turned else (first.width, first.height)
    aspect = stream.sample_aspect_ratio
    if aspect and turned:
        aspect = 1 / aspect
    shown_rate = f"{float(rate):.3f}".rstrip("0").rstrip(".")
    shown_size = f"{first.format.name} {width}x{height}"
    return SourceInfo(
        path=decoder.path,
        width=width,
        height=height,
        frames=stream.frames or _frames_by_time(container, rate),
        rate=rate,
        time_base=stream.time_base or 1 / rate,
        colour=tags,
        sample_aspect=aspect if aspect and aspect > 0 else None,
        description=f"{stream.name} {shown_size}, {shown_rate} fps, {colour.describe_colour(tags)}",
        notes=_notes(first, tags, container, stream),
        metadata=_without(container.metadata, _FILE_TAGS),
        stream_metadata=_without(stream.metadata, _STREAM_TAGS),
        chapters=tuple(container.chapters()),
        copies=copies,
    )


def _rate(stream: VideoStream) -> Fraction:
    for rate in (stream.guessed_rate, stream.average_rate, stream.base_rate):
        if rate is not None and 0 < rate <= _SANE_RATE:
            return Fraction(rate)
    return DEFAULT_RATE


def _frames_by_time(container: InputContainer, rate: Fraction) -> int | None:
    import av

    return round(container.duration * rate / av.time_base) if container.duration else None


def _without(metadata: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    """The metadata without `names`, also in upper case or with a language suffix, and without muxer statistics."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower().split("-")[0] not in names and not key.startswith("_STATISTICS")
    }


def _notes(first: VideoFrame, tags: Colour, container: InputContainer, main: VideoStream) -> tuple[str, ...]:
    """What will be lost or may look wrong, one line each."""
    notes = []
    depth = max(component.bits for component in first.format.components)
    if depth > 8:
        notes.append(f"{depth}-bit input is processed in 8 bits")
    if tags.transfer in colour.HDR_TRANSFERS:
        name = colour.HDR_TRANSFERS[tags.transfer]
        notes.append(f"HDR input ({name}) keeps its tags, but is processed in 8 bits and loses its mastering metadata")
    if first.interlaced_frame:
        notes.append("interlaced input is restored frame by frame and written as progressive: deinterlace it first")
    others = [s for s in container.streams.video if s.index != main.index and not is_cover(s)]
    if others:
        notes.append(f"{len(others)} further video streams are left out")
    if any(component.is_alpha for component in first.format.components):
        notes.append("transparency is dropped")
    return tuple(notes)
