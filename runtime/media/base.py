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
from typing import Any, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from ...errors import MisuseError
from ...text import counted, format_duration
from ..stream.frames import RGB, AnyFrame, FrameForm, Planes, StreamFrame, Surface, data_of, form_of_array, frame_of
from .file_state import FileState
from .photo_tags import PhotoTags
from .source_options import SourceOptions

DEFAULT_RATE = Fraction(25)
"""Frames per second of a source that has no rate of its own, such as a folder of images."""

Pixels = NDArray[np.uint8]
_NO_PIXELS: Pixels = np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class Stamp:
    """Place and time of a picture. The pipeline passes it on, and reads `new_scene` only.

    index               number of the picture in the source, from 0
    pts, duration       when and for how long it is shown, in ticks of `time_base` seconds
    name                file name of an image without its suffix; None in a video
    captions            closed captions that are shown with it, as FFmpeg has them; None if there are none
    lost                what else was attached to it in the input, which no output has, in words
    tags                of the image file
    alpha               how opaque it is, uint8 or uint16 [h, w] at the size of the input; None if it is not kept
    new_scene           another scene begins with this picture, and it is to be restored without the one before
    """

    index: int
    pts: int
    duration: int
    time_base: Fraction
    name: str | None = None
    captions: bytes | None = None
    lost: frozenset[str] = frozenset()
    tags: PhotoTags = field(default_factory=PhotoTags)
    new_scene: bool = False
    alpha: NDArray[Any] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Picture:
    """A frame to restore, and its stamp. frame: upright, as a stream takes and gives it."""

    frame: StreamFrame
    stamp: Stamp

    @property
    def host_frame(self) -> AnyFrame:
        """The frame of a picture that lies on the host."""
        return cast(AnyFrame, self.frame)

    @property
    def pixels(self) -> NDArray[Any]:
        """Its codes as one C-contiguous array: uint8 or uint16 [H, W, 3] in RGB, or the data of `Planes`.

        Only of a picture that lies on the host.
        """
        return data_of(self.host_frame)

    @property
    def form(self) -> FrameForm:
        """What its codes mean."""
        return self.frame.form if isinstance(self.frame, Planes | Surface) else form_of_array(self.frame)

    @property
    def nbytes(self) -> int:
        """Bytes of the frame, wherever it lies."""
        return int(self.frame.nbytes)

    def with_pixels(self, pixels: NDArray[Any]) -> Picture:
        """The same stamp with other pixels in this form, which may have another size."""
        return replace(self, frame=frame_of(pixels, self.form))

    def without_pixels(self) -> Picture:
        """The stamp, when nothing else is needed any more."""
        return replace(self, frame=_NO_PIXELS)


@dataclass(frozen=True)
class CopiedPacket:
    """A packet of a copied stream. `stream` is its number in the source; `packet` is an `av.Packet`.

    early: sound that begins before the first picture of a part of a video. Containers that cannot tell players to skip
    its beginning leave it out.
    """

    stream: int
    packet: Any
    early: bool = False


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


class Template:
    """A stream of an open source, after which its copy is made. stream: an `av.stream.Stream`.

    Closing the source lets go of it, since a stream keeps the file's decoder in memory, with all its frames.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def let_go(self) -> None:
        self.stream = None


@dataclass(frozen=True)
class CopiedStream:
    """A stream that is copied without decoding.

    index       its number in the source
    kind        "audio", "subtitle", "data", "attachment" or "cover" (an attached picture)
    codec       FFmpeg's name of its codec
    template    the stream itself; usable as long as the source is open
    cover       the image file in a "cover" stream; None for every other stream
    """

    index: int
    kind: str
    codec: str
    template: Template
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
    files             of a folder of images, or those that a playlist names; otherwise empty
    image_suffix      of the first image file, e.g. ".png"; None for a video
    metadata, stream_metadata, disposition   to keep: tags of the file; tags and marks (FFmpeg's) of its video stream
    form, bits        of the pictures' pixels, and of a colour in the input
    alpha             pictures come with their transparency
    chapters          as PyAV has them
    copies            the streams that can be copied
    left_out          one line about streams that no output gets; it is among the notes
    tagged            the first image has EXIF data or a colour profile
    container         FFmpeg's name of the format of a video file
    reading           how it is read
    read_once         a pipe: it cannot be opened again
    shown_s           how long it is shown, as its header says; None if that is known from its frames and rate only
    treatment         what is done to frames before they are restored, in a few words; empty for nothing
    state             of the file before it was opened; None for anything but a file
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
    files: tuple[Path, ...] = ()
    image_suffix: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream_metadata: Mapping[str, str] = field(default_factory=dict)
    disposition: int = 0
    form: FrameForm = RGB
    bits: int = 8
    alpha: bool = False
    chapters: tuple[Mapping[str, Any], ...] = ()
    copies: tuple[CopiedStream, ...] = ()
    left_out: tuple[str, ...] = ()
    tagged: bool = False
    container: str = ""
    reading: SourceOptions = field(default_factory=SourceOptions)
    read_once: bool = False
    shown_s: Fraction | None = None
    treatment: str = ""
    state: FileState | None = None

    @property
    def seconds(self) -> Fraction | None:
        """How long it is shown, an estimate; None if unknown."""
        if self.shown_s is not None:
            return self.shown_s
        return None if self.frames is None else self.frames / self.rate

    @property
    def summary(self) -> str:
        """What people look for first: size, rate and length."""
        if self.files:
            return self.description
        words = [f"{self.width}x{self.height}", f"{float(self.rate):.4g} frames/s"]
        if self.frames and (seconds := self.seconds) is not None:
            long = f"{format_duration(float(seconds))} long"
            words.append(long if seconds >= 1 else counted(self.frames, "frame"))
        if self.treatment:
            words.append(self.treatment)
        return ", ".join(words)


class Source(Protocol):
    """Supplies pictures and copied packets. Iterate over it once; `notes` is complete after the last item."""

    @property
    def info(self) -> SourceInfo: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def damage(self) -> tuple[str, ...]:
        """What is damaged in the source, one line each; these are among the notes. Valid after the last picture."""

    @property
    def shortfall(self) -> str | None:
        """What the source promised but did not contain, in one line, or None. Valid after the last picture."""

    def __iter__(self) -> Iterator[Item]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Source: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class SourceView:
    """A source as another one shows it: what a subclass does not change is that of `source`, which it closes."""

    def __init__(self, source: Source) -> None:
        self.source, self.info = source, source.info

    @property
    def notes(self) -> tuple[str, ...]:
        return self.source.notes

    @property
    def damage(self) -> tuple[str, ...]:
        return self.source.damage

    @property
    def shortfall(self) -> str | None:
        return self.source.shortfall

    def __iter__(self) -> Iterator[Item]:
        return iter(self.source)

    def close(self) -> None:
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
    pix_fmt     pixel format of the encoded video; 4:2:0 as deep as the input if the encoder and the size allow it
    extra       more options of the encoder, e.g. (("tune", "film"),)
    overwrite   replace an existing output
    audio       copy sound
    subtitles   copy subtitles
    data        copy everything else: data streams, cover pictures and attachments
    metadata    copy tags such as the title, and chapters
    gpu         number of the NVIDIA GPU that encodes, if it can; None encodes in software
    surfaces    that GPU takes pictures in its memory, if it can
    audio_fallback  what sound becomes that the container does not hold: "auto", the name of an encoder or a format, or
                "fail", which refuses the output
    clock       seconds per tick of a container that counts even steps; one frame if None
    trial       check and open everything, but write nothing; the folder of the output need not exist yet
    out_format  of a pipe: FFmpeg's name of a format, or a suffix such as "mkv"; "y4m" if the input is that, else "nut"

    Raises `MisuseError` for a quality out of range or an empty name.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    extra: tuple[tuple[str, str], ...] = ()
    overwrite: bool = False
    audio: bool = True
    subtitles: bool = True
    data: bool = True
    metadata: bool = True
    gpu: int | None = None
    surfaces: bool = False
    audio_fallback: str = "auto"
    clock: Fraction | None = None
    trial: bool = False
    out_format: str | None = None

    def __post_init__(self) -> None:
        if self.crf is not None and not 0 <= self.crf <= 255:
            raise MisuseError(f"crf is {self.crf}, expected 0 (best) to 63 or less: choose a value such as 18")
        for name in ("codec", "preset", "pix_fmt", "audio_fallback", "out_format"):
            if getattr(self, name) == "":
                raise MisuseError(f"{name} is empty, expected a name: leave it out for the usual choice")

    def wants(self, kind: str) -> bool:
        """True if streams of this kind are to be copied, see `CopiedStream`."""
        return {"audio": self.audio, "subtitle": self.subtitles, "video": True}.get(kind, self.data)


@dataclass(frozen=True)
class OutputForm:
    """What an output will be.

    container       FFmpeg's name of the format; "images" for a folder, or one image
    codec, pix_fmt  of the pictures
    crf             their quality if it is constant, on the encoder's own scale; None if it is not
    copied          the streams that are copied
    left_out        those that are not, each with the reason
    converted       streams that are carried over in another format, each with its name
    """

    container: str
    codec: str
    pix_fmt: str
    crf: float | None = None
    copied: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    converted: tuple[tuple[str, str], ...] = ()
