"""Reads a container: the decoded frames of its video, and the packets of the streams that are copied."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ...errors import MediaError, UnreadableInputError
from ...machine import cpu_limit
from ...text import counted
from .base import CopiedStream, Template
from .contents import open_container
from .damage import VIDEO, Reading, damage, shortfall
from .ffmpeg_log import Complaints
from .file_clock import FileClock, Gaps
from .frame_memory import FrameBound
from .holes import Hole
from .pipes import PipeReader, input_name, is_input_pipe
from .promise import CONTAINER_CLOCK, is_cover, promise_of
from .pyav import fraction, refuse_end_without_memory, refuse_without_memory, starts_anywhere
from .shown_lengths import ShownLengths, misplaces_lengths
from .siting import siting_of
from .source_options import SourceOptions
from .timeline import RESET_SECONDS
from .ts_continuity import tear_finder

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

DECODING_ORDER = frozenset({"avi"})
"""Containers that store when frames are decoded, but not when they are shown; FFmpeg guesses `pts`."""


_UNFRAMED = frozenset({"yuv4mpegpipe"})
"""Formats that are nothing but one frame of known size after another."""


class VideoDecoder:
    """One pass over a video file. Iterating yields the frames of `stream` and the packets of `copies`, in file order.

    container   the open file; `close()` releases it
    stream      the video stream to restore
    codec       FFmpeg's name of its codec
    siting      where its chroma lies
    copies      the streams that can be copied
    promise     what the container said about the video when it was opened
    start       when the file begins, in seconds on its own clock: with the first packet of any stream
    reading     what was read so far
    lengths     how long its frames are shown, as far as it was read

    Damaged frames are decoded as well as FFmpeg can, and marked. Iterating raises `MediaError` if the disk fails,
    and `MachineError` if memory is short. A damaged file ends early instead, with a line in `shortfall`.
    """

    def __init__(self, path: Path, hardware: HWAccel | None = None, options: SourceOptions | None = None) -> None:
        """Open `path`. hardware: from `nvdec`; None decodes in software.

        Raises `MediaError` if FFmpeg cannot decode it as a video, `MachineError` if its frames take too much memory.
        """
        self.path, options = Path(input_name(path)), options or SourceOptions()
        self._pipe = PipeReader(path) if is_input_pipe(path) else None
        said: list[str] = []
        self.container = open_container(path, hardware, options, self._pipe, said)
        self._complaints = Complaints(said)
        try:
            self.stream = _main_video(self.container, path)
            keep_damaged_frames(self.stream.codec_context)
            self._bound = FrameBound(path, self.stream.codec_context, again=options.again, on_gpu=hardware is not None)
            self.copies = _streams_to_copy(self.container, self.stream)
            self.promise = promise_of(self.container, self.stream)
            self.siting = siting_of(self.stream)
        except BaseException:
            self.container.close()
            raise
        self.start = Fraction(self.container.start_time or 0, CONTAINER_CLOCK)
        self.codec = str(self.stream.name)  # now: PyAV 19 crashes if it is asked after a codec became unknown
        self.reading = Reading()
        self.lengths = ShownLengths(misplaced=misplaces_lengths(self.container, self.stream))
        kinds = {stream.index: stream.type for stream in self.container.streams}
        torn = None if self._pipe else tear_finder(self.path, self.container.format.name)
        self._clock = FileClock(kinds, self.stream.index, jumps=starts_anywhere(self.container), torn=torn)
        self._names = {index: f"{kind} stream {index}" for index, kind in kinds.items()} | {self.stream.index: VIDEO}
        if self._complaints.count:
            self._clock.holes.trouble_at_open(self.start)
        self._number, self._closed = self.stream.index, False
        self._last, self._decodes = cast(int | None, None), True
        self._reached, self._is_troubled = 0, False
        self._items = self._read()

    def __iter__(self) -> Iterator[VideoFrame | Packet[Any]]:
        return self._items

    @property
    def begin(self) -> Fraction:
        """The moment that becomes 0 in the output, in seconds: when the file begins, or else 0.

        Players skip what lies before 0, and wait for what lies hours later. A wait of up to a second at the beginning
        is kept, unless the clock of the format may start anywhere.
        """
        start = self.start
        return start if starts_anywhere(self.container) or start < 0 or start > RESET_SECONDS else Fraction(0)

    @property
    def jumped(self) -> int:
        """How often the clock of the file jumped so far; see `FileClock`."""
        return self._clock.jumped

    @property
    def pixel_aspect(self) -> Fraction | None:
        """Width : height of the pixels of the frame that came last, as the video itself says; None if it does not."""
        aspect = fraction(self.stream.codec_context.sample_aspect_ratio)
        return aspect if aspect and aspect > 0 else None

    @property
    def in_order(self) -> bool:
        """True if the container stores only when frames are decoded, and each is shown at that moment.

        FFmpeg guesses `pts` then, and for H.264 in AVI it guesses one frame too late.
        """
        return self.container.format.name in DECODING_ORDER and not self.stream.codec_context.has_b_frames

    @property
    def damage(self) -> tuple[str, ...]:
        """What is damaged in the file, as far as it has been read."""
        gaps = {self._names[index]: each.since(self.start) for index, each in self._clock.gaps.items()}
        if holes := self._holes_since(self.start):
            total = Fraction(sum(hole.length for hole in holes))
            if VIDEO not in gaps or gaps[VIDEO].total <= total:
                gaps[VIDEO] = Gaps(len(holes), total, holes[0].begin)
        return damage(self.reading, self._complaints.count, self._complaints.first, gaps)

    @property
    def shortfall(self) -> str | None:
        """What the file promised but did not contain. None if it is complete."""
        return shortfall(self.promise, self.reading, self._number, self._holes_since(self.start))

    @property
    def broken_promise(self) -> str | None:
        """The same without the holes in the video."""
        return shortfall(self.promise, self.reading, self._number)

    @property
    def holes(self) -> tuple[Hole, ...]:
        """Where frames are missing in the middle of the video, in seconds after `begin`."""
        return self._holes_since(self.begin)

    def _holes_since(self, moment: Fraction) -> tuple[Hole, ...]:
        known = self.promise.packets is not None  # an index says which packets there are
        return () if known else tuple(hole.since(moment) for hole in self._clock.holes.holes)

    @property
    def shown(self) -> int | None:
        """How many pictures the file shows, as its index says; None if it has none."""
        if self.promise.packets is None:
            return None
        return self.promise.packets - sum(entry.is_discard for entry in self.stream.index_entries)

    def skip_copies(self) -> None:
        """Read the video only; packets to copy no longer come out."""
        from av.stream import Discard

        for stream in self.container.streams:
            if stream.index != self.stream.index:
                stream.discard = Discard.all

    def skip_video(self) -> None:
        """Read the packets to copy only; frames no longer come out. Those of the video are read for the clock."""
        self._decodes = False

    def seek(self, pts: int) -> bool:
        """Continue at a key frame that is shown at `pts` or before, if the container finds one. False if it cannot.

        pts: in ticks of `stream`. Call it before the first frame is taken. Some containers lead to a later frame.
        """
        import av

        try:
            self.container.seek(pts, stream=self.stream)
        except av.FFmpegError:
            return False
        return True

    def forget_damage(self) -> None:
        """Start to count anew: what was damaged so far is what `seek` left out."""
        self.reading, self._complaints = Reading(packets=1, frames=1), Complaints()

    def video_packets(self) -> Iterator[Packet[Any]]:
        """The packets of the video, without decoding any, to the end of the file. Instead of iterating."""
        self._decodes = False
        shown: list[int] = []
        for packet in self._packets():
            if packet is not None:
                self._note(packet)
                if packet.stream_index == self.stream.index:
                    shown += [] if packet.pts is None or packet.is_discard else [packet.pts]
                    yield packet
        tick = fraction(self.stream.time_base)
        if tick is not None:
            shown.sort()
            self.reading.longest = max((after - before for before, after in pairwise(shown)), default=0) * tick
        self._check_end()

    def _read(self) -> Generator[VideoFrame | Packet[Any], None, None]:
        for packet in self._packets():
            if packet is not None:
                self._note(packet)
            if packet is None or packet.stream_index == self.stream.index:
                if self._decodes:
                    yield from map(self._noted, self._decode(packet))  # keeps no frame while the next one is decoded
            else:
                yield packet
        self._check_end()

    def _check_end(self) -> None:
        """The file has ended. Frames that were not decoded are taken to be as many as packets."""
        if not self._decodes:
            self.reading.frames = self.reading.packets - self.reading.hidden
        if not self.reading.frames or self.shortfall is not None:
            refuse_end_without_memory(self.path)

    def _packets(self) -> Iterator[Packet[Any] | None]:
        """All packets to decode or copy, then None, which flushes the decoder."""
        import av

        wanted = [self.stream, *(copy.template.stream for copy in self.copies if copy.kind != "attachment")]
        packets = self.container.demux(wanted)
        while True:
            try:
                before = self._complaints.count
                with self._complaints.listening():
                    packet = next(packets, None)
            except IndexError:  # at the end, PyAV fails over streams that appeared on the way, as in a damaged file
                break
            except MemoryError as error:
                refuse_without_memory(error, self.path)
                self.reading.ended = str(getattr(error, "strerror", None) or error)
                break
            except OSError as error:
                raise UnreadableInputError(
                    f"reading {self.path} failed after {counted(self.reading.frames, 'frame')}: {error.strerror}; "
                    "check the disk or the network"
                ) from error
            except av.FFmpegError as error:
                self.reading.ended = str(error.strerror)
                break
            if packet is None:
                break
            if self._complaints.count > before or (packet.is_corrupt and packet.stream_index == self._number):
                self._clock.holes.trouble()
            if packet.size:  # PyAV marks the end of a stream with an empty packet
                yield from self._clock.place(packet, packet.stream_index)
        yield from self._clock.rest()
        self._note_end()
        yield None

    def _note_end(self) -> None:
        """Note a last frame that is cut off, where FFmpeg leaves it out without a word."""
        size = self.container.size or 0  # unknown: negative in PyAV 18, None in PyAV 19
        if size <= 0 and self._pipe:
            size = self._pipe.count
        if self.reading.ended is not None:
            return
        if self.container.format.name in _UNFRAMED and size > self._reached > 0:
            self.reading.ended = f"{size - self._reached} bytes follow that are no whole frame"
        elif self._pipe and self._is_troubled:  # no header says what should have come
            self.reading.ended = "its last packet is damaged or cut off"

    def _note(self, packet: Packet[Any]) -> None:
        """Count a packet, and remember the latest end of any."""
        reading, own = self.reading, packet.stream_index == self._number
        self._reached = (packet.pos or 0) + packet.size
        reading.broken += packet.is_corrupt
        reading.packets += own
        reading.hidden += own and packet.is_discard
        if own:
            self.lengths.note(packet.pts, packet.dts, packet.duration)
        tick = fraction(packet.time_base)
        if packet.pts is not None and tick is not None:
            reading.reaches(packet.stream_index, (packet.pts + (packet.duration or 0)) * tick - self.start)

    def _noted(self, frame: VideoFrame) -> VideoFrame:
        """The frame, counted."""
        self._bound.check(frame)
        reading = self.reading
        reading.frames += 1
        reading.concealed += frame.is_corrupt
        tick = fraction(frame.time_base)
        if frame.pts is not None and tick is not None:
            if self._last is not None:
                reading.longest = max(reading.longest, (frame.pts - self._last) * tick)
            self._last = frame.pts
        return frame

    def _decode(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        """The frames that a packet completes. Counts a packet that the decoder refuses or complains about."""
        import av

        before, refused, frames = self._complaints.count, False, []
        try:
            with self._complaints.listening():
                frames = self.stream.codec_context.decode(packet)
        except av.EOFError:
            pass
        except (av.FFmpegError, MemoryError, ValueError) as error:  # PyAV 19: ValueError if the decoder did not open
            refuse_without_memory(error, self.path)
            refused = True
        if packet is not None:
            self._is_troubled = refused or self._complaints.count > before
        if self._is_troubled or any(frame.is_corrupt for frame in frames):
            self._clock.holes.trouble()
        if packet is not None and self._is_troubled:
            reading = self.reading
            reading.troubled += 1
            if not reading.frames and not frames:
                reading.early += 1
            else:
                reading.refused += refused
        return frames

    def close(self) -> None:
        """Release the file and the decoder's frames. Raises `ValueError` if another thread is iterating."""
        if self._closed:
            return
        self._items.close()
        # Wait here for the decoder's threads, without the interpreter's lock. PyAV holds the lock while it frees the
        # decoder, and a decoder thread that waits for the lock then hangs the process (4 of 42 runs under load).
        if self.stream.codec_context.is_open:  # FFmpeg crashes on one that never opened
            self.stream.codec_context.flush_buffers()
        self.container.close()
        self._closed = True
        for copy in self.copies:  # PyAV frees a decoder, with up to 17 frames, once no stream of the file is in use
            copy.template.let_go()
        del self.stream, self.container


def keep_damaged_frames(context: VideoCodecContext) -> None:
    """Keep and mark damaged frames, and decode every packet before the next one is read.

    With frame threads, FFmpeg reports an error several packets late, and PyAV drops what the decoder still holds when
    that happens at the end; how many frames come out then depends on the number of threads. With slice threads, H.264
    conceals nothing. One thread per stream also needs memory for the fewest frames.
    """
    from av.codec.context import Flags

    context.thread_count = 1
    context.flags |= int(Flags.output_corrupt)
    if context.codec.name == "libdav1d":  # it may use threads: with this it returns every frame at once
        context.thread_count = cpu_limit() or 0  # 0: as many as there are CPUs
        context.options = {**context.options, "max_frame_delay": "1"}


def _main_video(container: InputContainer, path: Path) -> VideoStream:
    """The video stream to restore: the one that FFmpeg would choose, but never a cover picture."""
    streams = [stream for stream in container.streams.video if not is_cover(stream)]
    if not streams:
        kinds = ", ".join(sorted({"a cover picture" if is_cover(s) else s.type for s in container.streams}))
        raise MediaError(f"{path} has no video stream (it holds: {kinds or 'nothing'}), expected a video")
    best = container.streams.best("video")
    stream = next((stream for stream in streams if best is not None and stream.index == best.index), streams[0])
    if stream.codec_context is None:
        raise MediaError(f"{path} holds video that this FFmpeg cannot decode: convert it to H.264 or FFV1 first")
    return stream


_ADDRESSES = "dvd_nav_packet"
"""A stream of DVDs that says where in the old file something lies. Nobody misses it."""


def _streams_to_copy(container: InputContainer, main: VideoStream) -> tuple[CopiedStream, ...]:
    """All streams but the videos and the titles of chapters. Tells FFmpeg to skip the packets of other videos."""
    from av.stream import Discard

    copies = []
    for stream in container.streams:
        cover = stream.type == "video" and is_cover(stream)
        if stream.type == "data" and stream.discard == Discard.all:
            continue  # QuickTime's track of titles: FFmpeg has read the chapters, and muxers write a new one
        if _codec_name(stream) == _ADDRESSES:
            continue
        if stream.type in ("audio", "subtitle", "data", "attachment") or cover:
            copies.append(
                CopiedStream(stream.index, "cover" if cover else stream.type, _codec_name(stream), Template(stream))
            )
        elif stream.index != main.index:
            stream.discard = Discard.all
    return tuple(copies)


def _codec_name(stream: Any) -> str:
    context = stream.codec_context
    return str(getattr(stream, "name", None) or "unknown codec" if context is None else context.codec.canonical_name)
