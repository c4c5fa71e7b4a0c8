"""`<stage>.report.json`: what the compiler made of one engine file, stored beside it for `inspect`.

It lists every kernel with its tensors, the memory of the engine, and the operations of each stage. Nothing else of the
build is kept: the log takes megabytes, and the graph whose operations were counted is deleted after the build.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import BundleError
from .compiler import Engine
from .counting import GraphCount, share_among
from .log import ATTENTION, CONV, GEMM, Kernel, Tensor

SUFFIX = ".report.json"
FORMAT = 1
_MAX_BYTES = 1 << 24
_TEXT = 160
"""Characters kept of the name of a kernel or graph node."""
_SOURCES = 4
"""Graph nodes kept of a kernel, which may execute hundreds."""
_DTYPE_BITS = {"FP4": 4, "FP8": 8, "Int8": 8, "UInt8": 8, "Bool": 8, "E8M0": 8, "Half": 16, "BFloat16": 16, "Int64": 64}
"""Bits of the types that a tensor may have; all others have 32."""
_TENSOR = re.compile(r"(\w{1,32}) ((?:\d{1,12}x)*\d{1,12}|scalar)")


@dataclass(frozen=True)
class CompiledKernel:
    """One kernel. flops: operations of the graph nodes it executes. nbytes: the least it reads and writes."""

    name: str
    kind: str
    precision: str
    flops: int
    nbytes: int
    inputs: tuple[str, ...]
    constants: tuple[str, ...]
    outputs: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class CompiledStage:
    """One stage of an engine file, which has one per optimization profile.

    attentions: attention computations in its graph. flops: operations of one run by precision.
    """

    name: str
    arena_bytes: int
    attentions: int
    flops: Mapping[str, int]
    kernels: tuple[CompiledKernel, ...]

    @property
    def total_flops(self) -> int:
        return sum(self.flops.values())

    @property
    def fused(self) -> int:
        """Attention computations that became one kernel."""
        return sum(kernel.kind == ATTENTION for kernel in self.kernels)

    @property
    def nbytes(self) -> int:
        """Bytes that all kernels read and write."""
        return sum(kernel.nbytes for kernel in self.kernels)


@dataclass(frozen=True)
class EngineReport:
    """One engine file. seconds, peak_bytes: time and memory of its build; None where the memory is unknown."""

    compiler: str
    sm: str | None
    engine_bytes: int
    weight_bytes: int
    seconds: float
    peak_bytes: int | None
    stages: tuple[CompiledStage, ...]

    def to_json(self) -> str:
        """Compact JSON: one line per kernel."""
        return json.dumps({"format": FORMAT, **_as_json(self)}, separators=(",", ":")).replace('{"name"', '\n{"name"')


def engine_report(engine: Engine, compiler: str, sm: str | None, stages: Sequence[CompiledStage]) -> EngineReport:
    """The report of an engine. stages: in the order of its optimization profiles."""
    return EngineReport(
        f"{compiler} {engine.compiler_version}",
        sm,
        engine.nbytes,
        engine.made.weight_bytes,
        round(engine.seconds, 2),
        engine.peak_bytes,
        tuple(stages),
    )


def compiled_stage(name: str, arena_bytes: int, counted: GraphCount, kernels: Sequence[Kernel]) -> CompiledStage:
    """Join the operations counted in the graph with the kernels compiled from it."""
    flops = share_among(counted.nodes, _cited(kernels))
    return CompiledStage(
        name,
        arena_bytes,
        counted.attentions,
        counted.by_precision(),
        tuple(_compiled_kernel(kernel, flops.get(index, 0)) for index, kernel in enumerate(kernels)),
    )


def _cited(kernels: Sequence[Kernel]) -> dict[str, list[tuple[int, int]]]:
    """For each graph node, the matrix kernels that execute it, as (index, elements written)."""
    cited: dict[str, list[tuple[int, int]]] = {}
    for index, kernel in enumerate(kernels):
        if kernel.kind in (GEMM, CONV, ATTENTION):
            size = sum(math.prod(tensor.shape) for tensor in kernel.outputs)
            for source in set(kernel.sources):
                cited.setdefault(source, []).append((index, size))
    return cited


def _compiled_kernel(kernel: Kernel, flops: int) -> CompiledKernel:
    return CompiledKernel(
        kernel.name[:_TEXT],
        kernel.kind,
        kernel.precision,
        flops,
        sum(nbytes(tensor) for tensor in (*kernel.inputs, *kernel.constants, *kernel.outputs)),
        _tensor_words(kernel.inputs),
        _tensor_words(kernel.constants),
        _tensor_words(kernel.outputs),
        tuple(source[:_TEXT] for source in kernel.sources[:_SOURCES]),
    )


def nbytes(tensor: Tensor) -> int:
    """Bytes of a tensor."""
    return math.prod(tensor.shape) * _DTYPE_BITS.get(tensor.dtype, 32) // 8


def _tensor_words(tensors: Iterable[Tensor]) -> tuple[str, ...]:
    return tuple(f"{t.dtype} {'x'.join(map(str, t.shape)) or 'scalar'}" for t in tensors)


def _as_json(value: Any) -> Any:
    """Dataclasses as dictionaries, without the copies that `asdict` makes."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: _as_json(getattr(value, name)) for name in value.__dataclass_fields__}
    return [_as_json(item) for item in value] if isinstance(value, tuple) else value


def read_report(path: Path) -> EngineReport:
    """Read a report back; raises `BundleError` if it is malformed. Its digest was checked with the bundle's."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES} bytes")
        raw = json.loads(data)
        if raw.pop("format") != FORMAT:
            raise ValueError("another version of the format")
        return EngineReport(**{**raw, "stages": tuple(_read_stage(stage) for stage in raw["stages"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path}: cannot be read as a report ({error}); rebuild the bundle") from error


def _read_stage(raw: dict[str, Any]) -> CompiledStage:
    return CompiledStage(**{**raw, "kernels": tuple(_read_kernel(kernel) for kernel in raw["kernels"])})


def _read_kernel(raw: dict[str, Any]) -> CompiledKernel:
    lists = {name: tuple(map(str, raw[name])) for name in ("inputs", "constants", "outputs", "sources")}
    if not all(_TENSOR.fullmatch(word) for name in ("inputs", "constants", "outputs") for word in lists[name]):
        raise ValueError(f"kernel {str(raw['name'])[:60]!r} has a malformed tensor")
    return CompiledKernel(**{**raw, **lists, "flops": int(raw["flops"]), "nbytes": int(raw["nbytes"])})
