"""What bundles are built for: the targets, and the precisions that each of them takes.

`TARGETS` are the ones that `--target` offers. `ONNX` is not among them: it is the target of `swiftvr-export onnx`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import MisuseError

PRECISIONS = ("fp32", "bf16", "fp16", "fp8", "nvfp4")
QUANTISED = ("fp8", "nvfp4")
"""Precisions whose matrix products need scales, which calibration finds."""
BYTES_PER_WEIGHT = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "nvfp4": 0.57}
"""Bytes of one weight in an engine. NVFP4: 4 bits, and an FP8 scale for every 16 weights."""

TORCH, ORT, RTX, TRT = "torch.onnx", "ONNX Runtime", "TensorRT-RTX", "TensorRT"
TENSORRT_MODULES = {RTX: "tensorrt_rtx", TRT: "tensorrt"}
"""For each compiler of engines, the Python module that compiles and runs them."""
TENSORRT_EXTRAS = {RTX: "rtx", TRT: "tensorrt"}
"""For each compiler of engines, the extra of this package that installs its module."""


@dataclass(frozen=True)
class Target:
    """Where a bundle runs.

    compiler: what makes the stages; for graphs of ONNX Runtime, what runs them. extra: extra of this package that
    installs it. precisions: those the target takes. sm: compute capability that the compiler is told, e.g. `SM120`;
    None if it is the machine's own or does not matter. also: other names for the target. usual_device: `cpu` or `cuda`,
    where its bundles run unless another device is asked for. ready: False if this version cannot build it yet.
    """

    name: str
    description: str
    compiler: str
    extra: str
    precisions: tuple[str, ...]
    sm: str | None = None
    also: tuple[str, ...] = ()
    usual_device: str = "cuda"
    ready: bool = True

    @property
    def compute_capability(self) -> str | None:
        """The capability as the driver writes it: `12.0` for `SM120`."""
        return f"{self.sm[2:-1]}.{self.sm[-1]}" if self.sm else None

    @property
    def compiled(self) -> bool:
        """True if its bundles hold engines, which run on a GPU only; False if they hold graphs."""
        return self.compiler in TENSORRT_MODULES

    @property
    def runs_on_cpu(self) -> bool:
        """True if its bundles run on a CPU: ONNX Runtime runs all graphs there, whatever they were built for."""
        return not self.compiled

    @property
    def command(self) -> str:
        """The command of `swiftvr-export` that builds for it."""
        return "onnx" if self.compiler == TORCH else f"build-engine --target {self.name}"


def _cards(*models: int) -> tuple[str, ...]:
    return tuple(f"rtx{model}" for model in models)


def _rtx(name: str, sm: str, precisions: tuple[str, ...], description: str, *also: str) -> Target:
    return Target(name, description, RTX, TENSORRT_EXTRAS[RTX], precisions, sm=sm, also=also)


def _trt(name: str, sm: str | None, precisions: tuple[str, ...], description: str) -> Target:
    return Target(name, description, TRT, TENSORRT_EXTRAS[TRT], precisions, sm=sm)


# TensorRT-RTX 1.7.1 refuses BF16 for SM75, FP8 below SM89, FP4 below SM120, and FP32 attention everywhere.
_HALF = ("bf16", "fp16")
_BELOW_FP4 = (*_HALF, "fp8")
_ALL = (*_BELOW_FP4, "nvfp4")

_GRAPHS = "ONNX graphs, to be run by ONNX Runtime or other tools"
ONNX = Target("onnx", _GRAPHS, TORCH, "export", ("fp32", *_BELOW_FP4), usual_device="cpu")
TARGETS = (
    Target("cpu", "any machine, ONNX Runtime on the CPU", ORT, "cpu", ("fp32",), usual_device="cpu"),
    Target("cuda", "any NVIDIA GPU, ONNX Runtime; slower than engines", ORT, "gpu", ("fp32", "fp16")),
    _rtx("rtx5090", "SM120", _ALL, "GeForce RTX 50 series, RTX PRO Blackwell", *_cards(5080, 5070, 5060, 5050)),
    _rtx("rtx4090", "SM89", _BELOW_FP4, "GeForce RTX 40 series, RTX Ada, L40, L4", *_cards(4080, 4070, 4060, 4050)),
    _rtx("rtx3090", "SM86", _HALF, "GeForce RTX 30 series, RTX A-series, A10", *_cards(3080, 3070, 3060, 3050)),
    _rtx("rtx2080", "SM75", ("fp16",), "GeForce RTX 20 series, T4", *_cards(2070, 2060)),
    _rtx("sm80", "SM80", _HALF, "A100, A30", "a100"),
    _rtx("sm121", "SM121", _ALL, "DGX Spark (GB10)"),
    _trt("h100", "SM90", _BELOW_FP4, "H100 and H200, SM90; built on such a GPU"),
    _trt("local", None, _ALL, "the GPU of this machine"),
)


def find_target(name: str, among: Sequence[Target] | None = None) -> Target:
    """The target of this name, card or compute capability (`rtx4090`, `rtx4070`, `sm89`); `MisuseError` if none is.

    among: where to look; None means `ONNX` and all `TARGETS`.
    """
    for candidate in (ONNX, *TARGETS) if among is None else among:
        sm = candidate.sm.lower() if candidate.sm else ""
        if name.lower() in (candidate.name, sm, *candidate.also):
            return candidate
    raise MisuseError(f"target {name!r} is not known, expected one of {', '.join(t.name for t in TARGETS)}")


def bundle_target(name: str) -> Target:
    """The target that a bundle names. A target that only a later version knows is taken for one with engines.

    Whether such engines fit is checked when they are loaded, as for any others.
    """
    try:
        return find_target(name)
    except MisuseError:
        return Target(name, "a target that this version does not know", RTX, TENSORRT_EXTRAS[RTX], PRECISIONS)


def choose_target(name: str, precision: str) -> Target:
    """The target to build for. `MisuseError` if it is unknown, cannot be built yet, or lacks this precision."""
    chosen = find_target(name)
    if not chosen.ready:
        ready = ", ".join(t.name for t in TARGETS if t.ready)
        raise MisuseError(f"target {name} ({chosen.compiler}) cannot be built by this version yet; it builds: {ready}")
    if precision not in chosen.precisions:
        raise MisuseError(
            f"precision {precision} is not available for target {chosen.name}{_why_not(chosen, precision)}; "
            f"it takes: {', '.join(chosen.precisions)}"
        )
    return chosen


def _why_not(chosen: Target, precision: str) -> str:
    """The reason in brackets; empty if the message is clear without one."""
    if precision == "nvfp4" and not chosen.compiled:
        return " (its graphs hold an operator that only TensorRT has: use build-engine --target rtx5090)"
    if precision not in PRECISIONS or not chosen.compiled:
        return ""
    if precision == "fp32":
        return f" ({chosen.compiler} has no fused attention in FP32, and without it scores fill the memory)"
    return f" ({chosen.sm} cannot compute in it)"
