"""Reads a container: the decoded frames of its video, and the packets of the streams that are copied."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import MediaError
from .base import CopiedStream

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_CONTAINER_CLOCK = 1_000_000
"""Ticks per second of the start and the duration that FFmpeg gives for a container."""


class VideoDecoder:
    """One pass over a video file. Iterating yields the frames of `stream` and the packets of `copies`, in file order.

    container   the open file; `close()` releases it
    stream      the video stream to restore
    copies      the streams that can be copied
    damaged     number of video packets that could not be decoded so far

    Iterating raises `MediaError` if the disk fails. A damaged file ends early instead, with a line in `notes`.
    """

    def __init__(self, path: Path, hardware: HWAccel | None = None) -> None:
        """Open `path`. hardware: from `nvdec`; None decodes in software, with a thread per core.

        Raises `MediaError` if FFmpeg cannot decode it as a video.
        """
        self.path = path
        self.container = _open(path, hardware)
        try:
            self.stream = _main_video(self.container, path)
            self.stream.thread_type = "AUTO"
            self.stream.codec_context.thread_count = 0  # one per core
            self.copies = _streams_to_copy(self.container, self.stream)
        except BaseException:
            self.container.close()
            raise
        self.damaged = 0
        self._frames = 0
        self._ended_early: tuple[str, ...] = ()
        self._reached_s = 0.0
        self._items = self._read()

    def __iter__(self) -> Iterator[VideoFrame | Packet[Any]]:
        return self._items

    @property
    def notes(self) -> tuple[str, ...]:
        """What is wrong with the file, as far as it has been read."""
        damaged = (f"{self.damaged} damaged video packets were skipped",) if self.damaged else ()
        return (*self._ended_early, *damaged)

    @property
    def shortfall(self) -> str | None:
        """What the file promised but did not contain: frames, or seconds that no stream reaches. None if complete."""
        promised, lasts_s = self.stream.frames, (self.container.duration or 0) / _CONTAINER_CLOCK
        if self._frames < promised * 0.98 - 2:
            return f"the input promises {promised} frames, but only {self._frames} could be read"
        if self._reached_s < lasts_s * 0.95 - 0.5:
            return f"the input promises {lasts_s:.1f} s, but ends after {max(self._reached_s, 0):.1f} s"
        return None

    def _read(self) -> Generator[VideoFrame | Packet[Any], None, None]:
        for packet in self._packets():
            if packet is None or packet.stream_index == self.stream.index:
                for frame in self._decode(packet):
                    self._frames += 1
                    yield frame
            else:
                yield packet

    def _packets(self) -> Iterator[Packet[Any] | None]:
        """All packets to decode or copy, then None, which flushes the decoder."""
        import av

        wanted = [self.stream, *(copy.template for copy in self.copies if copy.kind != "attachment")]
        try:
            for packet in self.container.demux(wanted):
                if packet.size:  # PyAV marks the end of a stream with an empty packet
                    self._note_position(packet)
                    yield packet
        except OSError as error:
            raise MediaError(
                f"reading {self.path} failed after {self._frames} frames: {error.strerror}; "
                "check the disk or the network"
            ) from error
        except av.FFmpegError as error:
            self._ended_early = (f"the file is damaged and ends early, after {self._frames} frames: {error.strerror}",)
        yield None

    def _note_position(self, packet: Packet[Any]) -> None:
        """Remember the latest time, in seconds from the start, of any packet."""
        if packet.pts is not None and packet.time_base is not None:
            begin = (self.container.start_time or 0) / _CONTAINER_CLOCK
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self._reached_s = max(self._reached_s, end - begin)

    def _decode(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        """The frames that a packet completes. Like FFmpeg, skips a damaged packet and counts it."""
        import av

        try:
            return self.stream.codec_context.decode(packet)
        except av.EOFError:
            return []
        except av.FFmpegError:
            self.damaged += 1
            return []

    def close(self) -> None:
        """Release the file. Raises `ValueError` if another thread is iterating."""
        self._items.close()
        # Wait here for the decoder's threads, without the interpreter's lock. PyAV holds the lock while it frees the
        # decoder, and a decoder thread that waits for the lock then hangs the process (4 of 42 runs under load).
        self.stream.codec_context.flush_buffers()
        self.container.close()


def is_cover(stream: Any) -> bool:
    """True if the stream is an attached picture, not video."""
    from av.stream import Disposition

    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _open(path: Path, hardware: HWAccel | None) -> InputContainer:
    import av

    if not path.is_file():
        raise MediaError(f"the input {path} does not exist or is not a file, expected a video or a folder of images")
    if path.stat().st_size == 0:
        raise MediaError(f"the input {path} is empty (0 bytes), expected a video: copy it again")
    try:
        # Without "file:", FFmpeg takes a name with a colon for a URL.
        return av.open(f"file:{path}", metadata_errors="replace", hwaccel=hardware)
    except av.FFmpegError as error:
        raise MediaError(
            f"{path} cannot be read as a video ({error.strerror}): check that it is a video and that it is complete"
        ) from error


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


def _streams_to_copy(container: InputContainer, main: VideoStream) -> tuple[CopiedStream, ...]:
    """All streams but the videos. Tells FFmpeg to skip the packets of other videos."""
    from av.stream import Discard

    copies = []
    for stream in container.streams:
        cover = stream.type == "video" and is_cover(stream)
        if stream.type in ("audio", "subtitle", "data", "attachment") or cover:
            copies.append(CopiedStream(stream.index, "cover" if cover else stream.type, _codec_name(stream), stream))
        elif stream.index != main.index:
            stream.discard = Discard.all
    return tuple(copies)


def _codec_name(stream: Any) -> str:
    context = stream.codec_context
    if context is not None:
        return str(context.codec.canonical_name)
    return str(getattr(stream, "name", None) or "unknown codec")
