"""The machine under test: how much GPU memory is taken, and whether the GPU decodes and encodes video."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

import pytest

from swiftvr_trt.cli.doctor import diagnose
from swiftvr_trt.engines.bundle.cache import default_root

MOST_GROWTH_PER_CHUNK = 32 << 10
"""Bytes of GPU memory: less than the smallest buffer that a chunk could leak, an input frame (90x160: 43 kB).

The limit is above the noise: the driver allocates 2 MiB at a time, and 100 chunks at this rate are more than that.
"""

_NO_NVENC = ("8.0", "9.0", "10.0", "10.3")
"""Compute capabilities of A100 and A30, H100 and H200, B200, B300, which have no NVENC by NVIDIA's table."""
_NOT_OUR_FAULT = (
    "unsupported device",
    "no encode device",
    "nvenc api version",
    "minimum required nvidia driver",
)
"""What FFmpeg says about a GPU without an encoder, and about a driver older than the encoder's interface."""


def gpu_bytes_taken(device: str) -> int:
    """GPU memory taken by all processes, relative to a fixed but unknown zero; 0 for the CPU."""
    if device == "cpu":
        return 0
    from swiftvr_trt.runtime.devices.gpu import Gpu

    return -(Gpu(0).free_bytes() or 0)


def growth_per_chunk(taken: Sequence[int], chunks: int) -> float:
    """Bytes per chunk, from readings with `chunks` chunks from each to the next.

    Other programs use the GPU as well, above all a desktop; their memory comes and goes in steps, while a leak grows
    all the time. So the median of the growth between readings counts.
    """
    return statistics.median(after - before for before, after in itertools.pairwise(taken)) / chunks


def need_video(purpose: str) -> None:
    """Skip the test if the doctor says that something is missing. purpose: `decode` or `encode`."""
    (found,) = (each for each in diagnose(default_root()).purposes if each.name.startswith(f"{purpose} video"))
    if not found.ready:
        pytest.skip(f"{found.name}: {', '.join(found.missing)} missing; {found.remedy}")


def no_encoder(notes: Sequence[str], compute_capability: str) -> str:
    """Why this GPU or its driver cannot encode, if the notes of a sink say so; else empty."""
    for note in notes:
        if compute_capability in _NO_NVENC or any(words in note.lower() for words in _NOT_OUR_FAULT):
            return f"compute capability {compute_capability}: {note}"
    return ""
