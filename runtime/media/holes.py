"""Holes in a video: where frames are missing in its middle. Pure.

A container seldom says how many frames it holds, and a video may pause, as recordings of screens do. So frames are
missing where a video that is steady otherwise pauses, and the file is damaged at that place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

_KNOWN_AFTER = 8
"""Steps from one packet to the next after which the usual ones are known. The first may be guesses of FFmpeg."""

_STEADY = Fraction(8, 5)
"""How often the shortest step of a steady video its longest may be: 2:3 pulldown has 1.5. A longer one is a pause."""

_NEAR = 16
"""Packets of the video between a pause and the damage that explains it: decoders and demuxers are ahead or behind."""

_PROBED_S = 8
"""How far FFmpeg reads when it opens a file, in seconds of it. It reports damage there before any packet."""


@dataclass(frozen=True)
class Hole:
    """Frames are missing here. begin, length: in seconds, as frames are decoded."""

    begin: Fraction
    length: Fraction

    def since(self, moment: Fraction) -> Hole:
        """The same on a clock that starts at `moment`."""
        return replace(self, begin=self.begin - moment)

    def overlaps(self, begin: Fraction, end: Fraction | None) -> bool:
        """Whether frames are missing between these two moments. end: None for the end of the file."""
        return self.begin + self.length > begin and (end is None or self.begin < end)


class HoleFinder:
    """Feed it the steps between the packets of a video, in decoding order, and what is damaged."""

    def __init__(self) -> None:
        self._count = 0
        self._shortest = self._longest = Fraction(0)
        self._troubled: int | None = None
        self._probe_ends: Fraction | None = None
        self._recent: deque[tuple[int, Hole]] = deque()
        self._pauses = 0
        self._holes: list[Hole] = []

    @property
    def holes(self) -> tuple[Hole, ...]:
        """Those that were found. None if the video is not steady, or pauses more often where nothing is damaged."""
        steady = self._longest <= _STEADY * self._shortest
        return tuple(self._holes) if steady and len(self._holes) > self._pauses + len(self._recent) else ()

    def trouble_at_open(self, start: Fraction) -> None:
        """FFmpeg reported damage when it opened the file. start: when the file begins, in seconds."""
        self._probe_ends = start + _PROBED_S

    def trouble(self) -> None:
        """Something is damaged near the packet that came last."""
        self._troubled = self._count
        self._forget()
        self._holes += [hole for _, hole in self._recent]
        self._recent.clear()

    def step(
        self,
        last: Fraction,
        moment: Fraction,
        *,
        joint: bool = False,
        torn: Callable[[], bool] = lambda: False,
    ) -> None:
        """A packet is decoded at this moment, in seconds, and the one before at `last`.

        joint: a recording may begin here that was joined to the one before. torn: whether data are missing between the
        two, as far as that is known; called at a pause only.
        """
        self._count, length = self._count + 1, moment - last
        if length <= 0:
            return
        if self._count <= _KNOWN_AFTER or length <= _STEADY * self._longest:
            self._shortest = min(self._shortest or length, length)
            self._longest = max(self._longest, length)
            return
        self._forget()
        hole = Hole(last + self._longest, length - self._longest)
        if joint:
            return
        if self._is_explained(hole) or torn():
            self._holes.append(hole)
        else:
            self._recent.append((self._count, hole))

    def _is_explained(self, hole: Hole) -> bool:
        if self._troubled is not None and self._count - self._troubled <= _NEAR:
            return True
        return self._probe_ends is not None and hole.begin <= self._probe_ends

    def _forget(self) -> None:
        """Count pauses that nothing explains."""
        while self._recent and self._count - self._recent[0][0] > _NEAR:
            self._recent.popleft()
            self._pauses += 1


def hole_line(holes: tuple[Hole, ...]) -> str | None:
    """What is missing, in one line. None if nothing is."""
    if not holes:
        return None
    total, first = float(sum(hole.length for hole in holes)), float(holes[0].begin)
    places = f"at {first:.2f} s" if len(holes) == 1 else f"in {len(holes)} places, the first at {first:.2f} s"
    return f"frames are missing in the input: {total:.2f} s, {places}"
