"""The network compiled in one form, plain or rewritten: the engine reports, and a recount by independent means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
from torch import nn

from swiftvr_trt.engines.bundle.calibration import Int8Scales
from swiftvr_trt.engines.bundle.geometry import FRAMES_PER_LATENT
from swiftvr_trt.engines.bundle.manifest import Manifest, Recipe, StageSpec, Toolchain
from swiftvr_trt.engines.bundle.targets import Target
from swiftvr_trt.engines.compile.engines import EngineOptions, build_engines, compile_job
from swiftvr_trt.engines.compile.log import GEMM
from swiftvr_trt.engines.compile.report import SUFFIX, CompiledKernel, CompiledStage, read_report
from swiftvr_trt.export.graph.stages import Stage, stages_of
from swiftvr_trt.export.graph.to_onnx import open_weights, write_stages
from swiftvr_trt.export.network.checkpoint import Checkpoint
from swiftvr_trt.export.network.dit import DitConfig, without_blocks
from swiftvr_trt.runtime.stream.plan import MemoryPlan, plan_memory

from .plain_network import plain_dits, plain_stages
from .recount import Recount, count_with_torch, recount_engine

DIT = ("dit", "dit_edge")
WORKSPACE_BYTES = 32 << 30
"""More than the tool allows a build: the plain decoder asks for 4.4 GB at 1920x1080."""


class AnyMagnitude(dict[str, float]):
    """Stands in for a calibration: the same magnitude for every name, since counting does not depend on it."""

    def __missing__(self, name: str) -> float:
        return 8.0


SCALES = AnyMagnitude({"": 8.0})


class AnyShifts(dict[str, Int8Scales]):
    """Stands in for the INT8 part: all linears and convolutions are in INT8, every other input of linears is halved."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__({"": Int8Scales(8, 0.0, 8.0, ())})
        self._config = config

    def __missing__(self, name: str) -> Int8Scales:
        inputs = self._config.ffn_dim if name.endswith(".down") else self._config.dim
        return Int8Scales(8, 0.0, 8.0, tuple(channel % 2 for channel in range(inputs)))


@dataclass(frozen=True)
class Setup:
    """How to compile. recount: also compile and count by independent means, which doubles the time."""

    recipe: Recipe
    target: Target
    recount: bool


@dataclass(frozen=True)
class CompiledNetwork:
    """The network in one form, compiled. Mappings have the name of a stage as key.

    frames          that the autoencoder takes at a time
    layers          blocks of the transformer
    block_bytes     weights of one block, as they are in the graph
    specs           the stages as a bundle lists them
    recounts, torch_flops     by independent means; empty if not asked for
    no_blocks       the transformer without any block, compiled in the same form
    """

    recipe: Recipe
    frames: int
    layers: int
    block_bytes: int
    stages: Mapping[str, CompiledStage]
    specs: tuple[StageSpec, ...]
    recounts: Mapping[str, Recount] = field(default_factory=dict)
    torch_flops: Mapping[str, int] = field(default_factory=dict)
    no_blocks: CompiledNetwork | None = None

    def memory(self, layers: int) -> MemoryPlan:
        """The plan of the whole pipeline with `layers` blocks, for input frames as large as the output.

        Each further block adds the same bytes of weights. Blocks run one after another in one arena, which is assumed
        to keep its size; the compiler packs 30 blocks a little worse than 2 (docs/engines.md has both).
        """
        more = (layers - self.layers) * self.block_bytes
        # The plain form has a file for each length of the transformer; only one is counted, to its advantage.
        specs = tuple(
            replace(spec, file="dit.engine", weight_bytes=spec.weight_bytes + more) if spec.name in DIT else spec
            for spec in self.specs
        )
        manifest = Manifest(self.recipe, Toolchain("benchmark", "", ""), specs, ())
        return plan_memory(manifest, self.recipe.height, self.recipe.width)

    def block_gemms(self) -> list[CompiledKernel]:
        """The matrix products of all blocks: those of the transformer minus those that remain without blocks."""
        others = Counter(map(_signature, self.no_blocks.stages["dit"].kernels)) if self.no_blocks else Counter()
        found = []
        for kernel in self.stages["dit"].kernels:
            if others[_signature(kernel)]:
                others[_signature(kernel)] -= 1
            elif kernel.kind == GEMM:
                found.append(kernel)
        return found


def _signature(kernel: CompiledKernel) -> tuple[object, ...]:
    return kernel.kind, kernel.constants, kernel.outputs, kernel.precision


def compile_rewritten(checkpoint: Checkpoint, setup: Setup, folder: Path) -> CompiledNetwork:
    """Compile the network as this tool exports it."""
    capability, shifts = setup.target.compute_capability, AnyShifts(checkpoint.dit.config)
    stages = stages_of(checkpoint, setup.recipe, SCALES, shifts, joint=True, capability=capability)
    no_blocks = stages_of(_without_blocks(checkpoint), setup.recipe, SCALES, shifts, joint=True, capability=capability)
    compiled = compile_stages(stages, setup, folder / "all", FRAMES_PER_LATENT, len(checkpoint.dit.blocks))
    return replace(compiled, no_blocks=_compile_dit(no_blocks, setup, folder / "no-blocks", FRAMES_PER_LATENT))


def compile_plain(checkpoint: Checkpoint, setup: Setup, folder: Path) -> CompiledNetwork:
    """Compile the network as it is published."""
    stages, no_blocks = plain_stages(checkpoint, setup.recipe), plain_dits(_without_blocks(checkpoint), setup.recipe)
    frames = setup.recipe.clip_len
    compiled = compile_stages(stages, setup, folder / "all", frames, len(checkpoint.dit.blocks))
    return replace(compiled, no_blocks=_compile_dit(no_blocks, setup, folder / "no-blocks", frames))


def _without_blocks(checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, dit=without_blocks(checkpoint.dit))


def _compile_dit(stages: Iterable[Stage], setup: Setup, folder: Path, frames: int) -> CompiledNetwork:
    """Compile only the transformer; it has no blocks."""
    return compile_stages((stage for stage in stages if stage.name == "dit"), setup, folder, frames, layers=0)


def compile_stages(stages: Iterable[Stage], setup: Setup, folder: Path, frames: int, layers: int) -> CompiledNetwork:
    """Trace, compile and, if wanted, recount. Graphs, engines and reports are written to `folder` and stay there."""
    folder.mkdir(parents=True)
    block_bytes: dict[str, int] = {}
    flops: dict[str, int] = {}
    watched = watch_stages(stages, block_bytes, flops if setup.recount else None)
    with open_weights(folder) as weights:
        specs = tuple(traced.spec for traced in write_stages(watched, folder, weights))
    size = setup.recipe.resolution
    options = EngineOptions(setup.target, size, WORKSPACE_BYTES)
    built = build_engines(specs, folder, folder, options, _to_stderr)
    reports = [stage for path in sorted(folder.glob(f"*{SUFFIX}")) for stage in read_report(path).stages]
    recounts = _recount(specs, folder, setup) if setup.recount else {}
    return CompiledNetwork(
        setup.recipe,
        frames,
        layers,
        max(block_bytes.values(), default=0),
        {stage.name: stage for stage in reports},
        built,
        recounts,
        flops,
    )


def _to_stderr(line: str) -> None:
    click.echo(line, err=True)


def watch_stages(stages: Iterable[Stage], block_bytes: dict[str, int], flops: dict[str, int] | None) -> Iterator[Stage]:
    """Pass the stages on, one by one. After each, note what only its module can tell, before it is freed."""
    for stage in stages:
        yield stage
        block_bytes[stage.name] = _largest_block(stage.module)
        if flops is not None:
            for name, length in (stage.lengths or {stage.name: len(stage.example[0])}).items():
                flops[name] = count_with_torch(stage.module, (stage.example[0][:length], *stage.example[1:]))


def _largest_block(module: nn.Module) -> int:
    """Bytes of parameters and buffers of the largest transformer block, 0 if there is none."""
    lists = [part for name, part in module.named_modules() if name.rpartition(".")[2] == "blocks"]
    blocks = [block for part in lists for block in part.children()]
    sizes = (sum(t.nbytes for t in (*block.parameters(), *block.buffers())) for block in blocks)
    return max(sizes, default=0)


def _recount(specs: tuple[StageSpec, ...], folder: Path, setup: Setup) -> dict[str, Recount]:
    """Compile each graph file again. Stages that share one are its optimization profiles."""
    recounts: dict[str, Recount] = {}
    for file in dict.fromkeys(spec.file for spec in specs):
        sharing = [spec for spec in specs if spec.file == file]
        job = compile_job(sharing, folder, folder, EngineOptions(setup.target, setup.recipe.resolution))
        found = recount_engine(job.onnx, setup.target.compute_capability or "", job.profiles)
        recounts |= dict(zip((spec.name for spec in sharing), found, strict=True))
    return recounts
