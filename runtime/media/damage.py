"""Judges a video by what its container knows and what was read of it: what is missing, and what is damaged. Pure.

What is *missing* makes the output incomplete: pictures that could not be decoded, packets that the index of the file
lists, seconds that its header promises. What is *damaged* is there, but not as it was: FFmpeg conceals it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from ...text import counted
from .file_clock import Gaps
from .holes import Hole, hole_line

VIDEO = "the video"
"""What messages call it."""

_ROUNDING = Fraction(1, 100)
"""Seconds by which a duration in a header may exceed the end of the last packet: containers round both."""

_SOUND_PADDING = Fraction(1, 5)
"""Seconds of silence that an audio encoder adds at both ends, and that headers count or do not."""


@dataclass(frozen=True)
class Promise:
    """What a container says about its video before it is read. None if it says nothing.

    packets     that its index lists for the video stream
    stream_end  when the video stream ends, in seconds
    file_end    when the last of the streams ends that are read, in seconds
    sound_ends  when each copied audio stream ends, in seconds, by its number
    """

    packets: int | None = None
    stream_end: Fraction | None = None
    file_end: Fraction | None = None
    sound_ends: Mapping[int, Fraction] = field(default_factory=dict)


@dataclass
class Reading:
    """What was read of a video so far.

    packets     of the video stream; `hidden` of them are not shown, as its edit list says
    frames      decoded
    early       packets before the first frame that could not be decoded: the file begins between two key frames
    refused     later packets that the decoder refused
    troubled    packets, refused or not, about which FFmpeg logged an error while decoding
    concealed   frames that the decoder marked as damaged
    broken      packets of any stream that the demuxer marked as damaged
    ended       why reading ended before the end of the file; None if it did not
    ends        the latest end of a packet of each stream that is read, in seconds, by the number of the stream
    longest     the longest time from one frame to the next, in seconds
    """

    packets: int = 0
    hidden: int = 0
    frames: int = 0
    early: int = 0
    refused: int = 0
    troubled: int = 0
    concealed: int = 0
    broken: int = 0
    ended: str | None = None
    ends: dict[int, Fraction] = field(default_factory=dict)
    longest: Fraction = Fraction(0)

    def reaches(self, stream: int, end: Fraction) -> None:
        """A packet of this stream ends then."""
        self.ends[stream] = max(self.ends.get(stream, end), end)

    @property
    def lost(self) -> int:
        """Packets without a picture that should have had one.

        A decoder may also log an error and show nothing, without refusing the packet. Not every packet has a picture
        of its own, so those count only as far as pictures are missing.
        """
        silent = self.packets - self.hidden - self.frames - self.early - self.refused
        return self.refused + max(0, min(self.troubled - self.early - self.refused, silent))


def shortfall(promise: Promise, reading: Reading, video: int, holes: tuple[Hole, ...] = ()) -> str | None:
    """What the file promised but did not contain, in one line. None if it is complete.

    video: number of its stream. holes: in the video.
    """
    return in_one_line(*_missing(promise, reading, video), hole_line(holes))


def part_line(promised: int, found: int, lost: int) -> str | None:
    """What a part of a video lacks within, in one line. None if nothing is missing there.

    promised: frames by the packets in it. found: those that were read. lost: in all that was read of the video, which
    may be more than the part.
    """
    missing = min(promised - found, lost)
    if missing <= 0:
        return None
    return f"this part of the input promises {counted(found + missing, 'frame')}, but only {found} could be read"


def in_one_line(*lines: str | None) -> str | None:
    """What is missing, in one line. None if nothing is."""
    return "; ".join(line for line in lines if line) or None


def _missing(promise: Promise, reading: Reading, video: int) -> Iterator[str]:
    frames, reached = reading.frames, reading.ends.get(video)
    absent = max(0, (promise.packets or 0) - reading.packets)
    last = max(reading.ends.values(), default=None)
    if absent or reading.lost:
        promised = frames + absent + reading.lost
        yield f"the input promises {counted(promised, 'frame')}, but only {frames} could be read"
    elif _is_early(promise.stream_end, reached, reading.longest):
        yield _too_short("the input", promise.stream_end, reached)
    elif _is_early(promise.file_end, last, reading.longest):
        yield _too_short("the input", promise.file_end, last)
    for stream, end in promise.sound_ends.items():
        if _is_early(end, reading.ends.get(stream, Fraction(0)), _SOUND_PADDING):
            yield _too_short(f"audio stream {stream}", end, reading.ends.get(stream))
    if reading.ended is not None:
        yield f"the file is damaged and ends early, after {counted(frames, 'frame')}: {reading.ended}"


def _is_early(promised: Fraction | None, reached: Fraction | None, slack: Fraction) -> bool:
    """slack: of a video, its longest frame. The last may take as long, which many containers do not store."""
    return promised is not None and reached is not None and promised > reached + slack + _ROUNDING


def _too_short(what: str, promised: Fraction | None, reached: Fraction | None) -> str:
    due, end = float(promised or 0), max(float(reached or 0), 0.0)
    digits = 1 if due - end >= 0.1 else 3
    return f"{what} promises {due:.{digits}f} s, but ends after {end:.{digits}f} s"


def damage(
    reading: Reading, complaints: int, first: str | None, gaps: Mapping[str, Gaps] | None = None
) -> tuple[str, ...]:
    """What is damaged in the file, one line each. complaints: errors that FFmpeg logged; first: the first of them.

    gaps: in the video and in the sound, by their names. A video may pause, so its gaps count only beside other damage.
    """
    lines = []
    if reading.early:
        lines.append(
            f"the input begins with {counted(reading.early, 'video packet')} that could not be decoded: left out"
        )
    if reading.lost:
        lines.append(counted(reading.lost, "damaged video packet was skipped", "damaged video packets were skipped"))
    if shown := max(reading.concealed, reading.troubled - reading.early - reading.lost):
        lines.append(
            counted(
                shown,
                "frame is damaged in the input and was restored as it is",
                "frames are damaged in the input and were restored as they are",
            )
        )
    if reading.broken:
        lines.append(f"the container marks {counted(reading.broken, 'packet')} of the input as damaged")
    if complaints:
        lines.append(f"errors that FFmpeg reported while reading the input: {complaints}, the first: {first}")
    missing = dict(gaps or {})
    if not lines and missing.keys() == {VIDEO}:
        return ()
    lines += [_gap_line(name, each) for name, each in missing.items()]
    return tuple(lines)


def _gap_line(name: str, gaps: Gaps) -> str:
    length = _seconds(gaps.total)
    where = f"at {_seconds(gaps.first)}"
    if gaps.count == 1:
        return f"{length} of {name} are missing in the input, {where}"
    return f"{length} of {name} are missing in the input, in {gaps.count} places, the first {where}"


def _seconds(seconds: Fraction) -> str:
    return f"{float(seconds):.2f} s"
