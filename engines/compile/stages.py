"""Stages as graphs become stages as engines: one compilation per graph file, with a profile for each stage in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.manifest import StageSpec, TensorSpec
from swiftvr_trt.engines.bundle.targets import RTX, Target
from swiftvr_trt.errors import BuildError
from swiftvr_trt.text import size as in_words

from .counting import count_file
from .parent import WORKSPACE_BYTES, Engine, Job, Profile, Report, Shape, compile_engine
from .report import SUFFIX, EngineFacts, engine_facts, stage_facts

SMALLEST_SIDE = 16
"""Frames that come in may not be smaller than this, in pixels, nor larger than those that go out."""


def build_engines(
    stages: Sequence[StageSpec],
    graphs: Path,
    directory: Path,
    target: Target,
    size: Resolution,
    report: Report,
    workspace_bytes: int = WORKSPACE_BYTES,
) -> tuple[StageSpec, ...]:
    """Compile the graph files in `graphs` that `stages` name into `directory`.

    Returns the stages as they are in the bundle. Those that share a graph file share an engine, whose optimization
    profile k is that of the k-th of them.
    """
    finished: dict[str, StageSpec] = {}
    for file in dict.fromkeys(stage.file for stage in stages):
        sharing = [stage for stage in stages if stage.file == file]
        name = sharing[0].name
        report(f"compiling {' and '.join(stage.name for stage in sharing)} for {target.sm or 'this GPU'}")
        job = replace(job_for(sharing, graphs, directory, target, size), workspace_bytes=workspace_bytes)
        engine = compile_engine(job, partial(_indented, report))
        _check(engine, sharing)
        facts = _facts(sharing, graphs, engine, target, size)
        (directory / f"{name}{SUFFIX}").write_text(facts.to_json(), encoding="utf-8")
        report(_summary(name, facts))
        finished |= {stage.name: stage for stage in _finished(sharing, engine)}
    return tuple(finished[stage.name] for stage in stages)


def _indented(report: Report, line: str) -> None:
    report(f"    {line}")


def job_for(sharing: Sequence[StageSpec], graphs: Path, directory: Path, target: Target, size: Resolution) -> Job:
    """The build of the engine that the stages of one graph file share."""
    free = any(None in tensor.shape for stage in sharing for tensor in stage.inputs)
    profiles = tuple(profile(stage, size) for stage in sharing) if free or len(sharing) > 1 else ()
    return Job(
        graphs / sharing[0].file,
        directory / f"{sharing[0].name}.engine",
        target.compiler,
        target.sm if target.compiler == RTX else None,  # TensorRT builds for the GPU that is there, and only for it
        profiles,
    )


def profile(stage: StageSpec, size: Resolution) -> Profile:
    """Smallest, usual and largest shape of each input; they differ only in the frames that come in at any size."""
    return {tensor.name: (_small(tensor), _usual(tensor, size), largest(tensor, size)) for tensor in stage.inputs}


def largest(tensor: TensorSpec, size: Resolution) -> Shape:
    """The shape at which a stage needs most memory: frames as large as those that go out."""
    return _with_sides(tensor, size.height, size.width)


def _small(tensor: TensorSpec) -> Shape:
    return _with_sides(tensor, SMALLEST_SIDE, SMALLEST_SIDE)


def _usual(tensor: TensorSpec, size: Resolution) -> Shape:
    """Most restorations double the size."""
    return _with_sides(tensor, max(size.height // 2, SMALLEST_SIDE), max(size.width // 2, SMALLEST_SIDE))


def _with_sides(tensor: TensorSpec, *sides: int) -> Shape:
    """Free sides, which are height and width, in the order in which they stand."""
    left = iter(sides)
    return tuple(next(left) if side is None else side for side in tensor.shape)


def _check(engine: Engine, sharing: Sequence[StageSpec]) -> None:
    """What is not in the compiler's log would be missing from everything that builds on it."""
    if len(engine.made.arena_bytes) != len(sharing) or not engine.made.kernels:
        raise BuildError(
            f"{engine.path.name}: the compiler's log tells of {len(engine.made.arena_bytes)} profiles with "
            f"{len(engine.made.kernels)} kernels, expected {len(sharing)}; this version of it writes another log"
        )


def _facts(sharing: Sequence[StageSpec], graphs: Path, engine: Engine, target: Target, size: Resolution) -> EngineFacts:
    """Operations and bytes are those of the largest input."""
    stages = []
    for number, stage in enumerate(sharing):
        counted = count_file(graphs / stage.file, {tensor.name: largest(tensor, size) for tensor in stage.inputs})
        kernels = [kernel.with_sides(size.height, size.width) for kernel in engine.made.of_profile(number)]
        stages.append(stage_facts(stage.name, engine.made.arena_bytes[number], counted, kernels))
    return engine_facts(engine, target.compiler, target.sm, stages)


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


def _summary(name: str, facts: EngineFacts) -> str:
    kernels = len(facts.stages[0].kernels)
    arena = max(stage.arena_bytes for stage in facts.stages)
    peak = f", {in_words(facts.peak_bytes)} of memory" if facts.peak_bytes else ""
    fused = "".join(
        f", attention fused {stage.fused} of {stage.attentions}" for stage in facts.stages[:1] if stage.attentions
    )
    return (
        f"compiled {name}: {kernels} kernels{fused}, weights {in_words(facts.weight_bytes)}, activations "
        f"{in_words(arena)} (took {facts.seconds:.0f} s{peak})"
    )
