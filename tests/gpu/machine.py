"""What the tests ask of the machine: memory that grows, and the parts that code video."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

import pytest

from swiftvr_trt.cli.doctor import diagnose
from swiftvr_trt.engines.bundle.cache import default_root

MOST_GROWTH_PER_CHUNK = 32 << 10
"""Bytes of GPU memory. Less than the smallest thing that a chunk could lose, a frame that came in (90x160: 43 kB).

More than chance: the driver gives memory in pieces of 2 MiB, so in 100 chunks this is more than one piece.
"""

_NO_NVENC = ("8.0", "9.0", "10.0", "10.3")
"""Compute capabilities of A100 and A30, H100 and H200, B200, B300: NVIDIA's table says that they have no NVENC."""
_NOT_OUR_FAULT = (
    "unsupported device",
    "no encode device",
    "nvenc api version",
    "minimum required nvidia driver",
)
"""FFmpeg's words for a GPU that has no encoder, and for a driver that is older than the encoder's interface."""


def gpu_bytes_taken(device: str) -> int:
    """Memory of the GPU that is taken, by whomever, against a fixed but unknown zero; 0 for the CPU."""
    if device == "cpu":
        return 0
    from swiftvr_trt.runtime.devices.gpu import Gpu

    return -(Gpu(0).free_bytes() or 0)


def growth_per_chunk(taken: Sequence[int], chunks: int) -> float:
    """Bytes per chunk, from readings with `chunks` chunks from each to the next.

    Others use the GPU, too, above all if a desktop is on it: what a window takes or gives back is in the readings. But
    it comes and goes in steps, and a leak goes on. So it is the growth between most readings that counts: the median.
    """
    return statistics.median(after - before for before, after in itertools.pairwise(taken)) / chunks


def need_video(purpose: str) -> None:
    """Skip the test, with what the doctor says is missing, if there is something. purpose: `decode` or `encode`."""
    (found,) = (each for each in diagnose(default_root()).purposes if each.name.startswith(f"{purpose} video"))
    if not found.ready:
        pytest.skip(f"{found.name}: {', '.join(found.missing)} missing; {found.remedy}")


def no_encoder(notes: Sequence[str], compute_capability: str) -> str:
    """Why this GPU or its driver cannot encode, if that is what the notes of a sink say; empty if not."""
    for note in notes:
        if compute_capability in _NO_NVENC or any(words in note.lower() for words in _NOT_OUR_FAULT):
            return f"compute capability {compute_capability}: {note}"
    return ""
