"""Decides which GPU decodes and encodes video."""

from __future__ import annotations

from collections.abc import Callable

from swiftvr_trt.errors import MisuseError
from swiftvr_trt.runtime.devices.driver import has_driver

MODES = ("none", "auto", "cuda")
"""none: in software. auto: on the GPU if there is one. cuda: the same, but say so if there is none."""


def video_gpu(mode: str, device: str | None, tell: Callable[[str], None]) -> int | None:
    """The number of the GPU that decodes and encodes video, or None for software. It is the GPU that restores, if any.

    mode: one of `MODES`. device: as in `Restorer.open`. tell: is called with one line if `cuda` finds no GPU.
    """
    from swiftvr_trt.runtime.devices.gpu import gpu_index

    if mode not in MODES:
        raise MisuseError(f"hwaccel is {mode!r}, expected one of {', '.join(MODES)}")
    if mode == "none":
        return None
    if not has_driver():
        if mode == "cuda":
            tell("video is decoded and encoded in software: no NVIDIA driver was found for --hwaccel cuda")
        return None
    return 0 if device in (None, "cpu") else gpu_index(str(device))
