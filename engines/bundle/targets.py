"""What can be built for what: the table of targets and precisions, and the refusals that need no build to be known."""

from __future__ import annotations

from dataclasses import dataclass

from swiftvr_trt.errors import MisuseError

from .manifest import PRECISIONS

ORT, RTX, TRT = "ONNX Runtime", "TensorRT-RTX", "TensorRT"


@dataclass(frozen=True)
class Target:
    """Where a bundle runs. `extra` is what must be installed to build and run it; `ready`: this version can.

    sm: the compute capability that the compiler is told, e.g. `SM120`; None where it is that of the machine, or of no
    interest. also: other names under which people look for the target.
    """

    name: str
    description: str
    compiler: str
    extra: str
    precisions: tuple[str, ...]
    ready: bool = False
    sm: str | None = None
    also: tuple[str, ...] = ()

    @property
    def compute_capability(self) -> str | None:
        """`SM120` -> `12.0`, as the driver words it."""
        return f"{self.sm[2:-1]}.{self.sm[-1]}" if self.sm else None

    @property
    def compiled(self) -> bool:
        """True if its bundles hold engines, not graphs."""
        return self.compiler != ORT


def _series(*models: str) -> tuple[str, ...]:
    return tuple(f"rtx{model}" for model in models)


# Seen with TensorRT-RTX 1.7.1: BF16 is refused for SM75, FP8 below SM89, FP4 below SM120; FP32 attention everywhere.
_HALF = ("bf16", "fp16")
_BELOW_FP4 = (*_HALF, "fp8")
_ALL = (*_BELOW_FP4, "nvfp4")

TARGETS = (
    Target("cpu", "any machine, ONNX Runtime on the CPU", ORT, "cpu", ("fp32",), ready=True),
    Target("cuda", "any NVIDIA GPU, ONNX Runtime; slower than engines", ORT, "gpu", ("fp32", "fp16"), ready=True),
    Target(
        "rtx5090",
        "GeForce RTX 50 series, RTX PRO Blackwell",
        RTX,
        "rtx",
        _ALL,
        ready=True,
        sm="SM120",
        also=_series("5080", "5070", "5060", "5050"),
    ),
    Target(
        "rtx4090",
        "GeForce RTX 40 series, RTX Ada, L40, L4",
        RTX,
        "rtx",
        _BELOW_FP4,
        ready=True,
        sm="SM89",
        also=_series("4080", "4070", "4060", "4050"),
    ),
    Target(
        "rtx3090",
        "GeForce RTX 30 series, RTX A-series, A10",
        RTX,
        "rtx",
        _HALF,
        ready=True,
        sm="SM86",
        also=_series("3080", "3070", "3060", "3050"),
    ),
    Target(
        "rtx2080",
        "GeForce RTX 20 series, T4",
        RTX,
        "rtx",
        ("fp16",),
        ready=True,
        sm="SM75",
        also=_series("2070", "2060"),
    ),
    Target("sm80", "A100, A30", RTX, "rtx", _HALF, ready=True, sm="SM80", also=("a100",)),
    Target("sm121", "DGX Spark (GB10)", RTX, "rtx", _ALL, ready=True, sm="SM121"),
    Target("h100", "H100 and H200, SM90; built on such a GPU", TRT, "tensorrt", _BELOW_FP4, ready=True, sm="SM90"),
    Target("local", "the GPU of this machine", TRT, "tensorrt", _ALL, ready=True),
)


def target(name: str) -> Target:
    """Look a target up by its name, by the name of a card of its series, or by its compute capability."""
    for candidate in TARGETS:
        sm = candidate.sm.lower() if candidate.sm else ""
        if name.lower() in (candidate.name, sm, *candidate.also):
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
            f"precision {precision} is not available for target {chosen.name}{_why_not(chosen, precision)}; "
            f"it takes: {', '.join(chosen.precisions)}"
        )
    return chosen


def check_executable(precision: str) -> None:
    """`MisuseError` in one line if ONNX Runtime cannot execute the graphs of this precision as they are."""
    if precision == "nvfp4":
        takes = ", ".join(name for name in PRECISIONS if name != precision)
        raise MisuseError(
            f"precision {precision} is not available as ONNX (an operator in its graphs is TensorRT's own); "
            f"it takes: {takes}; for {precision} use build-engine --target rtx5090"
        )


def _why_not(chosen: Target, precision: str) -> str:
    """The reason, where it is not plain."""
    if precision not in PRECISIONS or not chosen.compiled:
        return ""
    if precision == "fp32":
        return f" ({chosen.compiler} has no fused attention in FP32, and without it scores fill the memory)"
    return f" ({chosen.sm} cannot compute in it)"
