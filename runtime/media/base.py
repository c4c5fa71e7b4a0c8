"""The types that media and the pipeline share: pictures and copied packets, sources and sinks.

    with open_source(path) as source, open_sink(out, source.info, width, height, options) as sink:
        for item in restored(source):      # the same items in the same order; pictures have new pixels, the same stamps
            sink.write(item)
        sink.commit()                      # without this line nothing is left behind

A *picture* is a frame to restore. A *copied packet* belongs to another stream (sound, subtitles, data). It passes
through unchanged and keeps its place between the pictures. So the output is interleaved like the input, and memory
stays bounded however late the pictures come out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError, MisuseError

DEFAULT_RATE = Fraction(25)
"""Frames per second of a source that has no rate of its own, such as a folder of images."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Stamp:
    """Place and time of a picture. The pipeline passes it on unread.

    index               number of the picture in the source, from 0
    pts, duration       when and for how long it is shown, in ticks of `time_base` seconds
    name                file name of an image without its suffix; None in a video
    """

    index: int
    pts: int
    duration: int
    time_base: Fraction
    name: str | None = None


@dataclass(frozen=True)
class Picture:
    """A frame to restore, and its stamp. pixels: uint8 [H, W, 3], RGB, upright, C-contiguous."""

    pixels: Pixels
    stamp: Stamp

    def with_pixels(self, pixels: Pixels) -> Picture:
        """The same stamp with other pixels, which may have another size."""
        return replace(self, pixels=pixels)


@dataclass(frozen=True)
class CopiedPacket:
    """A packet of a copied stream. `stream` is its number in the source; `packet` is an `av.Packet`."""

    stream: int
    packet: Any


Item = Picture | CopiedPacket


@dataclass(frozen=True)
class Colour:
    """How to read YUV values: the code points of ISO/IEC 23091-2, as FFmpeg numbers them. 2 is "not specified".

    full: in 8 bits, black is 0 and white is 255; otherwise 16 and 235.
    """

    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    full: bool = False


@dataclass(frozen=True)
class CopiedStream:
    """A stream that is copied without decoding.

    index       its number in the source
    kind        "audio", "subtitle", "data", "attachment" or "cover" (an attached picture)
    codec       FFmpeg's name of its codec
    template    an `av.stream.Stream` of the source; usable as long as the source is open
    cover       the image file in a "cover" stream; None for every other stream
    """

    index: int
    kind: str
    codec: str
    template: Any
    cover: bytes | None = None

    def __str__(self) -> str:
        return f"{self.kind} stream {self.index} ({self.codec})"


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source before its second picture is decoded.

    width, height     of the upright picture, in pixels
    frames            their number, an estimate; None if unknown
    rate              frames per second, on average
    time_base         seconds per tick of the stamps
    colour            tags of the video; not specified for images
    sample_aspect     width : height of an upright pixel; None if the source does not say
    description       one line for people
    notes             one-line warnings for people
    image_suffix      of the first image file, e.g. ".png"; None for a video
    metadata          tags of the file to keep
    stream_metadata   tags of its video stream to keep
    chapters          as PyAV has them
    copies            the streams that can be copied
    """

    path: Path
    width: int
    height: int
    frames: int | None
    rate: Fraction
    time_base: Fraction
    colour: Colour
    sample_aspect: Fraction | None
    description: str
    notes: tuple[str, ...] = ()
    image_suffix: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream_metadata: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[Mapping[str, Any], ...] = ()
    copies: tuple[CopiedStream, ...] = ()


class Source(Protocol):
    """Supplies pictures and copied packets. Iterate over it once; `notes` is complete after the last item."""

    @property
    def info(self) -> SourceInfo: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def shortfall(self) -> str | None:
        """What the source promised but did not contain, in one line, or None. Valid after the last picture."""

    def __iter__(self) -> Iterator[Item]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Source: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Sink(Protocol):
    """Takes pictures and copied packets. Leaving the `with` block without `commit()` removes all that was written."""

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def description(self) -> str: ...

    def write(self, item: Item) -> None: ...

    def commit(self) -> None: ...

    def __enter__(self) -> Sink: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class SinkOptions:
    """How to write the output. None means the usual choice for the codec and the container.

    codec       name of an FFmpeg encoder or of a format, e.g. "libx265" or "hevc"; libx264 if the container allows it
    crf         constant quality on the encoder's own scale, lower is better; 18 for libx264
    preset      speed against size, in the encoder's own words
    pix_fmt     pixel format of the encoded video; yuv420p if the encoder and the size allow it
    extra       more options of the encoder, e.g. (("tune", "film"),)
    overwrite   replace an existing output
    audio       copy sound
    subtitles   copy subtitles
    data        copy everything else: data streams, cover pictures and attachments
    metadata    copy tags such as the title, and chapters
    gpu         number of the NVIDIA GPU that encodes, if it can; None encodes in software

    Raises `MisuseError` for a quality out of range or an empty name.
    """

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    extra: tuple[tuple[str, str], ...] = ()
    overwrite: bool = False
    audio: bool = True
    subtitles: bool = True
    data: bool = True
    metadata: bool = True
    gpu: int | None = None

    def __post_init__(self) -> None:
        if self.crf is not None and not 0 <= self.crf <= 255:
            raise MisuseError(f"crf is {self.crf}, expected 0 (best) to 63 or less: choose a value such as 18")
        for name in ("codec", "preset", "pix_fmt"):
            if getattr(self, name) == "":
                raise MisuseError(f"{name} is empty, expected a name: leave it out for the usual choice")

    def wants(self, stream: CopiedStream) -> bool:
        """True if `stream` is to be copied."""
        return {"audio": self.audio, "subtitle": self.subtitles}.get(stream.kind, self.data)


def check_pixels(pixels: Pixels, width: int, height: int) -> Pixels:
    """`pixels` as C-contiguous uint8 [height, width, 3]. Raises `MediaError` for another type or shape."""
    if pixels.dtype != np.uint8 or pixels.shape != (height, width, 3):
        raise MediaError(
            f"a picture is {pixels.dtype} {list(pixels.shape)}, expected uint8 [{height}, {width}, 3]: "
            "open the sink for the size of its pictures"
        )
    return np.ascontiguousarray(pixels)
