"""Choose the GPU that decodes and encodes video."""

from __future__ import annotations

from ...errors import MisuseError
from ...text import LineCallback
from ..devices.driver import has_driver
from ..devices.gpu import gpu_index

MODES = ("none", "auto", "cuda")
"""none: in software. auto: on the GPU if there is one. cuda: the same, and warn if there is none."""


def video_gpu(mode: str, device: str | None, say: LineCallback) -> int | None:
    """The number of the GPU that decodes and encodes video; None for software.

    It is the GPU that restores, or the first one if the CPU restores. mode: one of `MODES`. device: as in
    `Restorer.open`. say: gets a line if `mode` is `cuda` and there is no driver. Raises `MisuseError` for another mode.
    """
    if mode not in MODES:
        raise MisuseError(f"hwaccel is {mode!r}, expected one of {', '.join(MODES)}")
    if mode == "none":
        return None
    if not has_driver():
        if mode == "cuda":
            say("video is decoded and encoded in software: no NVIDIA driver was found for --hwaccel cuda")
        return None
    return 0 if device in (None, "cpu") else gpu_index(str(device))
