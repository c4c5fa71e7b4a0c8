"""How large an output may become: rough bounds, since the picture decides. Pure."""

from __future__ import annotations

from .base import OutputForm
from .codecs import quality_of

_LOSSY = (0.02, 1.0)
"""Bits per pixel at the usual quality, from drawings to grain. 1280x720 at 25 frames/s: 0.5 to 23 Mbit/s."""
_OLD = (0.3, 6.0)
"""The same of JPEG, MPEG-4 and their like at their best quality."""
_LOSSLESS = (0.1, 1.0)
"""Compressed size relative to the raw one."""
_HALVES = 6
"""Steps of quality that halve the size."""
_BITS = {"420": 12, "422": 16, "444": 24}
_OLD_CODECS = frozenset({"mjpeg", "mpeg4", "mpeg2video", "mpeg1video", "msmpeg4", "msmpeg4v2", "h263p", "flv"})


def expected_bytes(form: OutputForm, pixels: int) -> tuple[int, int]:
    """The least and the most that the pictures of an output may take. pixels: of all pictures together."""
    usual = quality_of(form.codec, None)
    if usual is not None and form.crf is not None:
        factor = 2 ** ((usual - form.crf) / _HALVES)
        low, high = (bits * factor for bits in _LOSSY)
    elif form.codec in _OLD_CODECS:
        low, high = _OLD
    else:
        raw = next((bits for name, bits in _BITS.items() if name in form.pix_fmt), 24)
        low, high = (share * raw for share in _LOSSLESS)
    most = 24.0  # an encoder stores no more than the raw picture
    return int(pixels * min(low, most) / 8), int(pixels * min(high, most) / 8)
