"""The engines of a bundle: each graph file is compiled once, with one optimization profile per stage that uses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ...errors import BuildError
from ...text import LineCallback, format_bytes
from ..bundle.geometry import Resolution
from ..bundle.manifest import Shape, StageSpec, TensorSpec
from ..bundle.targets import RTX, Target
from .compiler import WORKSPACE_BYTES, CompileJob, Engine, Profile, compile_engine
from .counting import count_file
from .report import SUFFIX, EngineReport, compiled_stage, engine_report

SMALLEST_SIDE = 16
"""Least side of input frames in pixels; they may not be larger than the output frames either."""


@dataclass(frozen=True)
class EngineOptions:
    """What engines are built for: a target, and frames of the output resolution `size`.

    workspace_bytes: the most scratch memory that one kernel may ask for.
    """

    target: Target
    size: Resolution
    workspace_bytes: int = WORKSPACE_BYTES


def build_engines(
    stages: Sequence[StageSpec], graphs: Path, directory: Path, options: EngineOptions, report: LineCallback
) -> tuple[StageSpec, ...]:
    """Compile the graph files of `stages`, which lie in `graphs`, and write the engines into `directory`.

    Returns the stages as the bundle lists them. Stages that share a graph file share an engine: the k-th of them uses
    its optimization profile k. Raises `BuildError` if the compiler fails, or writes a log that cannot be read.
    """
    finished: dict[str, StageSpec] = {}
    for file in dict.fromkeys(stage.file for stage in stages):
        sharing = [stage for stage in stages if stage.file == file]
        name = sharing[0].name
        report(f"compiling {' and '.join(stage.name for stage in sharing)} for {options.target.sm or 'this GPU'}")
        engine = compile_engine(compile_job(sharing, graphs, directory, options), partial(_indented, report))
        _check_log(engine, sharing)
        compiled = _report(sharing, graphs, engine, options)
        (directory / f"{name}{SUFFIX}").write_text(compiled.to_json(), encoding="utf-8")
        report(_one_line(name, compiled))
        finished |= {stage.name: stage for stage in _finished(sharing, engine)}
    return tuple(finished[stage.name] for stage in stages)


def _indented(report: LineCallback, line: str) -> None:
    report(f"    {line}")


def compile_job(sharing: Sequence[StageSpec], graphs: Path, directory: Path, options: EngineOptions) -> CompileJob:
    """The job that compiles the graph file of these stages."""
    free = any(None in tensor.shape for stage in sharing for tensor in stage.inputs)
    profiles = tuple(profile(stage, options.size) for stage in sharing) if free or len(sharing) > 1 else ()
    return CompileJob(
        graphs / sharing[0].file,
        directory / f"{sharing[0].name}.engine",
        options.target.compiler,
        options.target.sm if options.target.compiler == RTX else None,  # TensorRT builds for the GPU that is present
        profiles,
        options.workspace_bytes,
    )


def profile(stage: StageSpec, size: Resolution) -> Profile:
    """Smallest, usual and largest shape of each input. They differ only for input frames, whose size is free."""
    return {tensor.name: (_small(tensor), _usual(tensor, size), largest(tensor, size)) for tensor in stage.inputs}


def largest(tensor: TensorSpec, size: Resolution) -> Shape:
    """The shape at which a stage needs the most memory: input frames as large as the output frames."""
    return _with_sides(tensor, size.height, size.width)


def _small(tensor: TensorSpec) -> Shape:
    return _with_sides(tensor, SMALLEST_SIDE, SMALLEST_SIDE)


def _usual(tensor: TensorSpec, size: Resolution) -> Shape:
    """Half the output size: most restorations double the size."""
    return _with_sides(tensor, max(size.height // 2, SMALLEST_SIDE), max(size.width // 2, SMALLEST_SIDE))


def _with_sides(tensor: TensorSpec, *sides: int) -> Shape:
    """The shape with its free sides, which are height and width in this order, filled in."""
    left = iter(sides)
    return tuple(next(left) if side is None else side for side in tensor.shape)


def _check_log(engine: Engine, sharing: Sequence[StageSpec]) -> None:
    """Raise `BuildError` unless the log lists every profile and some kernels; the report relies on both."""
    if len(engine.made.arena_bytes) != len(sharing) or not engine.made.kernels:
        raise BuildError(
            f"{engine.path.name}: the compiler's log lists {len(engine.made.arena_bytes)} profiles with "
            f"{len(engine.made.kernels)} kernels, expected {len(sharing)} profiles with kernels; "
            "this version of the compiler is not supported, install another one"
        )


def _report(sharing: Sequence[StageSpec], graphs: Path, engine: Engine, options: EngineOptions) -> EngineReport:
    """The report of one engine. Operations and bytes are those of the largest input."""
    size, stages = options.size, []
    for number, stage in enumerate(sharing):
        counted = count_file(graphs / stage.file, {tensor.name: largest(tensor, size) for tensor in stage.inputs})
        kernels = [kernel.with_sides(size.height, size.width) for kernel in engine.made.of_profile(number)]
        stages.append(compiled_stage(stage.name, engine.made.arena_bytes[number], counted, kernels))
    return engine_report(engine, options.target.compiler, options.target.sm, stages)


def _finished(sharing: Sequence[StageSpec], engine: Engine) -> list[StageSpec]:
    return [
        replace(
            stage,
            file=engine.path.name,
            profile=number,
            arena_bytes=engine.made.arena_bytes[number],
            weight_bytes=engine.made.weight_bytes,
        )
        for number, stage in enumerate(sharing)
    ]


def _one_line(name: str, compiled: EngineReport) -> str:
    """What was compiled, for the user to watch."""
    kernels = len(compiled.stages[0].kernels)
    arena = max(stage.arena_bytes for stage in compiled.stages)
    peak = f", {format_bytes(compiled.peak_bytes)} of memory" if compiled.peak_bytes else ""
    fused = "".join(
        f", attention fused {stage.fused} of {stage.attentions}" for stage in compiled.stages[:1] if stage.attentions
    )
    return (
        f"compiled {name}: {kernels} kernels{fused}, weights {format_bytes(compiled.weight_bytes)}, activations "
        f"{format_bytes(arena)} (took {compiled.seconds:.0f} s{peak})"
    )
