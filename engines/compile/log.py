"""Reads what a TensorRT compiler made from its log: every kernel with its tensors, and the memory of the engine.

With detailed profiling verbosity and a verbose logger, the log of a build ends with one line per compiled kernel, in
the order of execution, first for optimization profile 0, then for profile 1, and so on:

    Name: _gemm_mha_v2_myl0_5, LayerType: kgen, Inputs: [ { Name: ..., Dimensions: [4,128,128], ..., Datatype: Half,
    ... }], Constants: [...], Outputs: [...], TacticName: ..., StreamId: 0, Metadata: [ONNX Layer: Attention_13]

These are pure functions over text; no GPU is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

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
"""Kinds of kernels."""

_CONVOLUTIONS = frozenset({"correlation", "deconv", "conv", "convolution"})
_MOVES = frozenset({"Move", "Tran", "Resh", "Slic", "Conc", "Gath", "Copy", "Repl", "Expa", "Sque", "Unsq", "Cast"})
_ROUNDING = frozenset({"Mul", "Div", "Min", "Max", "Roun", "Dyna"})
_GENERATED = frozenset({"kgen", "runtime_fusion", "runtime_function"})
_MATRIX = frozenset({"Fc", "Dot", "Gemm", "Bmm", "Matm"})

_ON_THE_HOST = frozenset({"shape_call"})
_BITS = {"FP4": 4, "FP8": 8, "Int8": 8, "UInt8": 8, "Half": 16, "BFloat16": 16, "Float": 32}
"""Bits of the types that matrix products multiply. Block scales (E8M0) are not among them."""

_FP4_FORMAT = "E2M1"
"""The compiler calls E4M3 `FP8`, but E2M1 `FP4E2M1`. Here formats are called by their width."""

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
    """A tensor as the compiler lists it. dtype: the compiler's word, e.g. Float, Half, BFloat16, FP8, FP4."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def with_sides(self, *sides: int) -> Tensor:
        """The tensor with its free sides, which the compiler writes as -1, replaced by `sides` in order."""
        left = iter(sides)
        return replace(self, shape=tuple(next(left, 1) if side < 0 else side for side in self.shape))


@dataclass(frozen=True)
class Kernel:
    """One compiled kernel. layer: the compiler's word for its type. sources: the ONNX nodes that it executes."""

    name: str
    layer: str
    profile: int
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    sources: tuple[str, ...]

    def with_sides(self, *sides: int) -> Kernel:
        """The kernel with the free sides of all its tensors replaced."""
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
        """Type of the operands in the compiler's words: the narrowest, since sums and scales are wider."""
        operands = [tensor.dtype for tensor in (*self.inputs, *self.constants) if len(tensor.shape) > 1]
        return min(operands, key=lambda dtype: _BITS.get(dtype, 64), default="none")


class HasKind(Protocol):
    """A kernel of any form: one of `KINDS`, and the type of its operands in the compiler's words."""

    @property
    def kind(self) -> str: ...

    @property
    def precision(self) -> str: ...


@dataclass(frozen=True)
class BuildLog:
    """What the log says. arena_bytes: activation memory of each optimization profile."""

    kernels: tuple[Kernel, ...]
    arena_bytes: tuple[int, ...]
    weight_bytes: int

    def of_profile(self, profile: int) -> tuple[Kernel, ...]:
        """The kernels of one optimization profile, in the order of execution."""
        return tuple(kernel for kernel in self.kernels if kernel.profile == profile)


def parse_log(text: str) -> BuildLog:
    """Read the log of one finished build. What a log lacks is empty or 0 in the result."""
    weights = _WEIGHTS.findall(text)
    return BuildLog(
        tuple(_with_profiles(list(_KERNEL.finditer(text)))),
        tuple(int(size) for size in _ACTIVATIONS.findall(text)),
        int(weights[-1]) if weights else 0,
    )


def by_kind(kernels: Iterable[HasKind]) -> dict[str, int]:
    """Number of kernels of each kind, in the order of `KINDS`, without kinds that do not occur."""
    kinds = [kernel.kind for kernel in kernels]
    return {kind: kinds.count(kind) for kind in KINDS if kind in kinds}


def by_precision(kernels: Iterable[HasKind], kind: str) -> dict[str, int]:
    """Number of kernels of one kind in each precision."""
    found = [kernel.precision for kernel in kernels if kernel.kind == kind]
    return {precision: found.count(precision) for precision in sorted(set(found))}


def _with_profiles(found: list[re.Match[str]]) -> Iterator[Kernel]:
    """All kernels of a compiled graph belong to the profile that one of them names; profile 0 is never named."""
    graphs = [match["name"] for match in found]
    profiles: dict[str, int] = {}
    for graph, match in zip(map(_graph, graphs), found, strict=True):
        named = max((int(number) for number in _PROFILE.findall(match[0])), default=0)
        profiles[graph] = max(profiles.get(graph, 0), named)
    for match in found:
        if match["layer"] not in _ON_THE_HOST:
            yield _parse_kernel(match, profiles)


def _parse_kernel(match: re.Match[str], profiles: Mapping[str, int]) -> Kernel:
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
    """What a generated kernel does: `__myl_AddCastMul_myl0_7` -> {Add, Cast, Mul}."""
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
