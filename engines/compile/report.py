"""`<stage>.report.json`: what the compiler made of one engine file, kept beside it for `inspect`.

The log that it comes from has megabytes and the graph whose operations were counted is gone with the build, so this is
all that remains: every kernel with its tensors, memory, and the operations of each stage.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftvr_trt.errors import BundleError

from .counting import Counted, share_among
from .log import ATTENTION, CONV, GEMM, Kernel, Tensor
from .parent import Engine

SUFFIX = ".report.json"
FORMAT = 1
_MAX_BYTES = 1 << 24
_TEXT = 160
_SOURCES = 4
_DTYPE_BITS = {"FP4": 4, "FP8": 8, "Int8": 8, "UInt8": 8, "Bool": 8, "E8M0": 8, "Half": 16, "BFloat16": 16, "Int64": 64}
_TENSOR = re.compile(r"(\w{1,32}) ((?:\d{1,12}x)*\d{1,12}|scalar)")


@dataclass(frozen=True)
class KernelFacts:
    """One kernel: operations of the graph's nodes that it executes, and the bytes that it reads and writes at least."""

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
class StageFacts:
    """One stage of an engine file; an engine has one per optimization profile."""

    name: str
    arena_bytes: int
    attentions: int
    flops: Mapping[str, int]
    kernels: tuple[KernelFacts, ...]

    @property
    def total_flops(self) -> int:
        return sum(self.flops.values())

    @property
    def fused(self) -> int:
        """Attention calls that became one kernel."""
        return sum(kernel.kind == ATTENTION for kernel in self.kernels)

    @property
    def nbytes(self) -> int:
        """Bytes that all kernels read and write."""
        return sum(kernel.nbytes for kernel in self.kernels)


@dataclass(frozen=True)
class EngineFacts:
    """One engine file. seconds, peak_bytes: what its build took."""

    compiler: str
    sm: str | None
    engine_bytes: int
    weight_bytes: int
    seconds: float
    peak_bytes: int | None
    stages: tuple[StageFacts, ...]

    def to_json(self) -> str:
        """Compact JSON: one line per kernel."""
        return json.dumps({"format": FORMAT, **_plain(self)}, separators=(",", ":")).replace('{"name"', '\n{"name"')


def engine_facts(engine: Engine, compiler: str, sm: str | None, stages: Sequence[StageFacts]) -> EngineFacts:
    """The facts of an engine and of its stages, in the order of its optimization profiles."""
    return EngineFacts(
        f"{compiler} {engine.compiler_version}",
        sm,
        engine.nbytes,
        engine.made.weight_bytes,
        round(engine.seconds, 2),
        engine.peak_bytes,
        tuple(stages),
    )


def stage_facts(name: str, arena_bytes: int, counted: Counted, kernels: Sequence[Kernel]) -> StageFacts:
    """Join what was counted in the graph with what was compiled from it."""
    flops = share_among(counted.nodes, _cited(kernels))
    return StageFacts(
        name,
        arena_bytes,
        counted.attentions,
        counted.by_precision(),
        tuple(_kernel_facts(kernel, flops.get(index, 0)) for index, kernel in enumerate(kernels)),
    )


def _cited(kernels: Sequence[Kernel]) -> dict[str, list[tuple[int, int]]]:
    """For each graph node the kernels that multiply matrices on its behalf, and how much each writes."""
    cited: dict[str, list[tuple[int, int]]] = {}
    for index, kernel in enumerate(kernels):
        if kernel.kind in (GEMM, CONV, ATTENTION):
            size = sum(math.prod(tensor.shape) for tensor in kernel.outputs)
            for source in set(kernel.sources):
                cited.setdefault(source, []).append((index, size))
    return cited


def _kernel_facts(kernel: Kernel, flops: int) -> KernelFacts:
    return KernelFacts(
        kernel.name[:_TEXT],
        kernel.kind,
        kernel.precision,
        flops,
        sum(nbytes(tensor) for tensor in (*kernel.inputs, *kernel.constants, *kernel.outputs)),
        _words(kernel.inputs),
        _words(kernel.constants),
        _words(kernel.outputs),
        tuple(source[:_TEXT] for source in kernel.sources[:_SOURCES]),
    )


def nbytes(tensor: Tensor) -> int:
    """Bytes of a tensor; types that are not known count as 32 bits."""
    return math.prod(tensor.shape) * _DTYPE_BITS.get(tensor.dtype, 32) // 8


def _words(tensors: Iterable[Tensor]) -> tuple[str, ...]:
    return tuple(f"{t.dtype} {'x'.join(map(str, t.shape)) or 'scalar'}" for t in tensors)


def _plain(facts: Any) -> Any:
    """Dataclasses as dictionaries, without the copies that `asdict` makes."""
    if hasattr(facts, "__dataclass_fields__"):
        return {name: _plain(getattr(facts, name)) for name in facts.__dataclass_fields__}
    return [_plain(item) for item in facts] if isinstance(facts, tuple) else facts


def read_facts(path: Path) -> EngineFacts:
    """Read a report back. It is as trustworthy as its bundle, whose digests were checked; its form is checked here."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES} bytes")
        raw = json.loads(data)
        if raw.pop("format") != FORMAT:
            raise ValueError("of another version")
        return EngineFacts(**{**raw, "stages": tuple(_stage(stage) for stage in raw["stages"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path}: cannot be read as a report ({error}); rebuild the bundle") from error


def _stage(raw: dict[str, Any]) -> StageFacts:
    return StageFacts(**{**raw, "kernels": tuple(_kernel(kernel) for kernel in raw["kernels"])})


def _kernel(raw: dict[str, Any]) -> KernelFacts:
    lists = {name: tuple(map(str, raw[name])) for name in ("inputs", "constants", "outputs", "sources")}
    if not all(_TENSOR.fullmatch(word) for name in ("inputs", "constants", "outputs") for word in lists[name]):
        raise ValueError(f"kernel {str(raw['name'])[:60]!r} has a tensor that is none")
    return KernelFacts(**{**raw, **lists, "flops": int(raw["flops"]), "nbytes": int(raw["nbytes"])})
