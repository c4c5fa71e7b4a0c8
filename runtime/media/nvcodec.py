"""Video on an NVIDIA GPU, through FFmpeg: NVDEC decodes, NVENC encodes.

Decoded frames are copied to the host, and frames to encode are copied to the GPU. Software takes over what the GPU or
this FFmpeg cannot do, and a note says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...text import first_line

if TYPE_CHECKING:
    from av.codec.codec import Codec
    from av.codec.hwaccel import HWAccel

_NVENC = {"libx264": "h264_nvenc", "libx265": "hevc_nvenc", "libsvtav1": "av1_nvenc"}


def nvenc(encoder: str) -> Codec | None:
    """NVIDIA's encoder for the same format, or None if this FFmpeg has none."""
    from av.codec.codec import Codec, UnknownCodecError

    name = _NVENC.get(encoder)
    try:
        return Codec(name, "w") if name else None
    except UnknownCodecError:
        return None


def nvdec(gpu: int) -> HWAccel:
    """The setting for `av.open` to decode on a GPU. FFmpeg decodes formats that NVDEC does not know in software."""
    from av.codec.hwaccel import HWAccel

    return HWAccel("cuda", str(gpu), allow_software_fallback=True)


@contextmanager
def ffmpeg_errors() -> Iterator[list[str]]:
    """Collect the errors that FFmpeg logs within the block, instead of writing them to stderr.

    The list is filled when the block ends.
    """
    from av import logging

    said: list[str] = []
    level, skips = logging.get_level(), logging.get_skip_repeated()
    logging.set_level(logging.ERROR)
    logging.set_skip_repeated(False)  # an error that was logged before this block counts here too
    try:
        with logging.Capture(local=True) as logs:
            yield said
    finally:
        said += [message.strip() for _, _, message in logs if message.strip()]
        logging.set_level(level)
        logging.set_skip_repeated(skips)


def first_error(said: list[str], error: BaseException) -> str:
    """Why something did not open, in one line: the first line that FFmpeg logged, or else the message of `error`."""
    return first_line(said[0] if said else getattr(error, "strerror", None) or error)
