"""Video files and folders of images, in and out. `av` (FFmpeg) is not imported before a file is opened."""

from __future__ import annotations

from .base import (
    DEFAULT_RATE,
    Colour,
    CopiedPacket,
    CopiedStream,
    Item,
    OutputForm,
    Picture,
    Sink,
    SinkOptions,
    Source,
    SourceInfo,
    SourceView,
    Stamp,
)
from .opening import open_sink, open_source

__all__ = [
    "DEFAULT_RATE",
    "Colour",
    "CopiedPacket",
    "CopiedStream",
    "Item",
    "OutputForm",
    "Picture",
    "Sink",
    "SinkOptions",
    "Source",
    "SourceInfo",
    "SourceView",
    "Stamp",
    "open_sink",
    "open_source",
]
