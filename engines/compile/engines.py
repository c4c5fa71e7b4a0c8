"""The engines of a bundle: each graph file is compiled once, with one optimization profile per stage that uses it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ...text import LineCallback, format_bytes
from ..bundle.geometry import FRAMES_PER_LATENT, Resolution
from ..bundle.manifest import Role, Shape, StageSpec, TensorSpec
from ..bundle.pixel_formats import format_of_stage
from ..bundle.targets import RTX, Target
from .compiler import WORKSPACE_BYTES, CompileJob, Engine, Profile, compile_engine
from .counting import count_file
from .report import SUFFIX, EngineReport, compiled_stage, engine_report

_log = logging.getLogger(__name__)

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
    its optimization profile k. Raises `BuildError` if the compiler fails.
    """
    finished: dict[str, StageSpec] = {}
    files = dict.fromkeys(stage.file for stage in stages)
    for number, file in enumerate(files, 1):
        sharing = [stage for stage in stages if stage.file == file]
        name = sharing[0].name
        report(f"compiling part {number} of {len(files)} for {options.target.name}")
        _log.info("compiling %s for %s", " and ".join(s.name for s in sharing), options.target.sm or "this GPU")
        engine = compile_engine(compile_job(sharing, graphs, directory, options), partial(_indented, report))
        engine = _with_readable_log(engine, len(sharing), partial(_indented, report))
        compiled = _report(sharing, graphs, engine, options)
        (directory / f"{name}{SUFFIX}").write_text(compiled.to_json(), encoding="utf-8")
        _log.info("%s", _one_line(name, compiled))
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
    half = max(size.height // 2, SMALLEST_SIDE), max(size.width // 2, SMALLEST_SIDE)  # most restorations double it
    return {
        tensor.name: (
            _for_frames(stage, tensor, SMALLEST_SIDE, SMALLEST_SIDE),
            _for_frames(stage, tensor, *half),
            largest(stage, tensor, size),
        )
        for tensor in stage.inputs
    }


def largest(stage: StageSpec, tensor: TensorSpec, size: Resolution) -> Shape:
    """The shape at which a stage needs the most memory: input frames as large as the output frames."""
    return _for_frames(stage, tensor, size.height, size.width)


def _for_frames(stage: StageSpec, tensor: TensorSpec, height: int, width: int) -> Shape:
    """The shape of an input for frames of this size; the sides of a YUV frame are even."""
    form = format_of_stage(stage.name)
    if form is None or tensor.role is not Role.FRAMES:
        return tuple(side or 1 for side in tensor.shape)
    if form.yuv:
        width -= width % 2
    return (FRAMES_PER_LATENT, *form.byte_shape(height, width))


def _with_readable_log(engine: Engine, profiles: int, report: LineCallback) -> Engine:
    """The engine, with what its log lacks as 0. The device that loads it asks the engine itself for its memory."""
    made = engine.made
    if len(made.arena_bytes) == profiles and made.kernels:
        return engine
    report(
        f"note: the log of this compiler ({engine.compiler_version}) does not read as expected: it lists "
        f"{len(made.arena_bytes)} of {profiles} profiles and {len(made.kernels)} kernels. The engine is complete; "
        "inspect shows less of it, and its memory is known when it is loaded on a GPU"
    )
    arenas = made.arena_bytes if len(made.arena_bytes) == profiles else (0,) * profiles
    return replace(engine, made=replace(made, arena_bytes=arenas, weight_bytes=made.weight_bytes or engine.nbytes))


def _report(sharing: Sequence[StageSpec], graphs: Path, engine: Engine, options: EngineOptions) -> EngineReport:
    """The report of one engine. Operations and bytes are those of the largest input."""
    size, stages = options.size, []
    for number, stage in enumerate(sharing):
        counted = count_file(
            graphs / stage.file, {tensor.name: largest(stage, tensor, size) for tensor in stage.inputs}
        )
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
