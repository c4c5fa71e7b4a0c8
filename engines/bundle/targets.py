"""What bundles are built for: the targets, and the precisions that each of them takes.

`TARGETS` are the ones that `--target` offers. `ONNX` is not among them: it is the target of `swiftvr-export onnx`.

Cards of one compute capability share engines, so a target stands for all of them, and bundles name the target: an
engine that was built for an RTX 4070 is found for an RTX 4090. What a single card can hold is in `cards.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import MisuseError
from ...text import parse_version
from .card_names import close_names, find_card

PRECISIONS = ("fp32", "bf16", "fp16", "fp8", "int8", "nvfp4")
QUANTISED = ("fp8", "int8", "nvfp4")
"""Precisions whose matrix products need scales, which calibration finds."""
BYTES_PER_WEIGHT = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "nvfp4": 0.57}
"""Bytes of one weight in an engine. NVFP4: 4 bits, and an FP8 scale for every 16 weights."""
MULTIPLIES_SINCE = {"int8": (7, 5), "bf16": (8, 0), "fp8": (8, 9), "nvfp4": (10, 0)}
"""Compute capabilities since which GPUs multiply matrices in these formats. All multiply in FP16 and FP32."""

AUTOENCODERS = ("fp16", "int8")
"""Number formats of the autoencoder, beside those of fp32 and bf16. In INT8, convolutions of its decoder are."""

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
    None if it is the machine's own or does not matter. usual_device: `cpu` or `cuda`, where its bundles run unless
    another device is asked for. ready: False if this version cannot build it yet.
    """

    name: str
    description: str
    compiler: str
    extra: str
    precisions: tuple[str, ...]
    sm: str | None = None
    usual_device: str = "cuda"
    ready: bool = True

    @property
    def compute_capability(self) -> str | None:
        """The capability as the driver writes it: `12.0` for `SM120`."""
        return f"{self.sm[2:-1]}.{self.sm[-1]}" if self.sm else None

    @property
    def usual_precision(self) -> str:
        """The precision of a bundle for which none is asked.

        fp32 on a CPU; on a GPU fp8, if it is known to multiply in it, and fp16 otherwise.
        """
        if self.usual_device == "cpu":
            return "fp32"
        return "fp8" if self.sm is not None and "fp8" in self.precisions else "fp16"

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


def _rtx(name: str, sm: str, precisions: tuple[str, ...], description: str) -> Target:
    return Target(name, description, RTX, TENSORRT_EXTRAS[RTX], precisions, sm=sm)


def _trt(name: str, sm: str | None, precisions: tuple[str, ...], description: str) -> Target:
    return Target(name, description, TRT, TENSORRT_EXTRAS[TRT], precisions, sm=sm)


# TensorRT-RTX 1.7.1 refuses BF16 for SM75, FP8 below SM89, FP4 below SM120, and FP32 attention everywhere.
_HALF = ("bf16", "fp16")
_BELOW_FP8 = (*_HALF, "int8")
_BELOW_FP4 = (*_HALF, "fp8", "int8")
_ALL = (*_BELOW_FP4, "nvfp4")

_GRAPHS = "ONNX graphs, to be run by ONNX Runtime or other tools"
ONNX = Target("onnx", _GRAPHS, TORCH, "export", ("fp32", *_BELOW_FP4), usual_device="cpu")
TARGETS = (
    Target("cpu", "any machine, ONNX Runtime on the CPU", ORT, "cpu", ("fp32",), usual_device="cpu"),
    Target("cuda", "any NVIDIA GPU, ONNX Runtime; slower than engines", ORT, "gpu", ("fp32", "fp16")),
    _rtx("rtx5090", "SM120", _ALL, "GeForce RTX 50 series, RTX PRO Blackwell"),
    _rtx("rtx4090", "SM89", _BELOW_FP4, "GeForce RTX 40 series, RTX Ada, L40, L4"),
    _rtx("rtx3090", "SM86", _BELOW_FP8, "GeForce RTX 30 series, RTX A-series, A10"),
    _rtx("rtx2080", "SM75", ("fp16", "int8"), "GeForce RTX 20 series, T4"),
    _rtx("sm80", "SM80", _BELOW_FP8, "A100, A30"),
    _rtx("sm121", "SM121", _ALL, "DGX Spark (GB10)"),
    _trt("h100", "SM90", _BELOW_FP4, "H100 and H200; built on such a GPU"),
    _trt("local", None, _ALL, "the GPU of this machine"),
)


def find_target(name: str, among: Sequence[Target] | None = None) -> Target:
    """The target of this name, card or compute capability (`rtx4090`, `RTX 4070 Ti`, `sm89`).

    among: where to look; None means `ONNX` and all `TARGETS`. Raises `MisuseError` if there is none, or if several
    cards share the name.
    """
    offered = (ONNX, *TARGETS) if among is None else tuple(among)
    wanted = name.strip().casefold()
    for candidate in offered:
        if wanted == candidate.name or (candidate.sm is not None and wanted == candidate.sm.casefold()):
            return candidate
    card = find_card(name)
    if card is None:
        raise _unknown_target(name)
    for candidate in offered:
        if candidate.sm == card.sm:
            return candidate
    raise MisuseError(
        f"there are no engines for the {card.name} ({card.sm}) without it: "
        "build on the machine that has it, with --target local"
    )


def _unknown_target(name: str) -> MisuseError:
    known = ", ".join(target.name for target in TARGETS)
    close = close_names(name)
    hint = f"did you mean {' or '.join(close)}? If not, name" if close else "expected"
    return MisuseError(f"target {name!r} is not known, {hint} a card such as rtx4070, or one of {known}")


def multiplies_in(precision: str, capability: str | None) -> bool:
    """Whether a GPU of this compute capability (e.g. `8.9`) multiplies matrices in this format. True without a GPU:
    ONNX Runtime computes in all of them."""
    return capability is None or parse_version(capability) >= MULTIPLIES_SINCE.get(precision, (0, 0))


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
            f"precision {precision} is not available for {_asked_for(name, chosen)}{_why_not(chosen, precision)}; "
            f"it takes: {', '.join(chosen.precisions)}"
        )
    return chosen


def needs_scales(precision: str, autoencoder: str | None) -> bool:
    """True if something in this precision, or this autoencoder, is quantised with scales, which calibration finds."""
    return precision in QUANTISED or autoencoder is not None


def form_of_graphs(precision: str, autoencoder: str | None) -> int:
    """Goes up when graphs, or the search for their scales, change: bundles of before then are not found any more."""
    return 3 if needs_scales(precision, autoencoder) else 1


def usual_autoencoder(chosen: Target, precision: str) -> str | None:
    """As in `Recipe`: `int8` in engines of quantised precisions, but not for SM75, where its kernels are slower."""
    return "int8" if chosen.compiled and precision in QUANTISED and chosen.sm != "SM75" else None


def choose_autoencoder(chosen: Target, precision: str, wanted: str | None) -> str | None:
    """`int8` for an autoencoder with INT8 in its decoder; None for one in the 16 or 32 bits of the precision.

    wanted: one of `AUTOENCODERS`; None for the usual one. Raises `MisuseError` if it is not available.
    """
    if wanted is None:
        return usual_autoencoder(chosen, precision)
    if wanted == "int8" and (precision == "fp32" or not (chosen.compiled or chosen is ONNX)):
        place = f"precision {precision}" if chosen.compiled or chosen is ONNX else f"target {chosen.name}"
        raise MisuseError(f"--autoencoder int8 is not available for {place}: it is for engines, in 16 bits or fewer")
    if wanted == "fp16" and precision in ("fp32", "bf16"):
        raise MisuseError(f"precision {precision} has an autoencoder in {precision}: leave --autoencoder out")
    return None if wanted == "fp16" else wanted


def _asked_for(name: str, chosen: Target) -> str:
    """A target by its own name, a card by the card's."""
    card = None if name == chosen.name else find_card(name)
    return f"target {chosen.name}" if card is None else f"the {card.name}"


def _why_not(chosen: Target, precision: str) -> str:
    """The reason in brackets; empty if the message is clear without one."""
    if precision == "nvfp4" and not chosen.compiled:
        return " (its graphs hold an operator that only TensorRT has: use build-engine --target rtx5090)"
    if precision not in PRECISIONS or not chosen.compiled:
        return ""
    if precision == "fp32":
        return f" ({chosen.compiler} has no fused attention in FP32, and without it scores fill the memory)"
    return f" ({chosen.sm} cannot compute in it)"
