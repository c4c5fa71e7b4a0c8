"""HDR to SDR, for libavfilter's `lut3d`: a table of what becomes of every colour.

The same steps as with zscale and tonemap, which many builds of FFmpeg lack: to linear light with 1 for 100 nits, to
BT.709's primaries, Hable's curve on the largest component, and BT.1886.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from ... import leaving
from ...errors import MachineError, MediaError
from . import colour
from .side_data import side_data

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_Floats = NDArray[np.float64]

_SIDE = 49
"""Colours per axis of the table. Interpolation is off by 0.3 of 255 levels on average, on random colours."""
_NITS = 100.0
"""Luminance of 1 in linear light."""
_USUAL_PEAK = 10.0
"""Of video that does not say its brightest luminance, in linear light."""
_PQ, _HLG = 16, 18
_DOLBY_VISION = frozenset({"DOVI_METADATA", "DOVI_RPU_BUFFER"})
"""Kinds of side data with the curves of Dolby Vision."""
_PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""By code point, x and y of red, green and blue: BT.709, BT.2020, and P3, all with this white:"""
_WHITE = (0.3127, 0.3290)
SCALE_FLAGS = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
"""Of the filter `scale`: exact rounding, and chroma at full resolution."""


@dataclass(frozen=True)
class ToneMap:
    """How HDR becomes SDR.

    transfer, primaries: code points. matrix: by FFmpeg's name; None for RGB. peak: the brightest linear light, which
    becomes white.
    """

    transfer: int
    primaries: int = 9
    matrix: str | None = "bt2020"
    peak: float = _USUAL_PEAK

    def __str__(self) -> str:
        return "tonemap"

    @contextmanager
    def filters(self) -> Iterator[tuple[str, ...]]:
        """The filters, which find their table while the block runs: they read it when they are added to a graph.

        Chroma lies on the left afterwards, wherever it lay before.
        """
        matrix = "" if self.matrix is None else f"in_color_matrix={self.matrix}:"
        with _temporary(_cube(self.transfer, self.primaries, self.peak)) as table:
            yield (
                f"scale={matrix}{SCALE_FLAGS}",
                "format=gbrp16le",
                f"lut3d=file={_escaped(table)}:interp=tetrahedral",
                "setparams=color_primaries=bt709:color_trc=bt709",
                f"scale=out_color_matrix=bt709:out_range=tv:out_h_chr_pos=0:out_v_chr_pos=128:{SCALE_FLAGS}",
                "format=yuv420p10le",
            )


def refuse_hdr(name: str, transfer: int, attached: Mapping[str, bytes], *, assume_sdr: bool) -> None:
    """Raise `MediaError` for HDR: the network knows SDR only, and would take the curves of HDR for a flat picture.

    transfer: code point of the frames that are to be restored. attached: side data of the first one of the input.
    """
    _refuse_transfer(name, transfer, "convert it with --tonemap", assume_sdr=assume_sdr)
    if assume_sdr:
        return
    if transfer == colour.UNSPECIFIED and attached.keys() & _DOLBY_VISION:
        raise MediaError(
            f"{name} is Dolby Vision without colour tags, as in profile 5, whose colours neither the network nor "
            "--tonemap knows: convert it before, e.g. ffmpeg -i old.mp4 -vf libplacebo=colorspace=bt709:"
            "color_primaries=bt709:color_trc=bt709:format=yuv420p10 -c:v ffv1 -c:a copy new.mkv; if its colours are "
            "right without Dolby Vision, add --assume-sdr"
        )


def refuse_hdr_image(name: str, transfer: int, *, assume_sdr: bool) -> None:
    """The same for an image, which --tonemap does not take."""
    _refuse_transfer(name, transfer, "make a video of it and convert that with --tonemap", assume_sdr=assume_sdr)


def _refuse_transfer(name: str, transfer: int, remedy: str, *, assume_sdr: bool) -> None:
    if transfer in colour.HDR_TRANSFERS and not assume_sdr:
        raise MediaError(
            f"{name} is HDR ({colour.HDR_TRANSFERS[transfer]}), which the network does not know: {remedy}, or restore "
            "it as if it were SDR with --assume-sdr"
        )


def dynamics(transfer: int) -> str:
    """Whether a transfer function, by its code point, is one of HDR, in words: HDR (PQ), HDR (HLG) or SDR."""
    name = colour.HDR_TRANSFERS.get(transfer)
    return "SDR" if name is None else f"HDR ({name})"


def lost_dynamics(frame: VideoFrame, first: int) -> frozenset[str]:
    """What `Stamp.lost` says of a frame in other dynamics than the first: an output has one transfer function.

    first: the code point of the first frame, as it was decoded.
    """
    name = dynamics(int(frame.color_trc))
    if name == dynamics(first):
        return frozenset()
    return frozenset((f"{name} that begins after the first frame (cut the file there to restore each by itself)",))


def tone_map_of(first: VideoFrame) -> ToneMap | None:
    """How a video becomes SDR whose frames are like this one; None if it is no HDR."""
    transfer, primaries = int(first.color_trc), int(first.color_primaries)
    if transfer not in colour.HDR_TRANSFERS:
        return None
    matrix = None if colour.is_rgb(first) else "bt709" if int(first.colorspace) == colour.BT709 else "bt2020"
    known = primaries if primaries in _PRIMARIES else 9
    return ToneMap(transfer, known, matrix, _peak_of(side_data(first)))


def _peak_of(attached: Mapping[str, bytes]) -> float:
    """What the metadata says: the brightest pixel, or else the brightest that the mastering display shows."""
    nits = 0.0
    if len(light := attached.get("CONTENT_LIGHT_LEVEL", b"")) >= 4:
        (nits,) = struct.unpack_from("I", light)
    if not nits and len(mastering := attached.get("MASTERING_DISPLAY_METADATA", b"")) >= 88:
        above, below, *_, known = struct.unpack_from("2i2i", mastering, 72)
        nits = above / below if known and below > 0 else 0.0
    return max(nits / _NITS, 1.0) if nits else _USUAL_PEAK


def sdr(rgb: _Floats, transfer: int, primaries: int = 9, peak: float = _USUAL_PEAK) -> _Floats:
    """SDR of these colours, both [..., 3] from 0 to 1."""
    light = (_light_of_pq(rgb) if transfer == _PQ else _light_of_hlg(rgb, primaries)) @ _between(primaries, 1).T
    largest = np.maximum(light.max(-1, keepdims=True), 1e-6)
    mapped = light * (_hable(largest) / _hable(np.float64(peak)) / largest)
    curved: _Floats = np.clip(mapped, 0, 1) ** (1 / 2.4)
    return curved


def _light_of_pq(values: _Floats) -> _Floats:
    """Linear light, by SMPTE ST 2084."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = values ** (1 / m2)
    light: _Floats = 10000 / _NITS * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return light


def _light_of_hlg(values: _Floats, primaries: int) -> _Floats:
    """Linear light on a display of 1000 nits, by BT.2100."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
    luminance = scene @ _to_xyz(primaries)[1]
    light: _Floats = 1000 / _NITS * scene * luminance[..., None] ** 0.2
    return light


def _hable(light: _Floats | np.float64) -> _Floats | np.float64:
    return (light * (light * 0.15 + 0.05) + 0.004) / (light * (light * 0.15 + 0.5) + 0.06) - 0.02 / 0.3


def _to_xyz(primaries: int) -> _Floats:
    """The matrix from linear RGB to XYZ; white has Y = 1."""
    corners = np.array([[x / y, 1, (1 - x - y) / y] for x, y in _PRIMARIES[primaries]]).T
    x, y = _WHITE
    matrix: _Floats = corners * np.linalg.solve(corners, np.array([x / y, 1, (1 - x - y) / y]))
    return matrix


def _between(source: int, target: int) -> _Floats:
    """The matrix between the linear RGB of two primaries."""
    matrix: _Floats = np.linalg.solve(_to_xyz(target), _to_xyz(source)).astype(np.float64)
    return matrix


@lru_cache(maxsize=1)
def _cube(transfer: int, primaries: int, peak: float) -> str:
    """The table as a .cube file has it: red changes first."""
    axis = np.linspace(0, 1, _SIDE)
    colours = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")[::-1], axis=-1).reshape(-1, 3)
    rows = sdr(colours, transfer, primaries, peak).tolist()
    return "\n".join((f"LUT_3D_SIZE {_SIDE}", *("%.5f %.5f %.5f" % (r, g, b) for r, g, b in rows), ""))  # noqa: UP031


@contextmanager
def _temporary(text: str) -> Iterator[Path]:
    """A file with this text, while the block runs. Raises `MachineError` if it cannot be written."""
    path = Path(tempfile.gettempdir()) / f"swiftvr-{uuid4().hex}.cube"
    try:
        with leaving.creating(path) as release, path.open("x", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise MachineError(
            f"--tonemap cannot write its table to {path} ({error.strerror}); set TMPDIR to a folder with some megabytes"
        ) from error
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        release()


def _escaped(path: Path) -> str:
    """A path as the value of an option of a filter."""
    return "".join(f"\\{mark}" if mark in "\\':" else mark for mark in path.as_posix())
