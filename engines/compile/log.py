"""What a TensorRT compiler made, read from its own log: every kernel with its tensors, and the memory it will take.

With detailed profiling verbosity and a verbose logger, the log of a build ends with one line per compiled kernel, in
the order of execution, first for optimization profile 0, then for profile 1, and so on:

    Name: _gemm_mha_v2_myl0_5, LayerType: kgen, Inputs: [ { Name: ..., Dimensions: [4,128,128], ..., Datatype: Half,
    ... }], Constants: [...], Outputs: [...], TacticName: ..., StreamId: 0, Metadata: [ONNX Layer: Attention_13]

No GPU is needed to read it, and nothing here executes anything: pure functions over text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

ATTENTION, GEMM, CONV, ELEMENTWISE, MOVE, QUANTIZE, RESIZE, OTHER = KINDS = (
    "fused attention",
    "gemm",
    "convolution",
    "norm and elementwise",
    "copy and transposition",
    "quantize",
    "resize",
    "other",
)
"""What kernels are counted as."""

_CONVOLUTIONS = frozenset({"correlation", "deconv", "conv", "convolution"})
_MOVES = frozenset({"Move", "Tran", "Resh", "Slic", "Conc", "Gath", "Copy", "Repl", "Expa", "Sque", "Unsq", "Cast"})
_ROUNDING = frozenset({"Mul", "Div", "Min", "Max", "Roun", "Dyna"})
_GENERATED = frozenset({"kgen", "runtime_fusion", "runtime_function"})
_MATRIX = frozenset({"Fc", "Dot", "Gemm", "Bmm", "Matm"})

_ON_THE_HOST = frozenset({"shape_call"})
_BITS = {"FP4": 4, "FP8": 8, "Int8": 8, "UInt8": 8, "Half": 16, "BFloat16": 16, "Float": 32}

_FP4_FORMAT = "E2M1"
"""The compiler writes FP8 for E4M3, but FP4E2M1; here formats are called by their width."""

_KERNEL = re.compile(r"^Name: (?P<name>.+?), LayerType: (?P<layer>\w+), Inputs: \[(?P<rest>.*)$", re.MULTILINE)
_TENSOR = re.compile(r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<dims>[-\d,]*)\].*?Datatype: (?P<dtype>\w+)")
_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_GRAPH = re.compile(r"_myl(\d+)_\d+$")
_PROFILE = re.compile(r"\[profile (\d+)\]")
_PARTS = re.compile(r"[A-Z][a-z0-9]*")
_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")
_WEIGHTS = re.compile(r"Total Weights Memory: (\d+) bytes")


@dataclass(frozen=True)
class Tensor:
    """A tensor as the compiler lists it; `dtype` is its word for it: Float, Half, BFloat16, FP8, FP4, ..."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def with_sides(self, *sides: int) -> Tensor:
        """Sides that are free, which the compiler writes as -1, replaced in the order in which they stand."""
        left = iter(sides)
        return replace(self, shape=tuple(next(left, 1) if side < 0 else side for side in self.shape))


@dataclass(frozen=True)
class Kernel:
    """One compiled kernel. `layer` is the compiler's word for what it is, `sources` are the ONNX nodes it executes."""

    name: str
    layer: str
    profile: int
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    sources: tuple[str, ...]

    def with_sides(self, *sides: int) -> Kernel:
        """The same for all of its tensors."""
        return replace(
            self,
            inputs=tuple(tensor.with_sides(*sides) for tensor in self.inputs),
            outputs=tuple(tensor.with_sides(*sides) for tensor in self.outputs),
        )

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        if "_mha" in self.name:
            return ATTENTION
        if self.layer in _CONVOLUTIONS:
            return CONV
        parts = _parts(self.name)
        if self.layer == "gemm" or _MATRIX & parts:
            return GEMM
        return _kind_of_generated(parts, self) if self.layer in _GENERATED else OTHER

    @property
    def precision(self) -> str:
        """Type of the operands, the compiler's word for it: the narrowest one, since sums and scales are wider."""
        operands = [tensor.dtype for tensor in (*self.inputs, *self.constants) if len(tensor.shape) > 1]
        return min(operands, key=lambda dtype: _BITS.get(dtype, 64), default="none")


@dataclass(frozen=True)
class BuildLog:
    """All that the log tells. `arena_bytes` is the activation memory of each optimization profile."""

    kernels: tuple[Kernel, ...]
    arena_bytes: tuple[int, ...]
    weight_bytes: int

    def of_profile(self, profile: int) -> tuple[Kernel, ...]:
        return tuple(kernel for kernel in self.kernels if kernel.profile == profile)


def parse_log(text: str) -> BuildLog:
    """Read the log of one finished build."""
    weights = _WEIGHTS.findall(text)
    return BuildLog(
        tuple(_with_profiles(list(_KERNEL.finditer(text)))),
        tuple(int(size) for size in _ACTIVATIONS.findall(text)),
        int(weights[-1]) if weights else 0,
    )


def by_kind(kernels: Iterable[Kernel]) -> dict[str, int]:
    """How many kernels of each kind, in the order of `KINDS`; kinds that do not occur are left out."""
    kinds = [kernel.kind for kernel in kernels]
    return {kind: kinds.count(kind) for kind in KINDS if kind in kinds}


def by_precision(kernels: Iterable[Kernel], kind: str) -> dict[str, int]:
    """How many kernels of one kind work in which precision."""
    found = [kernel.precision for kernel in kernels if kernel.kind == kind]
    return {precision: found.count(precision) for precision in sorted(set(found))}


def _with_profiles(found: list[re.Match[str]]) -> Iterator[Kernel]:
    """Kernels of one compiled graph belong to the profile that any of them names; the first is not named."""
    graphs = [match["name"] for match in found]
    profiles: dict[str, int] = {}
    for graph, match in zip(map(_graph, graphs), found, strict=True):
        named = max((int(number) for number in _PROFILE.findall(match[0])), default=0)
        profiles[graph] = max(profiles.get(graph, 0), named)
    for match in found:
        if match["layer"] not in _ON_THE_HOST:
            yield _kernel(match, profiles)


def _kernel(match: re.Match[str], profiles: Mapping[str, int]) -> Kernel:
    inputs, _, rest = match["rest"].partition("Constants: [")
    constants, _, rest = rest.partition("Outputs: [")
    outputs, _, metadata = rest.partition("Metadata: ")
    return Kernel(
        match["name"],
        match["layer"],
        profiles[_graph(match["name"])],
        _tensors(inputs),
        _tensors(constants),
        _tensors(outputs),
        tuple(_ONNX_LAYER.findall(metadata)),
    )


def _tensors(text: str) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(
            found["name"],
            tuple(int(side) for side in found["dims"].split(",") if side),
            found["dtype"].removesuffix(_FP4_FORMAT),
        )
        for found in _TENSOR.finditer(text)
    )


def _graph(name: str) -> str:
    found = _GRAPH.search(name)
    return found[1] if found else ""


def _parts(name: str) -> set[str]:
    """`__myl_AddCastMul_myl0_7` -> {Add, Cast, Mul}: what a generated kernel does, in the compiler's abbreviations."""
    if not name.startswith("__myl_"):
        return set()
    return set(_PARTS.findall(name.removeprefix("__myl_").split("_")[0]))


def _kind_of_generated(parts: set[str], kernel: Kernel) -> str:
    if "Resi" in parts:
        return RESIZE
    if not parts - _MOVES:
        return MOVE
    small = {tensor.dtype for tensor in kernel.outputs} & {"FP8", "FP4", "Int8", "E8M0"}
    if small and not parts - _MOVES - _ROUNDING:
        return QUANTIZE
    return ELEMENTWISE
