"""`calibration.json`: the scales of a bundle in fp8, int8 or nvfp4, as its build measured them.

    {"format": 1, "checkpoint": "...", "source": "sample.mp4, 52 frames at 640x352", "percentile": 100.0,
     "largest": {"blocks.0.attention.qkv": 7.31, "blocks.0.attention.q": 12.9, ...},
     "int8": {"blocks.0.attention.qkv": {"bits": 8, "decibels": 36.1, "largest": 3.1, "shifts": [0, 2, -1, ...]}, ...}}

`bits` and `largest` may be edited. `largest` is the magnitude mapped to the end of the format's range; larger values
saturate. `int8` is there if something was tried in INT8: `bits` decides whether a linear, or a convolution of the
decoder, multiplies in INT8 or in 16 bits. The other numbers say what was measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ...errors import BundleError, MisuseError
from ...outside import Door, Fields, read_json

CALIBRATION_FILE = "calibration.json"
LOWEST_PERCENTILE = 90.0
MOST_DECIBELS = 200.0
"""Stands for no error at all, which JSON has no number for."""
_FORMAT = 1
_DOOR = Door("calibration file", MisuseError, "mend it, or omit --calibration to make one", max_bytes=1 << 24)
BUNDLED_DOOR = replace(_DOOR, error=BundleError, remedy="rebuild the bundle")
_MOST = 3.4028234663852886e38
"""The largest number of float32."""
_MAX_PRODUCTS = 1 << 16
MOST_SHIFT = 12
"""Powers of two up to this one are exact in every 16-bit type."""
_MOST_INPUTS = 1 << 16
_LIST = re.compile(r"\[[-\d,\s]*\](?=,?\n)")


CONVOLUTIONS_IN = "decoder."
"""How the names of convolutions begin; those of linears do not."""


@dataclass(frozen=True)
class Int8Scales:
    """How a linear, or a convolution of the decoder, is computed in INT8. A convolution has no shifts.

    bits: 8 for INT8, 16 for the 16-bit type. decibels: measured on real frames in FP32, for a linear the
    signal-to-noise ratio of its result, for a convolution the PSNR of the pixels with this one alone in INT8. shifts:
    input channel k is divided by 2 ** shifts[k], and the weight multiplied, before both are quantised. largest: the
    largest magnitude of the input after that.
    """

    bits: int
    decibels: float
    largest: float
    shifts: tuple[int, ...]


@dataclass(frozen=True)
class Calibration:
    """The scales of a checkpoint's quantised products.

    checkpoint: its digest. source: the frames used, in words. percentile: of the magnitudes in each chunk, for INT8
    linears of those in each channel; 100 is their maximum. largest: by name of a product's input, the largest magnitude
    to represent. int8: by name of a linear or convolution.
    """

    checkpoint: str
    source: str
    percentile: float
    largest: Mapping[str, float]
    int8: Mapping[str, Int8Scales] = field(default_factory=dict)

    def to_json(self) -> str:
        """JSON with a line per number or list of numbers."""
        fields = {"format": _FORMAT, **asdict(self)}
        if not self.int8:
            del fields["int8"]
        return (
            _LIST.sub(lambda found: "".join(found[0].split()).replace(",", ", "), json.dumps(fields, indent=1)) + "\n"
        )


def read_calibration(path: Path, checkpoint: str | None = None, door: Door = _DOOR) -> Calibration:
    """Read a calibration file. Raises the error of `door` if it is malformed, `MisuseError` if of another checkpoint.

    checkpoint: the digest of the expected one; None for any. door: that for files of users, or `BUNDLED_DOOR`.
    """
    fields = read_json(path, door)
    if fields.integer("format", 1, 1 << 16) != _FORMAT:
        fields.refuse("format", str(_FORMAT))
    largest = fields.child("largest")
    found = Calibration(
        checkpoint=fields.digest("checkpoint"),
        source=fields.text("source"),
        percentile=fields.number("percentile", LOWEST_PERCENTILE, 100),
        largest={name: largest.number(name, 0, _MOST) for name in largest.names_of_fields(_MAX_PRODUCTS)},
        int8=_read_int8(fields.child("int8")) if "int8" in fields else {},
    )
    if checkpoint not in (None, found.checkpoint):
        raise MisuseError(
            f"{path}: made for checkpoint {found.checkpoint[:12]}, this one is {str(checkpoint)[:12]}; "
            "omit --calibration to calibrate it"
        )
    return found


def _read_int8(fields: Fields) -> dict[str, Int8Scales]:
    return {name: _read_scales(fields.child(name)) for name in fields.names_of_fields(_MAX_PRODUCTS)}


def _read_scales(fields: Fields) -> Int8Scales:
    if fields.value("bits", None) not in (8, 16):
        fields.refuse("bits", "8 or 16")
    return Int8Scales(
        fields.integer("bits", 8, 16),
        fields.number("decibels", 0, MOST_DECIBELS),
        fields.number("largest", 0, _MOST),
        fields.integers("shifts", -MOST_SHIFT, MOST_SHIFT, _MOST_INPUTS),
    )
