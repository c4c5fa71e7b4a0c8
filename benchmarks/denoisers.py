"""FFmpeg's denoisers, as a yardstick for the demonstration model: the best setting for each clip, by its result."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction

import av
import av.filter
import numpy as np

from swiftvr_trt.runtime.media.colour import converted

from .metrics import Clip

SETTINGS = (
    "nlmeans=s=6:p=5:r=11",
    "nlmeans=s=12:p=5:r=11",
    "nlmeans=s=20:p=5:r=11",
    "fftdnoiz=sigma=10:prev=1:next=1",
    "fftdnoiz=sigma=20:prev=1:next=1",
    "fftdnoiz=sigma=30:prev=1:next=1",
    "atadenoise=0a=0.1:0b=0.3:1a=0.1:1b=0.3:2a=0.1:2b=0.3:s=9",
    "atadenoise=0a=0.3:0b=0.9:1a=0.3:1b=0.9:2a=0.3:2b=0.9:s=9",
    "bm3d=sigma=10:block=8:bstep=4:planes=7",
    "bm3d=sigma=20:block=8:bstep=4:planes=7",
    "bm3d=sigma=30:block=8:bstep=4:planes=7",
)


def best(clip: Clip, quality: Callable[[Clip], float]) -> tuple[str, Clip]:
    """The setting whose result has the highest quality, and the result."""
    found = {setting: denoise(clip, setting) for setting in SETTINGS}
    setting = max(found, key=lambda name: quality(found[name]))
    return setting, found[setting]


def denoise(clip: Clip, setting: str) -> Clip:
    """Send a clip through a filter, in YUV as files have it, with colours at full size so that none get lost."""
    height, width = clip.shape[1:3]
    graph = av.filter.Graph()
    name, _, values = setting.partition("=")
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("yuv444p"), time_base=Fraction(1))
    chain = [source, graph.add(name, values), graph.add("buffersink")]
    for before, after in itertools.pairwise(chain):
        before.link_to(after)
    graph.configure()
    shown: list[Clip] = []
    for number, frame in enumerate(clip):
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = converted(rgb, format="yuv444p")
        picture.pts = number
        graph.push(picture)
        shown += _ready(graph)
    graph.push(None)
    shown += _ready(graph)
    return np.stack(shown)


def _ready(graph: av.filter.Graph) -> list[Clip]:
    """The frames that the filter has finished."""
    found: list[Clip] = []
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return found
        assert isinstance(frame, av.VideoFrame)
        found.append(converted(frame, format="rgb24").to_ndarray().astype(np.uint8, copy=False))
