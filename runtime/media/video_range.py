"""Frames of a video from any number on, exactly those that reading from the beginning would give.

Decoding begins at a key frame before the first wanted frame. Where a container leads elsewhere, or its key frame needs
other pictures (as with intra refresh), an earlier one is tried, and at last the beginning of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from types import TracebackType
from typing import TYPE_CHECKING

from ...errors import MediaError
from ...text import counted
from . import colour
from .alpha import lost_alpha
from .base import Picture, SourceInfo, Stamp
from .decoder import VideoDecoder
from .fitting import Fitter
from .index import VideoIndex
from .kept import lost_side_data
from .planes import FrameReader
from .side_data import side_data
from .tonemap import lost_dynamics

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_ATTEMPTS = 3
"""Key frames to try before decoding starts at the beginning of the file."""


class IndexMismatchError(MediaError):
    """The decoder's frames are not those that the index promises, so their numbers are not certain."""


class VideoRange:
    """The pictures `begin` to `end - 1` of a video, with the stamps that they have in the whole file.

    A `base.Source` without packets to copy. Iterate once. Raises `IndexMismatchError` if the decoder skips or invents
    frames, `MediaError` if the file cannot be read.
    """

    def __init__(self, info: SourceInfo, index: VideoIndex, begin: int, end: int) -> None:
        self.info, self._index = info, index
        self._numbers = range(begin, end)
        self._fitter: Fitter | None = None
        self._decoder, self._frames = _frames_from(info, index, begin)
        self._reader = FrameReader(info.form, self._decoder.siting)

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    @property
    def shortfall(self) -> str | None:
        """What the file lacks, at its end or before; None if the range ends before that."""
        return self._index.lacks if self._numbers.stop == len(self._index) else None

    @property
    def damage(self) -> tuple[str, ...]:
        """What is damaged in the part that was read. Valid after the last picture."""
        return self._decoder.damage

    def __iter__(self) -> Iterator[Picture]:
        for number in self._numbers:
            frame = next(self._frames, None)
            expected = self._index.times[number]
            if frame is None or frame.pts != expected:
                found = "the end of the file" if frame is None else f"a frame with the time stamp {frame.pts}"
                raise IndexMismatchError(
                    f"frame {number} of {self.info.path} should have the time stamp {expected}, but the decoder gave "
                    f"{found}"
                )
            yield self._picture(frame, number)

    def _picture(self, frame: VideoFrame, number: int) -> Picture:
        attached, dynamics = side_data(frame), lost_dynamics(frame, self.info.colour.transfer)
        matrix = colour.matrix_of(attached)
        if self._fitter is None:
            self._fitter = self._fitter_of(turned=colour.is_turned(matrix))
        fitted = self._fitter.fit(frame, number, self._decoder.pixel_aspect)
        if fitted is not frame:
            frame, attached = fitted, side_data(fitted)
        picture = self._reader.read(frame, matrix)
        pts, duration = self._index.stamps[number]
        captions, reading = attached.get("A53_CC"), self.info.reading
        lost = lost_side_data(attached, self.info.notes) | lost_alpha(frame, reading.alpha, kept=self.info.alpha)
        lost |= dynamics
        alpha = self._reader.alpha(frame, matrix) if self.info.alpha else None
        stamp = Stamp(number, pts, duration, self._index.time_base, captions=captions, lost=lost, alpha=alpha)
        return Picture(picture, stamp)

    def _fitter_of(self, *, turned: bool) -> Fitter:
        width, height, aspect = self.info.width, self.info.height, self.info.sample_aspect
        return Fitter((height, width), 1 / aspect if aspect else None) if turned else Fitter((width, height), aspect)

    def close(self) -> None:
        """Release the file. If another thread is still reading, the file stays open until that thread is done."""
        with suppress(ValueError):  # "generator already executing"
            self._decoder.close()

    def __enter__(self) -> VideoRange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _frames_from(info: SourceInfo, index: VideoIndex, begin: int) -> tuple[VideoDecoder, Iterator[VideoFrame]]:
    """A decoder, and its frames from number `begin` on."""
    if not 0 <= begin < len(index):
        raise MediaError(f"{info.path} has {counted(len(index), 'frame')}, expected one with the number {begin}")
    for entry in (*islice(index.entry_times(begin), _ATTEMPTS), None):
        decoder = VideoDecoder(info.path, options=info.reading)
        try:
            decoder.skip_copies()
            frames = _from_moment(decoder, index.times[begin])
            if entry is None:
                return decoder, frames
            if decoder.seek(entry) and (first := _first_after_entry(decoder, index.times[begin])) is not None:
                return decoder, chain((first,), frames)
        except BaseException:
            decoder.close()
            raise
        decoder.close()
    raise AssertionError("the last attempt returns")


def _first_after_entry(decoder: VideoDecoder, pts: int) -> VideoFrame | None:
    """The frame that is shown at `pts`, if a picture that needs no other came out before it, or is it."""
    from av.video.frame import PictureType, VideoFrame

    entered = False
    for frame in decoder:
        if isinstance(frame, VideoFrame) and frame.pts is not None:
            if not entered and frame.key_frame and frame.pict_type not in (PictureType.P, PictureType.B):
                entered = True
                decoder.forget_damage()  # pictures before it may refer to others that were not read
            if frame.pts >= pts:
                return frame if entered and frame.pts == pts and not frame.is_corrupt else None
    return None


def _from_moment(decoder: VideoDecoder, pts: int) -> Iterator[VideoFrame]:
    """The frames of `decoder` from the first one that is shown at `pts` or later."""
    from av.video.frame import VideoFrame

    for item in decoder:
        if isinstance(item, VideoFrame) and item.pts is not None and item.pts >= pts:
            yield item
