"""Reads what FFmpeg attaches to a frame beside its pixels: how to turn it, closed captions, and so on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_UNKNOWN_TO_PYAV = range(28, 40)
"""FFmpeg's numbers of the kinds that PyAV has no names for, such as 31, EXIF data. It fails over each of them."""

_PROFILE = 15
"""FFmpeg's number of colour profiles. That of a PNG file has a name, which PyAV frees, and FFmpeg again."""


def side_data(frame: VideoFrame) -> Mapping[str, bytes]:
    """What is attached to the frame, by FFmpeg's names of the kinds. Kinds that PyAV cannot read are left out."""
    from av.sidedata.sidedata import SideDataContainer, Type

    from .surfaces import on_host

    # Not `frame.side_data`: the frame would keep it, and it the frame, until Python's cycle collector runs.
    may_be_png = not frame.format.name.startswith(("yuv", "nv", "p0", "cuda"))
    readable = _without(frame, (_PROFILE, *_UNKNOWN_TO_PYAV)) if may_be_png else frame
    try:
        found: Any = SideDataContainer(readable)  # type: ignore[call-arg]
    except ValueError:
        found = SideDataContainer(_without(on_host(frame), _UNKNOWN_TO_PYAV))  # type: ignore[call-arg]
    # Iterating gives the data in PyAV 18, and its kinds in PyAV 19, which counts several of a kind as one.
    every = (found[each] if isinstance(each, Type) else each for each in found)
    return {each.type.name: bytes(each) for each in every}


def _without(frame: VideoFrame, kinds: Iterable[int]) -> VideoFrame:
    """The same frame without side data of these kinds."""
    from av.filter.graph import Graph

    graph = Graph()
    source = graph.add(
        "buffer", f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1:pixel_aspect=1/1"
    )
    removers = (graph.add("sidedata", f"mode=delete:type={kind}") for kind in kinds)
    graph.link_nodes(source, *removers, graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()
