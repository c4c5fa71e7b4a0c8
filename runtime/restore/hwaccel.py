"""Choose the GPU that decodes and encodes video."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ...errors import MisuseError
from ...installing import install_command
from ...text import LineCallback
from ..devices.driver import has_driver
from ..devices.gpu import gpu_index

if TYPE_CHECKING:
    from ..media import SinkOptions

MODES = ("none", "auto", "cuda", "surfaces")
"""none: in software. auto: on the GPU if there is one. cuda: the same, and warn if there is none. surfaces: as cuda,
and frames stay in the memory of the GPU from the decoder to the encoder."""


def video_gpu(mode: str, device: str | None, say: LineCallback) -> int | None:
    """The number of the GPU that decodes and encodes video; None for software.

    It is the GPU that restores, or the first one if the CPU restores. mode: one of `MODES`. device: as in
    `Restorer.open`. say: gets a line if `mode` is `cuda` or `surfaces` and there is no driver. Raises `MisuseError` for
    another mode.
    """
    if mode not in MODES:
        raise MisuseError(f"hwaccel is {mode!r}, expected one of {', '.join(MODES)}")
    if mode == "none":
        return None
    if not has_driver():
        if mode != "auto":
            say(f"video is decoded and encoded in software: no NVIDIA driver was found for --hwaccel {mode}")
        return None
    return 0 if device in (None, "cpu") else gpu_index(str(device))


def on_gpu(sink: SinkOptions, mode: str, device: str | None, say: LineCallback) -> SinkOptions:
    """The options with the GPU that decodes and encodes, and whether frames may stay there. See `video_gpu`."""
    gpu = video_gpu(mode, device, say)
    surfaces = mode == "surfaces" and gpu is not None
    if surfaces and not _has_cuda_core():
        say(f"frames go through the host: --hwaccel surfaces needs cuda-core, {install_command('cuda')}")
        surfaces = False
    return replace(sink, gpu=gpu, surfaces=surfaces)


def _has_cuda_core() -> bool:
    try:
        return find_spec("cuda.core") is not None
    except ModuleNotFoundError:
        return False
