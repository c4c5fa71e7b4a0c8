"""Finds where scenes begin, with FFmpeg's `scdet`, and marks their first pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from ..stream.frames import AnyFrame, Planes, form_of
from .base import Item, Picture, Source, SourceView
from .filters import FilterChain, FilterInput, FrameFilter

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_THRESHOLD = 10
"""FFmpeg's own: 8 to 14 are sensible, 0 to 100 possible."""
_LOOKED_AT = 320
"""Pixels per line that are compared; more tell no more."""


class SceneDetector:
    """Tells for one picture after another whether a new scene begins with it. All have one size."""

    def __init__(self) -> None:
        self._filter: FrameFilter | None = None
        self._count = 0

    def begins(self, picture: AnyFrame) -> bool:
        """Whether a scene begins with the next picture. The first picture begins none: there was none before."""
        frame = _small(picture)
        frame.pts = self._count
        self._count += 1
        if self._filter is None:
            chain = FilterChain((f"scdet=threshold={_THRESHOLD}",))
            self._filter = FrameFilter(chain, FilterInput(Fraction(1, 25), Fraction(25), None), frame)
        return any("lavfi.scd.time" in found.metadata for found in self._filter.feed(frame))


def _small(picture: AnyFrame) -> VideoFrame:
    """Luma of every few pixels, or green, which is close to it: a fraction of the work. In 8 bits."""
    from av.video.frame import VideoFrame

    light = picture.luma if isinstance(picture, Planes) else picture[..., 1]
    step = max(1, light.shape[1] // _LOOKED_AT)
    light = light[::step, ::step]
    if light.dtype == np.uint16:
        form = form_of(picture).format
        light = light // (form.unit << (form.bits - 8))
    return VideoFrame.from_ndarray(np.ascontiguousarray(light, np.uint8), format="gray")


class SceneSource(SourceView):
    """A source whose pictures say whether a scene begins with them."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.scenes = 0
        """Scenes so far, without the first."""

    def __iter__(self) -> Iterator[Item]:
        detector = SceneDetector()
        for item in self.source:
            if isinstance(item, Picture) and detector.begins(item.host_frame):
                self.scenes += 1
                yield replace(item, stamp=replace(item.stamp, new_scene=True))
            else:
                yield item
            del item  # before the next one is decoded: it may be large
