"""Video on an NVIDIA GPU, through FFmpeg: NVDEC decodes, NVENC encodes.

Decoded frames are copied to the host, and frames to encode are copied to the GPU. Software takes over what the GPU or
this FFmpeg cannot do, and a note says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
