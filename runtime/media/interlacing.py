"""Decides whether a video is deinterlaced: by its flags, and by a short look at its frames with FFmpeg's `idet`.

Flags are often wrong: broadcasts and DVDs flag progressive films as interlaced, captured tapes are not flagged at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from .decoder import VideoDecoder
from .filter_graph import deinterlacer_of
from .filters import FilterChain, FilterInput, FrameFilter
from .pyav import fraction
from .source_options import SourceOptions

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_LINES = frozenset({480, 486, 576, 1080, 1088})
"""Heights of interlaced video."""
_FASTEST = Fraction(31)
"""Frames per second of interlaced video, at most."""
_PLACES = (Fraction(0), Fraction(1, 3), Fraction(2, 3))
"""Where to look, as parts of the video: films begin black, and black frames tell nothing."""
_FRAMES = 40
"""Frames to look at in each place."""
_ENOUGH = 10
"""So many frames must have been told apart."""
_SURE = 0.97
"""The share of interlaced frames in a video without flags. Fine patterns deceive the detector, but not everywhere."""


@dataclass(frozen=True)
class FieldOrders:
    """How many of the frames that were looked at are progressive, or consist of fields, the top or bottom one first."""

    top: int = 0
    bottom: int = 0
    progressive: int = 0

    @property
    def told(self) -> int:
        return self.top + self.bottom + self.progressive

    def __add__(self, other: FieldOrders) -> FieldOrders:
        return FieldOrders(self.top + other.top, self.bottom + other.bottom, self.progressive + other.progressive)


@dataclass(frozen=True)
class Deinterlacing:
    """How to deinterlace: a value of `SourceOptions.deinterlace` but `auto`. line: a few words about it, or none."""

    deinterlace: str
    line: str = ""


def judge(fields: FieldOrders, *, flagged: bool) -> Deinterlacing:
    """What to do with a video. flagged: its first frame says that it is interlaced."""
    interlaced = fields.top + fields.bottom
    if flagged and fields.told >= _ENOUGH and fields.progressive > interlaced:
        return Deinterlacing("no", "flagged as interlaced, but its frames are not (if they are: --deinterlace bwdif)")
    if flagged:
        return Deinterlacing("flagged", "deinterlaced with bwdif")
    if fields.told >= _ENOUGH and interlaced >= _SURE * fields.told:
        first = "top" if fields.top >= fields.bottom else "bottom"
        line = f"interlaced without flags ({first} field first), deinterlaced with bwdif"
        return Deinterlacing(f"{first[0]}ff", line)
    return Deinterlacing("no")


def decide(path: Path, options: SourceOptions, first: VideoFrame, rate: Fraction, *, can_look: bool) -> Deinterlacing:
    """What to do with a video whose first frame this is. can_look: it can be opened again."""
    if options.deinterlace != "auto":
        return Deinterlacing(options.deinterlace, "" if options.deinterlace == "no" else "deinterlaced with bwdif")
    if options.vf is not None and (own := deinterlacer_of(options.vf)):
        return Deinterlacing("no", f"deinterlaced by --vf alone ({own})")
    flagged = first.interlaced_frame
    suspect = flagged or (first.height in _LINES and rate <= _FASTEST and not first.format.is_rgb)
    return judge(_look(path, options) if suspect and can_look else FieldOrders(), flagged=flagged)


def _look(path: Path, options: SourceOptions) -> FieldOrders:
    """Tell the fields of some frames."""
    found = FieldOrders()
    for place in _PLACES:
        decoder = VideoDecoder(path, options=options)
        with closing(decoder):
            decoder.skip_copies()
            if place and not _go_to(decoder, place):
                break
            found += _told(decoder)
    return found


def _go_to(decoder: VideoDecoder, place: Fraction) -> bool:
    """Go to a place in the video, as a part of its length. False if that is impossible."""
    tick = fraction(decoder.stream.time_base)
    length = Fraction(decoder.container.duration or 0, 1_000_000)
    return tick is not None and length > 0 and decoder.seek(round((decoder.start + length * place) / tick))


def _told(decoder: VideoDecoder) -> FieldOrders:
    """Tell the fields of the next frames of a decoder."""
    detector: FrameFilter | None = None
    fields = FieldOrders()
    for number, frame in enumerate(islice(_frames(decoder), _FRAMES)):
        frame.pts = number
        if detector is None:
            detector = FrameFilter(FilterChain(("idet",)), FilterInput(Fraction(1, 25), Fraction(25), None), frame)
            size = frame.width, frame.height
        if (frame.width, frame.height) != size:
            break
        for told in detector.feed(frame):
            fields += _fields(told.metadata.get("lavfi.idet.multiple.current_frame", ""))
    for told in detector.feed(None) if detector else ():
        fields += _fields(told.metadata.get("lavfi.idet.multiple.current_frame", ""))
    return fields


def _frames(decoder: VideoDecoder) -> Iterator[VideoFrame]:
    from av.video.frame import VideoFrame

    return (item for item in decoder if isinstance(item, VideoFrame))


def _fields(kind: str) -> FieldOrders:
    return FieldOrders(kind == "tff", kind == "bff", kind == "progressive")
