"""The video engines of an NVIDIA GPU: NVDEC decodes, NVENC encodes, both through FFmpeg.

Decoded frames come down to the host, and frames to encode go up from there; only the coding itself is done by the GPU.
What the GPU or this FFmpeg cannot do is done in software, and a note says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.codec.codec import Codec
    from av.codec.hwaccel import HWAccel

_NVENC = {"libx264": "h264_nvenc", "libx265": "hevc_nvenc", "libsvtav1": "av1_nvenc"}


def nvenc(encoder: str) -> Codec | None:
    """NVIDIA's encoder of the same format; None if there is none in this FFmpeg."""
    from av.codec.codec import Codec, UnknownCodecError

    name = _NVENC.get(encoder)
    try:
        return Codec(name, "w") if name else None
    except UnknownCodecError:
        return None


def nvdec(gpu: int) -> HWAccel:
    """What `av.open` needs to decode on a GPU. Formats that it does not know are decoded in software."""
    from av.codec.hwaccel import HWAccel

    return HWAccel("cuda", str(gpu), allow_software_fallback=True)


@contextmanager
def overheard() -> Iterator[list[str]]:
    """What FFmpeg complains about within the block; it is kept from standard error."""
    from av import logging

    said: list[str] = []
    level, skips = logging.get_level(), logging.get_skip_repeated()
    logging.set_level(logging.ERROR)
    logging.set_skip_repeated(False)  # what is said again is news to us
    try:
        with logging.Capture(local=True) as logs:
            yield said
    finally:
        said += [message.strip() for _, _, message in logs if message.strip()]
        logging.set_level(level)
        logging.set_skip_repeated(skips)


def reason(error: BaseException, said: list[str]) -> str:
    """Why something did not open, on one line: FFmpeg's own words, or the error's."""
    words: Any = said[0] if said else getattr(error, "strerror", None) or error
    return str(words).splitlines()[0]
