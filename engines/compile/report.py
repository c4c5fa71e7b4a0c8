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
from ...outside import Door, Fields, read_json
from ...text import printable
from .compiler import Engine
from .counting import GraphCount, share_among
from .log import ATTENTION, CONV, GEMM, Kernel, Tensor

SUFFIX = ".report.json"
FORMAT = 1
_DOOR = Door("report", BundleError, "rebuild the bundle", max_bytes=1 << 24)
_MAX_COUNT = 1 << 62
"""Of bytes and operations; so large a number still fits into 64 bits."""
_MAX_STAGES, _MAX_KERNELS, _MAX_TENSORS, _MAX_PRECISIONS = 8, 1 << 20, 1 << 12, 16
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
        printable(kernel.name)[:_TEXT],
        kernel.kind,
        kernel.precision,
        flops,
        sum(nbytes(tensor) for tensor in (*kernel.inputs, *kernel.constants, *kernel.outputs)),
        _tensor_words(kernel.inputs),
        _tensor_words(kernel.constants),
        _tensor_words(kernel.outputs),
        tuple(printable(source)[:_TEXT] for source in kernel.sources[:_SOURCES]),
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
    """Read a report back. Raises `BundleError` if it is malformed."""
    fields = read_json(path, _DOOR)
    if fields.integer("format", 1, 1 << 16) != FORMAT:
        fields.refuse("format", str(FORMAT))
    return EngineReport(
        compiler=fields.text("compiler"),
        sm=fields.optional_text("sm"),
        engine_bytes=fields.integer("engine_bytes", 0, _MAX_COUNT),
        weight_bytes=fields.integer("weight_bytes", 0, _MAX_COUNT),
        seconds=fields.number("seconds", 0, 1e9),
        peak_bytes=fields.optional_integer("peak_bytes", 0, _MAX_COUNT),
        stages=tuple(_read_stage(stage) for stage in fields.children("stages", _MAX_STAGES)),
    )


def _read_stage(fields: Fields) -> CompiledStage:
    flops = fields.child("flops")
    return CompiledStage(
        name=fields.text("name"),
        arena_bytes=fields.integer("arena_bytes", 0, _MAX_COUNT),
        attentions=fields.integer("attentions", 0, 1 << 32),
        flops={
            precision: flops.integer(precision, 0, _MAX_COUNT) for precision in flops.names_of_fields(_MAX_PRECISIONS)
        },
        kernels=tuple(_read_kernel(kernel) for kernel in fields.children("kernels", _MAX_KERNELS)),
    )


def _read_kernel(fields: Fields) -> CompiledKernel:
    return CompiledKernel(
        name=fields.text("name"),
        kind=fields.text("kind"),
        precision=fields.text("precision"),
        flops=fields.integer("flops", 0, _MAX_COUNT),
        nbytes=fields.integer("nbytes", 0, _MAX_COUNT),
        inputs=_read_tensors(fields, "inputs"),
        constants=_read_tensors(fields, "constants"),
        outputs=_read_tensors(fields, "outputs"),
        sources=fields.texts("sources", _MAX_TENSORS),
    )


def _read_tensors(fields: Fields, key: str) -> tuple[str, ...]:
    """Types and shapes, as `_tensor_words` writes them."""
    words = fields.texts(key, _MAX_TENSORS)
    if not all(map(_TENSOR.fullmatch, words)):
        fields.refuse(key, "types and shapes such as 'Half 2x3'")
    return words
