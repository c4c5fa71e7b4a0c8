"""Video on an NVIDIA GPU, through FFmpeg: NVDEC decodes, NVENC encodes.

Decoded frames are copied to the host, and frames to encode are copied to the GPU, unless they are to stay there: see
`surfaces`. Software takes over what the GPU or this FFmpeg cannot do, and a note says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import MediaError
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


def in_software(encoder: str) -> str:
    """The encoder for the same format that needs no GPU. Others stay as they are."""
    return next((name for name, on_gpu in _NVENC.items() if on_gpu == encoder), encoder)


def nvdec(gpu: int, *, surfaces: bool = False) -> HWAccel:
    """The setting for `av.open` to decode on a GPU. FFmpeg decodes formats that NVDEC does not know in software.

    surfaces: frames stay on the GPU. Call it in the thread that opens the video then.
    """
    from av.codec.hwaccel import HWAccel

    options = shared_context(gpu) if surfaces else None
    return HWAccel("cuda", str(gpu), allow_software_fallback=True, options=options, is_hw_owned=surfaces)


def surface_encoder(gpu: int) -> HWAccel:
    """The setting for `add_stream` of an encoder that takes frames on a GPU. Call it in the thread that opens it."""
    from av.codec.hwaccel import HWAccel

    return HWAccel("cuda", str(gpu), options=shared_context(gpu))


def shared_context(gpu: int) -> dict[str, object]:
    """FFmpeg's options to use the CUDA context that the bundle uses, which is made current in this thread.

    That is the primary context. Asked for it by that name (`primary_ctx`), FFmpeg refuses it unless it was made with
    flags of FFmpeg's own choice. Addresses of another context mean nothing to NVENC. Raises `MediaError` without that
    GPU.
    """
    try:
        from cuda.core import Device

        Device(gpu).set_current()
    except Exception as error:  # whatever cuda-core and the driver raise: then frames go through the host
        raise MediaError(f"GPU {gpu} cannot be used ({first_line(error)})") from error
    return {"primary_ctx": "0", "current_ctx": "1"}
