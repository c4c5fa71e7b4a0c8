"""What the rewrites are worth to a compiler: the same network, exported plainly and as this tool does it, compiled for
a card that need not be there. Prints plain / rewritten / ratio, and what an independent compile of the same file says.

    python -m benchmarks.engine_table --checkpoint DIR --resolution 1920x1080 --precision fp16 -o results.json

Plain is what one gets by handing the published network to an exporter: all rewrites off, and the autoencoder a whole
chunk at a time. Operations and memory are counted, nothing is executed, and no time is claimed.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swiftvr_trt.engines.assemble import build_engines, job_for
from swiftvr_trt.engines.cache import BundleCache
from swiftvr_trt.engines.compiler import compiler_version
from swiftvr_trt.engines.facts import SUFFIX, StageFacts, read_facts
from swiftvr_trt.engines.geometry import FRAMES_PER_LATENT, Resolution
from swiftvr_trt.engines.manifest import PRECISIONS, Recipe, Role, StageSpec
from swiftvr_trt.engines.targets import Target, target
from swiftvr_trt.export.build import tool_version
from swiftvr_trt.export.checkpoint import Checkpoint, load_checkpoint
from swiftvr_trt.export.pixels import frames_in, frames_out
from swiftvr_trt.export.reae import Decoder, Encoder, State, TGrow
from swiftvr_trt.export.rewrites import Rewrites
from swiftvr_trt.export.stages import Stage, stages_of
from swiftvr_trt.export.tracing import open_store, trace_into

from .independent import Opinion, compile_again

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Row:
    """One line of the table. independent: the rewritten form as counted by the independent compile, if it counts it."""

    what: str
    unit: str
    plain: float
    rewritten: float
    independent: float | None = None

    @property
    def ratio(self) -> float:
        return self.rewritten / self.plain if self.plain else float("nan")


@dataclass(frozen=True)
class Form:
    """One way to export: what was compiled of each stage, and the second opinions."""

    facts: Mapping[str, StageFacts]
    weights: Mapping[str, int]
    opinions: Mapping[str, Opinion]
    specs: tuple[StageSpec, ...]


class PlainEncode(nn.Module):
    """All frames of a chunk at once."""

    def __init__(self, encoder: Encoder, size: Resolution, dtype: torch.dtype) -> None:
        super().__init__()
        self.encoder, self.size, self.dtype = copy.deepcopy(encoder).to(dtype), size, dtype

    def forward(self, frames: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        latents, after = self.encoder(frames_in(frames, self.size, parity=False).to(self.dtype), state)
        return (latents.float(), *after)


class PlainGrow(nn.Module):
    """A frame becomes two as it is published: repeated in time, through a convolution over time."""

    def __init__(self, grow: TGrow) -> None:
        super().__init__()
        self.conv3d = grow.conv3d

    def forward(self, x: Tensor) -> Tensor:
        twice = x.unsqueeze(2).repeat(1, 1, 2, 1, 1)
        return F.conv3d(twice, self.conv3d.weight, padding=(1, 0, 0)).transpose(1, 2).flatten(0, 1)


class PlainDecode(nn.Module):
    """All latents of a chunk at once."""

    def __init__(self, decoder: Decoder, size: Resolution, dtype: torch.dtype) -> None:
        super().__init__()
        self.decoder, self.size, self.dtype = copy.deepcopy(decoder).to(dtype), size, dtype
        for position, layer in enumerate(self.decoder):
            if isinstance(layer, TGrow) and layer.stride == 2:
                self.decoder[position] = PlainGrow(layer)

    def forward(self, restored: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        x, after = self.decoder(restored.to(self.dtype), state)
        return (frames_out(x.float(), self.size), *after)


def plain_stages(loaded: Checkpoint, recipe: Recipe) -> Iterator[Stage]:
    """The network as an exporter would get it."""
    size, dtype = recipe.resolution, _DTYPES.get(recipe.precision, torch.float16)
    encoder = PlainEncode(loaded.reae.encoder, size, dtype)
    state = encoder.encoder.initial_state(size.latent_height, size.latent_width)
    frames = torch.zeros(recipe.clip_len, 67, 93, 3, dtype=torch.uint8)
    yield _stage("encode", encoder, frames, state, ("frames", Role.FRAMES), ("latents", Role.LATENTS), ("frames",))
    for stage in stages_of(loaded, replace(recipe, without=tuple(sorted(Rewrites.names())))):
        if stage.name.startswith("dit"):
            yield stage
    decoder = PlainDecode(loaded.reae.decoder, size, dtype)
    state = decoder.decoder.initial_state(size.latent_height, size.latent_width)
    latents = torch.zeros(recipe.latents, loaded.reae.config.latent_channels, size.latent_height, size.latent_width)
    yield _stage("decode", decoder, latents, state, ("restored", Role.LATENTS), ("frames", Role.FRAMES), ())


def _stage(
    name: str,
    module: nn.Module,
    first: Tensor,
    state: State,
    taken: tuple[str, Role],
    given: tuple[str, Role],
    free: tuple[str, ...],
) -> Stage:
    before = tuple((f"state_in_{k}", Role.STATE_IN) for k in range(len(state)))
    after = tuple((f"state_out_{k}", Role.STATE_OUT) for k in range(len(state)))
    return Stage(name, module, (first, *state), (taken, *before), (given, *after), free_size=free)


def compile_form(stages: Iterable[Stage], place: Path, chosen: Target, size: Resolution, *, again: bool) -> Form:
    """Trace and compile, and compile again independently; everything is written to `place` and stays there."""
    place.mkdir()
    with open_store(place) as store:
        specs = tuple(traced.spec for traced in trace_into(stages, place, store))
        built = build_engines(specs, place, place, chosen, size, click.echo)
    engines = [read_facts(path) for path in sorted(place.glob(f"*{SUFFIX}"))]
    opinions = {}
    for spec in specs if again else ():
        sharing = [other for other in specs if other.file == spec.file]
        job = job_for(sharing, place, place, chosen, size)
        opinions[spec.name] = compile_again(job.onnx, chosen.compute_capability or "", job.profiles)
    return Form(
        {stage.name: stage for engine in engines for stage in engine.stages},
        {stage.name: engine.weight_bytes for engine in engines for stage in engine.stages},
        opinions,
        built,
    )


def without_blocks(loaded: Checkpoint) -> Checkpoint:
    """The checkpoint with a transformer of no blocks: what is left is what a block does not cost."""
    bare = copy.copy(loaded.dit)
    bare._modules = {**loaded.dit._modules, "blocks": nn.ModuleList()}
    return replace(loaded, dit=bare)


def rows(plain: Form, ours: Form, bare: tuple[Form, Form], recipe: Recipe, layers: int) -> Iterator[Row]:
    """The table of the issue, line by line. bare: both forms without any block."""

    def arena(form: Form, name: str) -> float:
        return form.facts[name].arena_bytes / 1e9

    def opinion(name: str) -> float | None:
        return ours.opinions[name].arena_bytes / 1e9 if name in ours.opinions else None

    for what, name in (("decoder", "decode"), ("encoder", "encode"), ("DiT, larger profile,", "dit_edge")):
        yield Row(f"{what} activations", "GB", arena(plain, name), arena(ours, name), opinion(name))
    frames = recipe.clip_len
    yield Row(
        "decoder operations per frame",
        "GFLOP",
        plain.facts["decode"].total_flops / frames / 1e9,
        ours.facts["decode"].total_flops / FRAMES_PER_LATENT / 1e9,
    )
    yield Row(
        "encoder operations per frame",
        "GFLOP",
        plain.facts["encode"].total_flops / frames / 1e9,
        ours.facts["encode"].total_flops / FRAMES_PER_LATENT / 1e9,
    )
    yield Row(
        "DiT operations per chunk", "TFLOP", plain.facts["dit"].total_flops / 1e12, ours.facts["dit"].total_flops / 1e12
    )
    kernels = [
        (len(form.facts["dit"].kernels) - len(rest.facts["dit"].kernels)) / layers
        for form, rest in zip((plain, ours), bare, strict=True)
    ]
    again = None
    if "dit" in ours.opinions and "dit" in bare[1].opinions:
        again = (ours.opinions["dit"].kernels - bare[1].opinions["dit"].kernels) / layers
    yield Row("kernels per DiT block", "", *kernels, again)
    expected = ours.facts["dit"].attentions
    yield Row(
        f"attention kernels fused, of {plain.facts['dit'].attentions} / {expected}",
        "",
        plain.facts["dit"].fused,
        ours.facts["dit"].fused,
        ours.opinions["dit"].attention if "dit" in ours.opinions else None,
    )
    yield Row("weights", "GB", *(sum_weights(form) / 1e9 for form in (plain, ours)))
    yield Row("engines and arena on the GPU", "GB", *(pipeline(form) / 1e9 for form in (plain, ours)))


def sum_weights(form: Form) -> int:
    """Weights of each engine file once."""
    return sum({spec.file: spec.weight_bytes for spec in form.specs}.values())


def pipeline(form: Form) -> int:
    """Weights and the arena that stages share; the buffers of a stream come on top and are the same for both."""
    return sum_weights(form) + max(spec.arena_bytes for spec in form.specs)


@click.command()
@click.option("--checkpoint", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--resolution", default="1920x1080", show_default=True)
@click.option("--clip-len", default=24, show_default=True)
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp16", show_default=True)
@click.option("--target", "target_name", default="rtx5090", show_default=True)
@click.option("--independent/--no-independent", default=True, show_default=True, help="Compile each file once more.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the table as JSON, too.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep graphs, engines and reports in this new directory.")
def main(
    checkpoint: Path,
    resolution: str,
    clip_len: int,
    precision: str,
    target_name: str,
    independent: bool,
    output: Path | None,
    keep: Path | None,
) -> None:
    """Compile plain and rewritten forms of a checkpoint and print what the difference is."""
    chosen, size = target(target_name), Resolution.parse(resolution)
    digest = BundleCache().checkpoint_digest(checkpoint)
    recipe = Recipe(digest, size.width, size.height, clip_len, precision, chosen.name)
    with ExitStack() as stack:
        if keep is not None:
            keep.mkdir(parents=True)
        place = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        table = list(measure(checkpoint, recipe, place, chosen, again=independent))
    _print(table)
    if output is not None:
        output.write_text(json.dumps(_result(table, checkpoint, recipe, chosen), indent=2) + "\n", encoding="utf-8")


def measure(checkpoint: Path, recipe: Recipe, place: Path, chosen: Target, *, again: bool) -> Iterator[Row]:
    """Both forms, with all blocks and with none."""
    loaded = load_checkpoint(checkpoint)
    bare, size = without_blocks(loaded), recipe.resolution
    forms = {}
    for name, network in (("plain", plain_stages), ("ours", stages_of)):
        click.echo(f"== {name}")
        forms[name] = compile_form(network(loaded, recipe), place / name, chosen, size, again=again)
        rest = (stage for stage in network(bare, recipe) if stage.name.startswith("dit"))
        forms[f"bare {name}"] = compile_form(rest, place / f"bare-{name}", chosen, size, again=again)
    layers = len(list(loaded.dit.blocks))
    return rows(forms["plain"], forms["ours"], (forms["bare plain"], forms["bare ours"]), recipe, layers)


def _result(table: list[Row], checkpoint: Path, recipe: Recipe, chosen: Target) -> dict[str, Any]:
    return {
        "checkpoint": checkpoint.name,
        "recipe": asdict(recipe),
        "versions": {
            "swiftvr-trt": tool_version(),
            "torch": torch.__version__,
            chosen.compiler: compiler_version(chosen.compiler),
        },
        "rows": [{**asdict(row), "ratio": row.ratio} for row in table],
    }


def _print(table: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table("", "plain", "rewritten", "ratio", "independent compile")
    for row in table:
        cells = [f"{value:,.3f} {row.unit}" for value in (row.plain, row.rewritten)]
        shown.add_row(
            row.what,
            *cells,
            f"{row.ratio:.2f}",
            "-" if row.independent is None else f"{row.independent:,.3f} {row.unit}",
        )
    Console().print(shown)


if __name__ == "__main__":
    main()
