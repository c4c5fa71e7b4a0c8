"""A form of the network, compiled: what `engines/` says of it, and what `independent.py` says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
from torch import nn

from swiftvr_trt.engines.bundle.geometry import FRAMES_PER_LATENT
from swiftvr_trt.engines.bundle.manifest import Manifest, Recipe, StageSpec, Toolchain
from swiftvr_trt.engines.bundle.targets import Target
from swiftvr_trt.engines.compile.engines import build_engines, compile_job
from swiftvr_trt.engines.compile.log import GEMM
from swiftvr_trt.engines.compile.report import SUFFIX, CompiledKernel, CompiledStage, read_report
from swiftvr_trt.export.graph.stages import Stage, stages_of
from swiftvr_trt.export.graph.to_onnx import open_weights, write_stages
from swiftvr_trt.export.network.checkpoint import Checkpoint
from swiftvr_trt.export.network.dit import without_blocks
from swiftvr_trt.runtime.stream.plan import MemoryPlan, plan_memory

from .independent import Opinion, compile_again, count_with_torch
from .plain_form import plain_dits, plain_stages

DIT = ("dit", "dit_edge")
WORKSPACE_BYTES = 32 << 30
"""More than a build of the tool allows: the plain decoder asks for 4.4 GB at 1920x1080."""


class AnyMagnitude(dict[str, float]):
    """Calibration that never saw a frame: the same magnitude for every name. Counting does not depend on it."""

    def __missing__(self, name: str) -> float:
        return 8.0


_SCALES = AnyMagnitude({"": 8.0})


@dataclass(frozen=True)
class Form:
    """One way to export, compiled. Everything is keyed by the name of a stage.

    frames: how many of them the autoencoder takes at a time. layers: blocks of the transformer, block_bytes: weights of
    one of them, as they are in the graph. opinions, torch_flops: by independent means, empty if nobody asked.
    bare: the transformer without any block, the same way.
    """

    recipe: Recipe
    frames: int
    layers: int
    block_bytes: int
    facts: Mapping[str, CompiledStage]
    specs: tuple[StageSpec, ...]
    opinions: Mapping[str, Opinion] = field(default_factory=dict)
    torch_flops: Mapping[str, int] = field(default_factory=dict)
    bare: Form | None = None

    def memory(self, layers: int) -> MemoryPlan:
        """The plan of the whole pipeline for so many blocks, and frames that come in as large as they go out.

        Every block has the same tensors, so each one more adds the same bytes of weights. They run one after another
        in one arena, which is taken to stay as it is; the compiler packs 30 blocks a little worse than 2
        (docs/engines.md has both).
        """
        more = (layers - self.layers) * self.block_bytes
        # The plain form has a file for each length of the transformer; one of them is counted, to its advantage.
        specs = tuple(
            replace(spec, file="dit.engine", weight_bytes=spec.weight_bytes + more) if spec.name in DIT else spec
            for spec in self.specs
        )
        manifest = Manifest(self.recipe, Toolchain("benchmark", "", ""), specs, ())
        return plan_memory(manifest, self.recipe.height, self.recipe.width)

    def block_gemms(self) -> list[CompiledKernel]:
        """The matrix products of all blocks: those of the transformer less those that it has without blocks."""
        rest = Counter(_signature(kernel) for kernel in self.bare.facts["dit"].kernels) if self.bare else Counter()
        found = []
        for kernel in self.facts["dit"].kernels:
            if rest[_signature(kernel)]:
                rest[_signature(kernel)] -= 1
            elif kernel.kind == GEMM:
                found.append(kernel)
        return found


def _signature(kernel: CompiledKernel) -> tuple[object, ...]:
    return kernel.kind, kernel.constants, kernel.outputs, kernel.precision


def ours(loaded: Checkpoint, recipe: Recipe, place: Path, chosen: Target, *, again: bool) -> Form:
    """As the tool exports it."""
    whole = stages_of(loaded, recipe, _SCALES, joint=True)
    rest = stages_of(_bare(loaded), recipe, _SCALES, joint=True)
    return _form(loaded, recipe, FRAMES_PER_LATENT, place, chosen, (whole, rest), again=again)


def plain(loaded: Checkpoint, recipe: Recipe, place: Path, chosen: Target, *, again: bool) -> Form:
    """As the network is published."""
    whole, rest = plain_stages(loaded, recipe), plain_dits(_bare(loaded), recipe)
    return _form(loaded, recipe, recipe.clip_len, place, chosen, (whole, rest), again=again)


def _bare(loaded: Checkpoint) -> Checkpoint:
    return replace(loaded, dit=without_blocks(loaded.dit))


def _form(
    loaded: Checkpoint,
    recipe: Recipe,
    frames: int,
    place: Path,
    chosen: Target,
    stages: tuple[Iterable[Stage], Iterable[Stage]],
    *,
    again: bool,
) -> Form:
    whole, rest = stages
    bare = compile_stages(
        (stage for stage in rest if stage.name == "dit"), recipe, frames, 0, place / "bare", chosen, again=again
    )
    form = compile_stages(whole, recipe, frames, len(loaded.dit.blocks), place / "all", chosen, again=again)
    return replace(form, bare=bare)


def compile_stages(
    stages: Iterable[Stage], recipe: Recipe, frames: int, layers: int, place: Path, chosen: Target, *, again: bool
) -> Form:
    """Trace and compile, and count once more independently; everything is written to `place` and stays there."""
    place.mkdir(parents=True)
    block_bytes: dict[str, int] = {}
    flops: dict[str, int] = {}
    watched = _watched(stages, block_bytes, flops if again else None)
    with open_weights(place) as store:
        specs = tuple(traced.spec for traced in write_stages(watched, place, store))
    built = build_engines(specs, place, place, chosen, recipe.resolution, _say, WORKSPACE_BYTES)
    facts = [stage for path in sorted(place.glob(f"*{SUFFIX}")) for stage in read_report(path).stages]
    opinions = _opinions(specs, place, chosen, recipe) if again else {}
    return Form(
        recipe,
        frames,
        layers,
        max(block_bytes.values(), default=0),
        {stage.name: stage for stage in facts},
        built,
        opinions,
        flops,
    )


def _say(line: str) -> None:
    click.echo(line, err=True)


def _watched(stages: Iterable[Stage], block_bytes: dict[str, int], flops: dict[str, int] | None) -> Iterator[Stage]:
    """The stages, one by one; when one has been used, note what only its module tells."""
    for stage in stages:
        yield stage
        block_bytes[stage.name] = _largest_block(stage.module)
        if flops is not None:
            for name, length in (stage.lengths or {stage.name: len(stage.example[0])}).items():
                flops[name] = count_with_torch(stage.module, (stage.example[0][:length], *stage.example[1:]))


def _largest_block(module: nn.Module) -> int:
    """Bytes of the parameters and buffers of the transformer block that has most of them; 0 if there is none."""
    lists = [part for name, part in module.named_modules() if name.rpartition(".")[2] == "blocks"]
    blocks = [block for part in lists for block in part.children()]
    sizes = (sum(t.nbytes for t in (*block.parameters(), *block.buffers())) for block in blocks)
    return max(sizes, default=0)


def _opinions(specs: tuple[StageSpec, ...], place: Path, chosen: Target, recipe: Recipe) -> dict[str, Opinion]:
    """One more compilation per graph file; stages that share one are its optimization profiles."""
    opinions: dict[str, Opinion] = {}
    for file in dict.fromkeys(spec.file for spec in specs):
        sharing = [spec for spec in specs if spec.file == file]
        job = compile_job(sharing, place, place, chosen, recipe.resolution)
        again = compile_again(job.onnx, chosen.compute_capability or "", job.profiles)
        opinions |= dict(zip((spec.name for spec in sharing), again, strict=True))
    return opinions
