"""The words that the media layer and the pipeline share: pictures and passengers, sources and sinks.

    with open_source(path) as source, open_sink(out, source.info, width, height, options) as sink:
        for item in restored(source):      # same items in the same order; pictures with new pixels, stamps untouched
            sink.write(item)
        sink.commit()                      # without this line nothing is left behind

A *picture* is a frame to restore. A *passenger* is a packet of a copied stream (sound, subtitles, data): it is not
looked at, but keeps its place between the pictures, so that the output is interleaved like the input and memory
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

from swiftvr_trt.errors import MediaError, MisuseError

DEFAULT_RATE = Fraction(25)
"""Pictures per second of a source that has no rate of its own (a folder of images)."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Stamp:
    """What travels with a picture and is not its pixels. Opaque to the pipeline.

    pts and duration count ticks of `time_base` seconds. `name` is the stem of the image file, None in a video.
    """

    index: int
    pts: int
    duration: int
    time_base: Fraction
    name: str | None = None


@dataclass(frozen=True)
class Picture:
    """One frame on its way through: uint8 [H, W, 3], RGB, upright, C-contiguous, and its stamp."""

    pixels: Pixels
    stamp: Stamp

    def with_pixels(self, pixels: Pixels) -> Picture:
        """The same moment with other pixels, which may have another size."""
        return replace(self, pixels=pixels)


@dataclass(frozen=True)
class Passenger:
    """A packet of a copied stream. `stream` is its number in the source; `packet` is an `av.Packet`."""

    stream: int
    packet: Any


Item = Picture | Passenger


@dataclass(frozen=True)
class Colour:
    """How numbers become colours: the code points of ISO/IEC 23091-2, as FFmpeg numbers them. 2 = not specified.

    `full` says that black is 0 and white 255 (in 8 bits); otherwise they are 16 and 235.
    """

    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    full: bool = False


@dataclass(frozen=True)
class CopiedStream:
    """A stream that goes from container to container as it is.

    `template` is an `av.stream.Stream` of the source, good for as long as the source is open. `cover` holds the
    bytes of an attached cover picture, which is no stream in time, else None.
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

    width, height     upright, in pixels
    frames            an estimate, or None
    rate              pictures per second, on average
    time_base         seconds per tick of the stamps
    sample_aspect     width of a pixel : its height, upright; None if the source does not say
    description       one line for people
    notes             one-line warnings for people
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
    images: bool = False
    image_suffix: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream_metadata: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[Mapping[str, Any], ...] = ()
    copies: tuple[CopiedStream, ...] = ()


class Source(Protocol):
    """Where pictures come from. It can be walked through once; `notes` grows while it is."""

    @property
    def info(self) -> SourceInfo: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def shortfall(self) -> str | None:
        """After the last picture: what the source promised and did not hold, in one line; None if it was complete."""

    def __iter__(self) -> Iterator[Item]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Source: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Sink(Protocol):
    """Where pictures go. Leaving the `with` block without `commit()` removes everything that was written."""

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
    """How the output is written. None means: the usual choice for the codec and the container.

    codec       name of an encoder of FFmpeg; libx264 where the container takes it
    crf         constant quality, lower is better, in the encoder's own scale; 18 for libx264
    preset      speed against size, in the encoder's own words
    pix_fmt     pixel format of the encoded video; yuv420p where the encoder and the size allow it
    extra       further options of the encoder, e.g. (("tune", "film"),)
    overwrite   replace an existing output
    audio       copy sound; `subtitles` copy subtitles; `data`: everything else that has a clock, and attachments
    metadata    copy titles, languages and chapters
    gpu         number of the NVIDIA GPU that encodes, if it can; None encodes in software
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
            raise MisuseError(f"crf is {self.crf}, expected 0 (best) to 63 or less, e.g. 18: choose one in this range")
        for name in ("codec", "preset", "pix_fmt"):
            if getattr(self, name) == "":
                raise MisuseError(f"{name} is empty, expected a name: leave it out for the usual choice")

    def wants(self, stream: CopiedStream) -> bool:
        """True if `stream` is among what shall be copied."""
        return {"audio": self.audio, "subtitle": self.subtitles}.get(stream.kind, self.data)


def check_pixels(pixels: Pixels, width: int, height: int) -> Pixels:
    """`pixels` as C-contiguous uint8 [height, width, 3], or `MediaError` if they are something else."""
    if pixels.dtype != np.uint8 or pixels.shape != (height, width, 3):
        raise MediaError(
            f"a picture is {pixels.dtype} {list(pixels.shape)}, expected uint8 [{height}, {width}, 3]: "
            "open the sink for the size that is written"
        )
    return np.ascontiguousarray(pixels)
