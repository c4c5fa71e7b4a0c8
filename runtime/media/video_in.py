"""A video file as a source: decoded pictures, upright and in RGB, and between them the packets to copy."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from swiftvr_trt.errors import MediaError

from . import colour
from .base import DEFAULT_RATE, CopiedStream, Item, Passenger, Picture, SourceInfo, Stamp
from .hardware import nvdec, overheard, reason
from .timeline import Timeline

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_NOT_FOR_COPIES = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
"""What describes the old file and would be wrong in the new one."""

_NOT_FOR_RESTORED = frozenset(
    {"encoder", "rotate", "vendor_id", "bps", "duration", "number_of_frames", "number_of_bytes"}
)
"""What describes the old encoding of the video."""

_DECODING_ORDER = frozenset({"avi"})
"""Containers that say when frames are decoded, but not when they are shown."""

_CONTAINER_CLOCK = 1_000_000
"""Ticks per second in which FFmpeg gives the start and the duration of a container."""

_SANE_RATE = 1000
"""Rates above are clock frequencies that a container mistakes for a frame rate."""


class VideoSource:
    """Decodes the one video stream that a player would show. See `base.Source`."""

    def __init__(self, path: Path, threads: int = 0, gpu: int | None = None) -> None:
        self._path = path
        self._gpu_note = ""
        if gpu is not None:
            self._gpu_note = self._begin_on_gpu(threads, gpu)
            if not self._gpu_note:
                return
        self._begin(threads)

    def _begin_on_gpu(self, threads: int, gpu: int) -> str:
        """Open the file with NVDEC; empty, or the reason why that cannot be."""
        try:
            with overheard() as said:
                self._begin(threads, nvdec(gpu))
        except (MediaError, OSError) as error:  # should the file be to blame, software will say so
            return reason(error, said)
        if self._stream.codec_context.pix_fmt != "cuda":
            self.close()
            return f"NVDEC does not decode this {self._stream.name} video"
        return ""

    def _begin(self, threads: int, hardware: HWAccel | None = None) -> None:
        self._container = _open(self._path, hardware)
        try:
            self._stream = _shown_stream(self._container, self._path)
            self._start(threads)
        except BaseException:
            self._container.close()
            raise

    def _start(self, threads: int) -> None:
        """Decode up to the first picture: what a file holds is certain only then."""
        from av.video.reformatter import VideoReformatter

        stream = self._stream
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        self._copies = _copies(self._container, stream)
        self._rate = _rate(stream)
        self._time_base = stream.time_base or 1 / self._rate
        self._timeline = Timeline(self._time_base, self._rate)
        self._clocks = {copy.index: _PacketClock() for copy in self._copies}
        self._reformatter = VideoReformatter()
        self._count = self._damaged = self._concealed = 0
        self._reached = 0.0
        self._late_notes: list[str] = []
        self._ahead: deque[Item] = deque()
        self._shape: tuple[int, int] | None = None
        self._lead: int | None = None
        self._run = self._items()
        first = self._read_first()
        self.info = self._describe(first)
        del self._first

    def _read_first(self) -> Picture:
        for item in self._run:
            if isinstance(item, Passenger):
                self._keep_cover(item)
            self._ahead.append(item)
            if isinstance(item, Picture):
                return item
        found = f"none of its {self._damaged} video packets" if self._damaged else "no picture"
        raise MediaError(
            f"{self._path} holds a {self._stream.name} video stream of which {found} could be decoded, "
            "expected at least one: check that the file is complete"
        )

    def _keep_cover(self, item: Passenger) -> None:
        """A cover picture is one packet at the very beginning; some containers want it in their header."""
        self._copies = tuple(
            replace(copy, cover=bytes(item.packet)) if copy.index == item.stream and copy.kind == "cover" else copy
            for copy in self._copies
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of this file. Complete when the last picture was taken."""
        return (*self.info.notes, *self._late_notes)

    @property
    def shortfall(self) -> str | None:
        """What the file promises and does not hold: frames, or time in which nothing more comes in any stream."""
        promised, container = self._stream.frames, self._container
        if self._count < promised * 0.98 - 2:
            return f"the input promises {promised} frames, but only {self._count} could be read"
        lasts = (container.duration or 0) / _CONTAINER_CLOCK
        if self._reached < lasts * 0.95 - 0.5:
            return f"the input promises {lasts:.1f} s, but ends after {max(self._reached, 0):.1f} s"
        return None

    def __iter__(self) -> Iterator[Item]:
        while self._ahead:
            yield self._ahead.popleft()
        yield from self._run
        self._sum_up()

    def _items(self) -> Generator[Item, None, None]:
        for packet in self._packets():
            if packet is None or packet.stream_index == self._stream.index:
                for frame in self._decode(packet):
                    yield self._picture(frame)
            elif packet.size:
                self._clocks[packet.stream_index].place(packet)
                yield Passenger(packet.stream_index, packet)

    def _packets(self) -> Iterator[Packet[Any] | None]:
        """All packets to decode or to copy, then None to flush the decoder."""
        import av

        wanted = [self._stream, *(copy.template for copy in self._copies if copy.kind != "attachment")]
        try:
            for packet in self._container.demux(wanted):
                if packet.size:  # an empty one is PyAV's sign of the end of a stream
                    self._reach(packet)
                    yield packet
        except OSError as error:
            raise MediaError(
                f"reading {self._path} failed after {self._count} frames: {error.strerror}; "
                "check the disk or the network"
            ) from error
        except av.FFmpegError as error:
            self._late_notes.append(f"the file is damaged and ends early, after {self._count} frames: {error.strerror}")
        yield None

    def _reach(self, packet: Packet[Any]) -> None:
        """Note how far into the file, in seconds, anything was found."""
        if packet.pts is not None and packet.time_base is not None:
            begin = (self._container.start_time or 0) / _CONTAINER_CLOCK
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self._reached = max(self._reached, end - begin)

    def _decode(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        """The frames that come out for a packet. A damaged packet is skipped and counted, as FFmpeg does."""
        import av

        try:
            return self._stream.codec_context.decode(packet)
        except av.EOFError:
            return []
        except av.FFmpegError:
            self._damaged += 1
            return []

    def _picture(self, frame: VideoFrame) -> Picture:
        index = self._count
        shape = frame.width, frame.height
        if self._shape is None:
            self._shape, self._first = shape, frame
        elif shape != self._shape:
            raise MediaError(
                f"frame {index} of {self._path} is {shape[0]}x{shape[1]}, expected {self._shape[0]}x{self._shape[1]} "
                "as before: cut the file there and restore the parts one by one"
            )
        self._count += 1
        self._concealed += frame.is_corrupt
        pts, duration = self._timeline.place(self._moment(frame), frame.duration)
        pixels = colour.upright(colour.to_rgb(frame, self._reformatter), colour.display_matrix(frame))
        return Picture(pixels, Stamp(index, pts, duration, self._time_base))

    def _moment(self, frame: VideoFrame) -> int | None:
        """When the frame is shown. AVI counts frames in decoding order, and guesses from that are out of order."""
        if self._container.format.name not in _DECODING_ORDER:
            return frame.pts
        if frame.dts is None:  # one of the last, when no packets follow: one step behind the frame before
            return None if self._count > 1 else frame.pts
        if self._lead is None:
            self._lead = 0 if frame.pts is None else frame.dts - frame.pts
        return frame.dts - self._lead

    def _describe(self, first: Picture) -> SourceInfo:
        frame, stream = self._first, self._stream
        height, width = first.pixels.shape[:2]
        tags = colour.colour_of(frame)
        aspect = stream.sample_aspect_ratio
        if aspect and colour.is_turned(colour.display_matrix(frame)):
            aspect = 1 / aspect
        rate = f"{float(self._rate):.3f}".rstrip("0").rstrip(".")
        return SourceInfo(
            path=self._path,
            width=width,
            height=height,
            frames=stream.frames or _frames_by_time(self._container, self._rate),
            rate=self._rate,
            time_base=self._time_base,
            colour=tags,
            sample_aspect=aspect if aspect and aspect > 0 else None,
            description=f"{stream.name} {frame.format.name} {width}x{height}, {rate} fps, {colour.describe(tags)}",
            notes=(*self._gpu_notes(), *_notes(frame, tags, self._container, stream)),
            metadata=_without(self._container.metadata, _NOT_FOR_COPIES),
            stream_metadata=_without(stream.metadata, _NOT_FOR_RESTORED),
            chapters=tuple(self._container.chapters()),
            copies=self._copies,
        )

    def _gpu_notes(self) -> tuple[str, ...]:
        return (f"decoding in software, not on the GPU: {self._gpu_note}",) if self._gpu_note else ()

    def _sum_up(self) -> None:
        """Say what was wrong with the file, now that all of it was read."""
        if self._damaged:
            self._late_notes.append(f"{self._damaged} damaged video packets were skipped")
        if self._concealed:
            self._late_notes.append(f"{self._concealed} frames are damaged in the input and were restored as they are")
        if self._timeline.repaired:
            self._late_notes.append(f"{self._timeline.repaired} time stamps did not advance and were moved")

    def close(self) -> None:
        """Release the file. A thread that still waits in it keeps it open until it is done."""
        with suppress(ValueError):  # "generator already executing"
            self._run.close()
            # Frames that decoding threads still work on are waited for here, without the interpreter's lock. PyAV holds
            # it while it frees the decoder, which hung 4 of 42 runs under load, with a thread that waited for the lock.
            self._stream.codec_context.flush_buffers()
            self._container.close()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _PacketClock:
    """Lets the packets of a copied stream go on where they stopped when the clock of the file was restarted."""

    def __init__(self) -> None:
        self._shift = 0
        self._next: int | None = None

    def place(self, packet: Packet[Any]) -> None:
        if packet.dts is None:
            return
        if self._next is not None and (packet.dts + self._shift - self._next) * packet.time_base < -1:
            self._shift = self._next - packet.dts
        if self._shift:
            packet.pts = None if packet.pts is None else packet.pts + self._shift
            packet.dts += self._shift
        self._next = packet.dts + (packet.duration or 0)


def _open(path: Path, hardware: HWAccel | None) -> InputContainer:
    import av

    if not path.is_file():
        raise MediaError(f"the input {path} does not exist or is no file, expected a video or a folder of images")
    if path.stat().st_size == 0:
        raise MediaError(f"the input {path} is empty (0 bytes), expected a video: check how it was copied")
    try:
        # "file:" keeps FFmpeg from taking a name with a colon for an address.
        return av.open(f"file:{path}", metadata_errors="replace", hwaccel=hardware)
    except av.FFmpegError as error:
        raise MediaError(
            f"{path} cannot be read as a video ({error.strerror}): check that it is one and that it is complete"
        ) from error


def _shown_stream(container: InputContainer, path: Path) -> VideoStream:
    """The video stream to restore: the one that FFmpeg thinks best, and never a cover picture."""
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        kinds = ", ".join(sorted({"a cover picture" if _is_cover(s) else s.type for s in container.streams}))
        raise MediaError(f"{path} has no video stream (it holds: {kinds or 'nothing'}), expected a video")
    best = container.streams.best("video")
    stream = next((stream for stream in streams if best is not None and stream.index == best.index), streams[0])
    if stream.codec_context is None:
        raise MediaError(f"{path} holds video that this FFmpeg cannot decode: convert it to H.264 or FFV1 first")
    return stream


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _copies(container: InputContainer, shown: VideoStream) -> tuple[CopiedStream, ...]:
    """Everything but the restored video and other video. Those are thrown away before they are read."""
    from av.stream import Discard

    copies = []
    for stream in container.streams:
        cover = stream.type == "video" and _is_cover(stream)
        if stream.type in ("audio", "subtitle", "data", "attachment") or cover:
            copies.append(CopiedStream(stream.index, "cover" if cover else stream.type, _codec_name(stream), stream))
        elif stream.index != shown.index:
            stream.discard = Discard.all
    return tuple(copies)


def _codec_name(stream: Any) -> str:
    context = stream.codec_context
    if context is not None:
        return str(context.codec.canonical_name)
    return str(getattr(stream, "name", None) or "unknown codec")


def _rate(stream: VideoStream) -> Fraction:
    for rate in (stream.guessed_rate, stream.average_rate, stream.base_rate):
        if rate is not None and 0 < rate <= _SANE_RATE:
            return Fraction(rate)
    return DEFAULT_RATE


def _frames_by_time(container: InputContainer, rate: Fraction) -> int | None:
    import av

    return round(container.duration * rate / av.time_base) if container.duration else None


def _without(metadata: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    """The entries whose name, in lower case and without a language suffix, is not among `names`."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower().split("-")[0] not in names and not key.startswith("_STATISTICS")
    }


def _notes(frame: VideoFrame, tags: Any, container: InputContainer, shown: VideoStream) -> tuple[str, ...]:
    notes = []
    depth = max(component.bits for component in frame.format.components)
    if depth > 8:
        notes.append(f"{depth}-bit input is processed in 8 bits")
    if tags.transfer in (colour.PQ, colour.HLG):
        name = "PQ" if tags.transfer == colour.PQ else "HLG"
        notes.append(f"HDR input ({name}) keeps its tags, but is processed in 8 bits and loses its mastering metadata")
    if frame.interlaced_frame:
        notes.append("interlaced input is restored frame by frame and written as progressive: deinterlace it first")
    others = [s for s in container.streams.video if s.index != shown.index and not _is_cover(s)]
    if others:
        notes.append(f"{len(others)} further video streams are left out")
    if any(component.is_alpha for component in frame.format.components):
        notes.append("transparency is dropped")
    return tuple(notes)
