"""Frames as a stream takes and gives them: RGB arrays, or planes of YUV together with what their values mean.

    RGB         uint8 [h, w, 3], or uint16 [h, w, 3] with 65535 for white, which keeps more than 8 bits
    `Planes`    one block of bytes, as FFmpeg's `rawvideo` has it, and its `FrameForm`
    `Surface`   two planes in the memory of a GPU

`FrameForm` says how values become RGB: by the standards' formulas, from the code points of ISO/IEC 23091-2 as FFmpeg
numbers them. Nothing is converted here; the bundle's stages get a matrix and an offset.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...engines.bundle.geometry import MAX_SIDE
from ...engines.bundle.manifest import COLOUR_INPUTS
from ...engines.bundle.pixel_formats import RGB24, RGB48, PixelFormat
from ...errors import MediaError, MisuseError

LEFT, CENTRE, TOP_LEFT = (0.0, 0.5), (0.5, 0.5), (0.0, 0.0)
"""Where the chroma of MPEG-2 and its successors, of JPEG and MPEG-1, and of most HDR video lies."""

_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
_WEIGHTS |= {9: (0.2627, 0.0593)}
"""By matrix, what red and blue contribute to luma."""
MATRICES = frozenset(_WEIGHTS)
"""The matrices that can be computed with: BT.709, FCC, BT.470BG, BT.601, SMPTE 240M, and BT.2020."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Conversion:
    """What the stages of YUV frames read: `x -> matrix x + offset`, and the siting of chroma (across, down)."""

    matrix: Matrix
    offset: Matrix
    siting: tuple[float, float]

    def inputs(self) -> dict[str, NDArray[np.float32]]:
        """The arrays by their names in `COLOUR_INPUTS`."""
        values = (self.matrix, self.offset, self.siting)
        return {name: np.asarray(value, np.float32) for name, value in zip(COLOUR_INPUTS, values, strict=True)}


@dataclass(frozen=True)
class YuvColour:
    """What YUV values mean.

    matrix: a code point among `MATRICES`. full: black is 0 and white the largest code; otherwise 16/255 and 235/255 of
    8 bits. siting: where a chroma sample lies among its 2 x 2 luma pixels, across and down, from 0 to 1.
    """

    matrix: int = 1
    full: bool = False
    siting: tuple[float, float] = LEFT

    def __post_init__(self) -> None:
        if self.matrix not in MATRICES:
            raise MisuseError(f"the colour matrix is {self.matrix}, expected one of {sorted(MATRICES)}")
        if not all(0 <= place <= 1 for place in self.siting):
            raise MisuseError(f"the siting of chroma is {self.siting}, expected two numbers from 0 to 1")

    def to_rgb(self, bits: int) -> Conversion:
        """From codes to RGB in [0, 1]."""
        back = self.from_rgb(bits)
        # Not `np.linalg.inv`: if memory is short, OpenBLAS ends the process.
        first, second, third = back.matrix
        cofactors = np.stack([np.cross(second, third), np.cross(third, first), np.cross(first, second)], axis=1)
        inverse: Matrix = cofactors / (first * cofactors[:, 0]).sum()
        return Conversion(inverse, -(inverse * back.offset).sum(1), self.siting)

    def from_rgb(self, bits: int) -> Conversion:
        """From RGB in [0, 1] to codes, which are yet to be rounded."""
        red, blue = _WEIGHTS[self.matrix]
        luma = np.array([red, 1 - red - blue, blue])
        cb, cr = ((np.eye(3)[k] - luma) / (2 * (1 - weight)) for k, weight in ((2, blue), (0, red)))
        step, top = 1 << (bits - 8), (1 << bits) - 1
        spans, middle = ((top, top), 128 * step) if self.full else ((219 * step, 224 * step), 128 * step)
        black = 0 if self.full else 16 * step
        matrix = np.stack([luma * spans[0], cb * spans[1], cr * spans[1]])
        return Conversion(matrix, np.array([black, middle, middle], float), self.siting)


@dataclass(frozen=True)
class FrameForm:
    """A pixel format, and what its values mean; RGB needs no colour."""

    format: PixelFormat = RGB24
    colour: YuvColour = field(default_factory=YuvColour)

    def __str__(self) -> str:
        return self.format.name


RGB, RGB16 = FrameForm(RGB24), FrameForm(RGB48)


@dataclass(frozen=True, eq=False)
class Planes:
    """One frame of YUV: uint8 or uint16 [3, h/2, w], C-contiguous, in a format of `pixel_formats`.

    Raises `MediaError` for data of another type or shape.
    """

    data: NDArray[Any]
    form: FrameForm

    def __post_init__(self) -> None:
        data, form = self.data, self.form.format
        expected = np.dtype(form.host_dtype)
        if not form.yuv or data.dtype != expected or data.ndim != 3 or data.shape[0] != 3 or data.shape[2] % 2:
            raise MediaError(
                f"{form.name} planes are {data.dtype} {list(data.shape)}, expected {expected} [3, height / 2, width] "
                "of an even width in a YUV format"
            )

    @classmethod
    def empty(cls, form: FrameForm, height: int, width: int) -> Planes:
        """Planes of this size with undefined content."""
        return cls(np.empty(form.format.shape(height, width), form.format.host_dtype), form)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return 2 * int(self.data.shape[1]), int(self.data.shape[2])

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)

    @property
    def luma(self) -> NDArray[Any]:
        """[h, w], a view."""
        luma: NDArray[Any] = self.data[:2].reshape(self.size)
        return luma

    @property
    def chroma(self) -> NDArray[Any]:
        """[h/2, w/2, 2], a view: Cb and Cr."""
        height, width = self.size
        block: NDArray[Any] = self.data[2]
        if self.form.format.interleaved:
            return block.reshape(height // 2, width // 2, 2)
        return block.reshape(2, height // 2, width // 2).transpose(1, 2, 0)

    @property
    def layers(self) -> tuple[NDArray[Any], ...]:
        """The planes as FFmpeg counts them: luma [h, w, 1], and chroma [h/2, w/2, 2], or twice [h/2, w/2, 1]; views."""
        height, width = self.size
        if self.form.format.interleaved:
            return self.luma[..., None], self.chroma
        return self.luma[..., None], *self.data[2].reshape(2, height // 2, width // 2, 1)


@dataclass(frozen=True, eq=False)
class Surface:
    """One frame of YUV in the memory of a GPU, as its decoder gives it and its encoder takes it.

    planes: luma [h, w], and Cb and Cr interleaved [h/2, w/2, 2] or [h/2, w]; each speaks DLPack, in uint8 or uint16.
    Their rows may have gaps. form: in `nv12` or `p010`. size: height and width in pixels, both even. memory: of a
    restored one, where it lies. An encoder that remembers addresses, as NVENC does, keeps it until it is closed: the
    same address may otherwise be released, and given to something else, behind its back.
    """

    planes: tuple[Any, Any]
    form: FrameForm
    size: tuple[int, int]
    memory: Any = None

    def __post_init__(self) -> None:
        if not self.form.format.interleaved or not self.form.format.holds(*self.size) or len(self.planes) != 2:
            raise MediaError(
                f"a surface has {len(self.planes)} planes of {self.form.format.name}, {self.size[1]}x{self.size[0]}; "
                "expected two, of nv12 or p010 with even sides"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of GPU memory, without gaps."""
        return math.prod(self.form.format.shape(*self.size)) * np.dtype(self.form.format.host_dtype).itemsize


AnyFrame = NDArray[np.uint8] | NDArray[np.uint16] | Planes
"""A frame in the memory of the host."""

StreamFrame = AnyFrame | Surface
"""What a stream takes and gives."""

_Frame = TypeVar("_Frame", bound=StreamFrame)


def form_of(frame: StreamFrame) -> FrameForm:
    """The form of a frame, which is checked. Raises `MediaError` for anything that is not a frame."""
    if isinstance(frame, Planes | Surface):
        shape = frame.form.format.shape(*frame.size) if isinstance(frame, Planes) else frame.size
        _check_sides(frame.size, shape)
        return frame.form
    if not isinstance(frame, np.ndarray) or frame.dtype not in (np.uint8, np.uint16):
        found = f"{frame.dtype} array" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise MediaError(
            f"a frame is a {found}, expected a NumPy uint8 array [height, width, 3] in RGB, a uint16 one, or Planes"
        )
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise MediaError(
            f"a frame has the shape {list(frame.shape)}, expected [height, width, 3] with sides from 1 to {MAX_SIDE}"
        )
    _check_sides(frame.shape[:2], frame.shape)
    return form_of_array(frame)


def form_of_array(frame: NDArray[Any]) -> FrameForm:
    """The form of an RGB frame."""
    return RGB16 if frame.dtype == np.uint16 else RGB


def size_of(frame: StreamFrame) -> tuple[int, int]:
    """Height and width of a frame that was checked."""
    return frame.size if isinstance(frame, Planes | Surface) else (frame.shape[0], frame.shape[1])


def data_of(frame: AnyFrame) -> NDArray[Any]:
    """The codes of a frame as one array."""
    return frame.data if isinstance(frame, Planes) else frame


def owned(frame: _Frame) -> _Frame | Planes:
    """The frame in memory of its own, if it lies in a decoder's on the host."""
    return Planes(frame.data, frame.form) if isinstance(frame, Planes) else frame


def frame_of(data: NDArray[Any], form: FrameForm) -> AnyFrame:
    """The inverse of `data_of`."""
    return Planes(data, form) if form.format.yuv else data


def codes(buffer: NDArray[np.uint8], form: PixelFormat) -> NDArray[Any]:
    """A buffer of frames in bytes as the codes of this format, in the same memory."""
    return buffer.view(np.uint16)[..., 0] if form.wide else buffer


def _check_sides(sides: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if not all(1 <= side <= MAX_SIDE for side in sides):
        raise MediaError(
            f"a frame has the shape {list(shape)}, expected [height, width, 3] with sides from 1 to {MAX_SIDE}"
        )
