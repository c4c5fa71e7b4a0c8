"""The latency that a user chooses: what it means for the clip length, for queues, and for frames that come late."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ....errors import MisuseError
from ....text import parse_seconds
from ...stream.chunks import LEAD

_SHORTEST_CLIP, _LONGEST_CLIP, _STEP = 8, 24, 4
_NAMED = {"low": (_SHORTEST_CLIP, Fraction(1, 2)), "normal": (_LONGEST_CLIP, Fraction(2))}
"""Clip length, and how long a frame may wait for its turn, by name."""


@dataclass(frozen=True)
class Latency:
    """A latency as it was asked for.

    seconds: the most from the arrival of a frame until its turn to be restored comes; None for one with a name. How
    long restoring and encoding take comes on top.
    """

    name: str
    seconds: Fraction | None = None

    @classmethod
    def parse(cls, text: str) -> Latency:
        """From `low`, `normal`, or seconds such as 1.5 or 800ms. Raises `MisuseError`."""
        name = text.strip().lower()
        if name in _NAMED:
            return cls(name)
        try:
            seconds = parse_seconds(text)
        except ValueError:
            seconds = Fraction(0)
        if not Fraction(1, 10) <= seconds <= 60:
            raise MisuseError(f"--latency is {text!r}, expected low, normal, or seconds from 0.1 to 60, e.g. 1.5")
        return cls(name, seconds)

    def clip_len(self, rate: Fraction) -> int:
        """Frames to restore together at this frame rate: as many as fill half of the latency, 8 to 24."""
        if self.seconds is None:
            return _NAMED[self.name][0]
        lengths = range(_LONGEST_CLIP, _SHORTEST_CLIP, -_STEP)
        return next((each for each in lengths if fill_s(each, rate) <= self.seconds / 2), _SHORTEST_CLIP)

    def plan(self, rate: Fraction, clip_len: int) -> LatencyPlan:
        """What follows from the latency with a bundle of this clip length.

        Raises `MisuseError` if the clip alone takes longer.
        """
        fill = fill_s(clip_len, rate)
        if self.seconds is None:
            wait = _NAMED[self.name][1]
        elif (wait := self.seconds - fill) <= 0:
            remedy = " or build a bundle with --clip-len 8" if clip_len > _SHORTEST_CLIP else ""
            raise MisuseError(
                f"--latency is {float(self.seconds):g} s, but {clip_len} frames at {float(rate):.4g} frames/s take "
                f"{float(fill):.2f} s to arrive: allow more{remedy}"
            )
        return LatencyPlan(clip_len, float(fill), float(wait), _frames(wait, rate) + 3 * clip_len)


@dataclass(frozen=True)
class LatencyPlan:
    """What a latency means for a stream.

    unit        frames that are restored, dropped or bypassed together
    fill_s      seconds that a frame waits for those that are restored with it, at most
    late_s      seconds that a frame may wait for its turn beyond that
    capacity    frames that may wait
    """

    unit: int
    fill_s: float
    late_s: float
    capacity: int

    @property
    def patience_s(self) -> float:
        """Seconds after which a frame is late whose turn has not come. Its unit takes a while to arrive anyway."""
        return self.fill_s + self.late_s


def fill_s(clip_len: int, rate: Fraction) -> Fraction:
    """Seconds from the arrival of a frame until all that are restored with it are there, and those after it by which
    the decoder lags."""
    return (clip_len + LEAD) / rate


def _frames(seconds: Fraction, rate: Fraction) -> int:
    return -(-int(seconds * rate * 1000) // 1000)


def encoder_tuning(codec: str, rate: Fraction) -> dict[str, str]:
    """Options of an encoder with which a picture leaves as soon as it came, with a key frame every two seconds."""
    tuning = {"g": str(max(1, round(2 * rate)))}
    if codec in ("libx264", "libx264rgb"):
        return {**tuning, "tune": "zerolatency", "thread_type": "slice", "forced-idr": "1", "sc_threshold": "0"}
    if codec == "libx265":
        return {**tuning, "tune": "zerolatency", "forced-idr": "1"}
    if codec.endswith("_nvenc"):
        return {**tuning, "tune": "ull", "delay": "0", "zerolatency": "1", "forced-idr": "1"}
    if codec.startswith("libvpx"):
        return {**tuning, "deadline": "realtime", "lag-in-frames": "0", "cpu-used": "6"}
    if codec == "libsvtav1":
        return {**tuning, "svtav1-params": "pred-struct=1"}  # without it, half a second and more stays inside
    if codec == "mpeg2video":
        return {**tuning, "flags": "+low_delay"}
    return {**tuning, "thread_type": "slice"}


_FAST = {"libx264": "veryfast", "libx265": "superfast", "libsvtav1": "10"}


def usual_preset(codec: str) -> str | None:
    """The preset for an encoder that has to keep up; None for its own."""
    return _FAST.get(codec)
