"""What can be built for what: the table of targets and precisions, and the refusals that need no build to be known."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import MisuseError
from .manifest import PRECISIONS


@dataclass(frozen=True)
class Target:
    """Where a bundle runs. `extra` is what must be installed to build and run it; `ready`: this version can.

    compute_capability: what the compiler is told, e.g. `SM120`; None if it is that of the machine, or of no interest.
    """

    name: str
    description: str
    compiler: str
    extra: str
    precisions: tuple[str, ...]
    ready: bool = False
    compute_capability: str | None = None


_RTX = "TensorRT-RTX"
_TRT = "TensorRT"
_HALF = ("fp32", "bf16", "fp16")

TARGETS = (
    Target("cpu", "any machine, ONNX Runtime on the CPU", "ONNX Runtime", "cpu", ("fp32",), ready=True),
    Target("cuda", "an NVIDIA GPU through ONNX Runtime", "ONNX Runtime", "gpu", _HALF),
    Target("rtx5090", "GeForce RTX 50 series, SM120", _RTX, "rtx", PRECISIONS, compute_capability="SM120"),
    Target("rtx4090", "GeForce RTX 40 series, SM89", _RTX, "rtx", (*_HALF, "fp8"), compute_capability="SM89"),
    Target("rtx3090", "GeForce RTX 30 series, SM86", _RTX, "rtx", _HALF, compute_capability="SM86"),
    Target("h100", "H100, SM90", _TRT, "tensorrt", (*_HALF, "fp8")),
    Target("local", "the GPU of this machine", _TRT, "tensorrt", PRECISIONS),
)


def target(name: str) -> Target:
    """Look a target up by name."""
    for candidate in TARGETS:
        if candidate.name == name:
            return candidate
    raise MisuseError(f"target {name!r} is not known, expected one of {', '.join(t.name for t in TARGETS)}")


def check_buildable(name: str, precision: str) -> Target:
    """The target, or `MisuseError` in one line if this version cannot build it, or not with this precision."""
    chosen = target(name)
    if not chosen.ready:
        ready = ", ".join(t.name for t in TARGETS if t.ready)
        raise MisuseError(f"target {name} ({chosen.compiler}) cannot be built by this version yet; it builds: {ready}")
    if precision not in chosen.precisions:
        raise MisuseError(
            f"precision {precision} is not available for target {name}, which takes: {', '.join(chosen.precisions)}"
        )
    return chosen
