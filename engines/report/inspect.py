"""What a bundle consists of, as data. `swiftvr-export inspect` shows it as tables, as JSON, or as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import MisuseError
from ..bundle.calibration import BUNDLED_DOOR, CALIBRATION_FILE, CONVOLUTIONS_IN, read_calibration
from ..bundle.cards import Card, gaming_cards
from ..bundle.files import Bundle
from ..bundle.manifest import NETWORK_STAGES, Manifest, Role, StageSpec, Toolchain
from ..bundle.pixel_formats import PIXEL_FORMATS, format_of_stage, given_formats
from ..compile.log import GEMM, by_kind, by_precision
from ..compile.report import SUFFIX, CompiledKernel, CompiledStage, EngineReport, read_report
from .roofline import Projection, chunk_runs, project

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_PRECISION_WORDS = {"Float": "FP32", "Half": "FP16", "BFloat16": "BF16", "Int8": "INT8"}


@dataclass(frozen=True)
class StageReport:
    """One stage: its file, the types and shapes of its first input and output, and the bytes of its state."""

    name: str
    file: str
    file_bytes: int
    takes: str
    gives: str
    state_bytes: int


@dataclass(frozen=True)
class StageSummary:
    """What the compiler made of one stage. Operations and bytes are those of one run.

    kernels: number of each kind. gemms: number in each precision. sixteen_bits: names of the 16-bit types among its
    tensors. flops: operations in each precision.
    unattributed_flops: operations of graph nodes that no kernel names; they are missing from the projection.
    """

    stage: str
    kernels: Mapping[str, int]
    gemms: Mapping[str, int]
    sixteen_bits: tuple[str, ...]
    fused_attention: int
    expected_attention: int
    weight_bytes: int
    arena_bytes: int
    flops: Mapping[str, int]
    unattributed_flops: int
    kernel_bytes: int


@dataclass(frozen=True)
class EnginesSummary:
    """What the compiler made of a bundle, and what follows from it.

    memory: GPU bytes of the whole pipeline with one stream, by owner. gpu_bytes: their sum. A card needs this much
    and the driver's share. chunk_flops, chunk_bytes: of a MIDDLE chunk.
    """

    stages: tuple[StageSummary, ...]
    memory: Mapping[str, int]
    gpu_bytes: int
    chunk_flops: Mapping[str, int]
    chunk_bytes: int
    build_seconds: float
    build_peak_bytes: int | None
    projected: tuple[Projection, ...]


@dataclass(frozen=True)
class LinearReport:
    """A linear, or a convolution of the decoder, that may be in INT8.

    bits: 8 if it is, else 16. decibels: of INT8, as in `Int8Scales`: those of a convolution are of the pixels.
    """

    name: str
    bits: int
    decibels: float
    convolution: bool = False


class PlannedStream(Protocol):
    """What the chunk loop allocates for one stream of frames. The runtime plans it; this module only reports it.

    nbytes: bytes in all. owners: GPU bytes of the whole pipeline by what they are for. buffers: one dataclass per
    buffer, reported field by field.
    """

    @property
    def nbytes(self) -> int: ...

    @property
    def owners(self) -> Mapping[str, int]: ...

    @property
    def buffers(self) -> tuple[DataclassInstance, ...]: ...


@dataclass(frozen=True)
class BundleReport:
    """Everything `inspect` says about a bundle.

    stages: those of the network. takes, gives: the pixel formats in which frames may come in and leave; each has a
    small stage of its own. stream_bytes: what the chunk loop allocates for one stream of `stream_input` frames. Exact
    for the loop's own buffers; working memory inside a stage is not included. linears: what
    calibration tried in INT8, in the transformer and the decoder. engines: None for a bundle of graphs.
    """

    recipe: Mapping[str, Any]
    made_by: str
    compiler: str
    compute_capability: str | None
    stages: tuple[StageReport, ...]
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    files: Mapping[str, int]
    bytes_on_disk: int
    stream_input: str
    stream_bytes: int
    buffers: tuple[DataclassInstance, ...]
    linears: tuple[LinearReport, ...] = ()
    engines: EnginesSummary | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def inspect_bundle(
    bundle: Bundle, *, stream_input: tuple[int, int], stream: PlannedStream, card: Card | None = None
) -> BundleReport:
    """Describe an opened bundle. stream_input: width and height of the frames that `stream` was planned for.

    card: the one to project the speed for; None for those that stand for all cards of the target. Raises `MisuseError`
    if this card cannot run the engines.
    """
    report = inspect_manifest(bundle.manifest, stream_input=stream_input, stream=stream)
    report = replace(report, linears=linear_reports(bundle))
    engines = engine_reports(bundle)
    return replace(report, engines=describe_engines(bundle.manifest, engines, stream, card)) if engines else report


def engine_reports(bundle: Bundle) -> tuple[EngineReport, ...]:
    """The reports stored beside the engines; none if the bundle holds graphs."""
    names = sorted(entry.name for entry in bundle.manifest.files if entry.name.endswith(SUFFIX))
    return tuple(read_report(bundle.path / name) for name in names)


def linear_reports(bundle: Bundle) -> tuple[LinearReport, ...]:
    """What calibration decided for each linear and convolution that it tried in INT8."""
    if all(entry.name != CALIBRATION_FILE for entry in bundle.manifest.files):
        return ()
    found = read_calibration(bundle.path / CALIBRATION_FILE, door=BUNDLED_DOOR).int8
    return tuple(
        LinearReport(name, scales.bits, scales.decibels, convolution=name.startswith(CONVOLUTIONS_IN))
        for name, scales in found.items()
    )


def inspect_manifest(manifest: Manifest, *, stream_input: tuple[int, int], stream: PlannedStream) -> BundleReport:
    """Describe a manifest alone."""
    files = {entry.name: entry.size for entry in manifest.files}
    return BundleReport(
        recipe=asdict(manifest.recipe),
        made_by=manifest.toolchain.tool,
        compiler=_compiler(manifest.toolchain),
        compute_capability=manifest.toolchain.compute_capability,
        stages=tuple(_stage(stage, files[stage.file]) for stage in map(manifest.stage, NETWORK_STAGES)),
        takes=tuple(form.name for form in PIXEL_FORMATS),
        gives=tuple(form.name for form in given_formats(manifest.recipe.height, manifest.recipe.width)),
        files=files,
        bytes_on_disk=sum(files.values()),
        stream_input=f"{stream_input[0]}x{stream_input[1]}",
        stream_bytes=stream.nbytes,
        buffers=stream.buffers,
    )


def describe_engines(
    manifest: Manifest, reports: Iterable[EngineReport], stream: PlannedStream, card: Card | None = None
) -> EnginesSummary:
    """Join the reports of all engines with the manifest. card: see `inspect_bundle`."""
    engines = tuple(reports)
    cards = _cards(engines[0].sm if engines else None, card)
    made = {stage.name: (stage, engine) for engine in engines for stage in engine.stages}
    memory = _memory(manifest, stream)
    recipe = manifest.recipe
    runs = chunk_runs(recipe.latents)
    shown = {*runs, *NETWORK_STAGES}
    ordered = [made[spec.name] for spec in manifest.stages if spec.name in made.keys() & shown]
    stages = [stage for stage, _ in ordered]
    peaks = [engine.peak_bytes for engine in engines if engine.peak_bytes is not None]
    return EnginesSummary(
        stages=tuple(_stage_summary(stage, engine) for stage, engine in ordered),
        memory=memory,
        gpu_bytes=sum(memory.values()),
        chunk_flops=_sum((stage.flops, runs.get(stage.name, 0)) for stage in stages),
        chunk_bytes=sum(stage.nbytes * runs.get(stage.name, 0) for stage in stages),
        build_seconds=sum(engine.seconds for engine in engines),
        build_peak_bytes=max(peaks, default=None),
        projected=tuple(project(stages, recipe.latents, recipe.clip_len, gpu) for gpu in cards),
    )


def _cards(sm: str | None, wanted: Card | None) -> tuple[Card, ...]:
    """The cards to project engines for. sm: what they were built for; None if they do not say."""
    if wanted is None:
        return gaming_cards(sm)
    if sm not in (None, wanted.sm):
        raise MisuseError(
            f"the engines are for {sm}, the {wanted.name} has {wanted.sm}: build them with --target {wanted.option}"
        )
    return (wanted,)


def _stage_summary(stage: CompiledStage, engine: EngineReport) -> StageSummary:
    gemms = by_precision(stage.kernels, GEMM)
    return StageSummary(
        stage.name,
        by_kind(stage.kernels),
        dict(sorted((_PRECISION_WORDS.get(precision, precision), count) for precision, count in gemms.items())),
        _sixteen_bits(stage.kernels),
        stage.fused,
        stage.attentions,
        engine.weight_bytes,
        stage.arena_bytes,
        stage.flops,
        stage.total_flops - sum(kernel.flops for kernel in stage.kernels),
        stage.nbytes,
    )


def _sixteen_bits(kernels: Iterable[CompiledKernel]) -> tuple[str, ...]:
    """The names of the 16-bit types of all tensors, e.g. `BF16`."""
    tensors = (tensor for kernel in kernels for tensor in (*kernel.inputs, *kernel.constants, *kernel.outputs))
    types = {tensor.partition(" ")[0] for tensor in tensors}
    return tuple(sorted(_PRECISION_WORDS[name] for name in types & {"Half", "BFloat16"}))


def _memory(manifest: Manifest, stream: PlannedStream) -> dict[str, int]:
    """Weights of each engine file once, the arena that all stages share, and the buffers of one stream."""
    weights: dict[str, int] = {}
    for stage in map(manifest.stage, NETWORK_STAGES):
        name = f"weights of {stage.file}"
        weights[name] = max(weights.get(name, 0), stage.weight_bytes)
    if constants := sum(stage.weight_bytes for stage in manifest.stages if format_of_stage(stage.name)):
        weights["constants of pixel stages"] = constants
    return {**weights, **{owner: nbytes for owner, nbytes in stream.owners.items() if nbytes and owner != "weights"}}


def _sum(counts: Iterable[tuple[Mapping[str, int], int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for flops, times in counts:
        for precision, count in flops.items():
            total[precision] = total.get(precision, 0) + count * times
    return {precision: count for precision, count in sorted(total.items()) if count}


def _stage(stage: StageSpec, file_bytes: int) -> StageReport:
    return StageReport(
        stage.name,
        stage.file,
        file_bytes,
        _shape(stage.inputs[0].dtype, stage.inputs[0].shape),
        _shape(stage.outputs[0].dtype, stage.outputs[0].shape),
        sum(spec.nbytes for spec in stage.inputs if spec.role is Role.STATE_IN),
    )


def _compiler(made: Toolchain) -> str:
    """The compiler's name and version, and the CUDA versions of its package and of the driver if recorded."""
    driver = f", driver for CUDA {made.driver_cuda}" if made.driver_cuda else ""
    cuda = f" (CUDA {made.cuda}{driver})" if made.cuda else ""
    return f"{made.compiler} {made.compiler_version}{cuda}"


def _shape(dtype: str, shape: tuple[int | None, ...]) -> str:
    return f"{dtype} [{', '.join('any' if side is None else str(side) for side in shape)}]"
