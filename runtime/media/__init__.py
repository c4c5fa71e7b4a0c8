"""Video files and folders of images, in and out.

`av` (FFmpeg) is imported when a file is opened, not before.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from .base import (
    DEFAULT_RATE,
    Colour,
    CopiedPacket,
    CopiedStream,
    Item,
    Picture,
    Sink,
    SinkOptions,
    Source,
    SourceInfo,
    Stamp,
)

__all__ = [
    "DEFAULT_RATE",
    "Colour",
    "CopiedPacket",
    "CopiedStream",
    "Item",
    "Picture",
    "Sink",
    "SinkOptions",
    "Source",
    "SourceInfo",
    "Stamp",
    "open_sink",
    "open_source",
]


def open_source(path: str | Path, *, rate: Fraction | None = None, threads: int = 0, gpu: int | None = None) -> Source:
    """Open a video file, a folder of images, or a single image.

    rate: pictures per second of images (default 25); a video has its own, and refuses another (`MisuseError`).
    threads: of the decoder, 0 for as many as there are cores. gpu: number of the NVIDIA GPU that decodes a video, if
    it can; None decodes in software. `MediaError` if there is nothing to read.
    """
    from .opening import source

    return source(Path(path), rate, threads, gpu)


def open_sink(path: str | Path, info: SourceInfo, width: int, height: int, options: SinkOptions | None = None) -> Sink:
    """Open the output for `width` x `height` pictures that come from the source of `info`.

    A name with the suffix of an image, or one that is a folder or has no suffix, takes images; any other a video.
    Keep the source open as long as the sink: copied streams are described by it. Nothing is written under `path`
    before `commit()`. `MediaError` if the output cannot be written in that form, `OutputError` if the place cannot
    be written to.
    """
    from .opening import sink

    folder = str(path).endswith(("/", "\\"))
    return sink(Path(path), info, width, height, options or SinkOptions(), folder=folder)
