"""`--dry-run`: what a run would do, file by file, with the checks of the run, and without writing anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...engines.bundle.card_names import find_card
from ...engines.bundle.files import Bundle
from ...engines.bundle.geometry import Resolution
from ...engines.bundle.targets import bundle_target
from ...errors import NoBundleError, SwiftVRError
from ...machine import available_memory
from ...text import format_bytes
from ..devices.ort import graph_bytes
from ..devices.what_fits import shortage_message
from ..media import OutputForm, SourceInfo, open_sink
from ..media.expected_size import expected_bytes
from ..media.files import check_parent
from ..media.pipes import is_output_pipe
from ..media.trimmed import TrimmedVideo
from ..media.video_in import VideoSource
from ..stream.buffers import Forms, used_stages
from ..stream.frames import RGB
from ..stream.plan import plan_memory
from ..stream.tiles import Tiling
from .batch import unfinished
from .display import Display, WarnsOnce
from .divided import require_video
from .expected_bundle import BundleToBuild, expect_bundle
from .hwaccel import on_gpu
from .interruptible import run_interruptibly
from .job import Job, in_pieces, open_job_input, pieces_task, tiling_of, with_steps
from .preview import preview_info
from .restorer import choose_device
from .run import RunOptions, announced_inputs, batch_jobs, check_one, only_job, some_failed
from .segments.grid import Grid
from .segments.store import free_bytes, kept_pieces
from .segments.task import PiecesTask, identity_of
from .tiled import blended_bytes, shrunk, tiled_bytes


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a run takes at least.

    ram: weights and frames if the CPU restores, else frames on their way; the library that runs the network takes more.
    gpu: weights, working memory and frames on the GPU; None if the CPU restores. free: RAM that is free; None if
    unknown.
    """

    ram: int
    gpu: int | None
    free: int | None


@dataclass(frozen=True)
class DiskNeed:
    """Bytes of the output, a rough range; None if the number of frames is unknown.

    copies: how many times that is on the disk just before the output is complete; 0 for a pipe. free: on that disk.
    """

    low: int | None
    high: int | None
    copies: int
    free: int


@dataclass(frozen=True)
class FilePlan:
    """What a run would do with one input.

    name            as in messages; empty for a single file
    description     of the input
    size            of the output's pictures in pixels
    frames          None if unknown
    bundle          the one to be used, or what has to be built first
    memory          None before the bundle is built, and on a cluster
    device          that restores: `cpu`, `cuda` or `cuda:N`; None with several, and on a cluster
    tiling          of the restored pictures
    kept_frames     what an interrupted run has restored already; `resume` says whether the run goes on with it
    """

    name: str
    source: str
    output: str
    description: str
    form: OutputForm
    size: Resolution
    frames: int | None
    bundle: Bundle | BundleToBuild
    memory: MemoryNeed | None
    disk: DiskNeed
    device: str | None
    tiling: Tiling
    kept_frames: int = 0
    resume: bool = True


def plan_files(options: RunOptions, display: Display) -> Iterator[FilePlan]:
    """What `restore_files` would do with each source. Warnings and files that would fail go to `display`.

    Raises what `restore_files` would raise before it restores, as far as that can be told without loading the bundle.
    """
    options = replace(options, sink=replace(options.sink, trial=True)).on_this_machine()
    inputs = announced_inputs(options, display)
    if not inputs.is_batch:
        yield from _plan_one(options, display)
        return
    jobs, devices = batch_jobs(options, inputs.found, display)
    options.opening()
    planner = _Planner(options, display, devices, None if options.cluster is None else "--cluster")
    failed: list[tuple[Job, SwiftVRError]] = []
    for job in jobs:
        try:
            yield planner.plan(job)
        except SwiftVRError as error:
            failed.append((job, error))
            display.result(job.result("failed", str(error)), job.name)
    if failed and len(failed) == len(jobs) and all(isinstance(error, NoBundleError) for _, error in failed):
        raise failed[0][1]
    if failed:
        raise some_failed([job for job, _ in failed], len(jobs), "would fail", "")


def _plan_one(options: RunOptions, display: Display) -> Iterator[FilePlan]:
    job = only_job(options)
    display.begin([(str(job.source), job.output)])
    if options.skip_existing and not unfinished([job], display):
        return
    try:
        devices = check_one(options, job)
        options.opening()
        if not is_output_pipe(job.output):
            check_parent(Path(job.output))
        shared = {"--devices": options.devices, "--cluster": options.cluster}
        option = next((name for name, value in shared.items() if value is not None), None)
        plan = _Planner(options, display, devices, option).plan(job)
    except SwiftVRError as error:
        display.result(job.result("failed", str(error)))
        raise
    yield plan


@dataclass(frozen=True)
class _Planner:
    """Plans the jobs of a run, which share bundles. option: that divides each video, and takes nothing else."""

    options: RunOptions
    display: Display
    devices: Sequence[str | None]
    option: str | None = None
    bundles: dict[Resolution, Bundle | BundleToBuild] = field(default_factory=dict)

    def plan(self, job: Job) -> FilePlan:
        """What would be done for a job. Raises what the run would raise."""
        options, request = self.options, self.options.request
        warn = WarnsOnce(self.display, job.title)
        device = self.devices[0] if len(self.devices) == 1 else None
        job = replace(job, sink=on_gpu(job.sink, job.hwaccel, device, warn))
        with run_interruptibly(lambda: open_job_input(job)) as source:
            if self.option is not None:
                require_video(source, job, self.option)
            info, piece = source.info, options.preview
            warn(*source.notes)
            tiling = tiling_of(job, request, info)
            size = tiling.size
            shown = info if piece is None else preview_info(info, piece)
            if piece is not None:
                piece.begin(info)
            width = size.width if piece is None else 2 * size.width
            sink_options = with_steps(job.sink, job.output, source, warn)
            with run_interruptibly(lambda: open_sink(job.output, shown, width, size.height, sink_options)) as sink:
                warn(*sink.notes)
                form = sink.form
            bundle = self._bundle(tiling.tile)
            device = self._device(bundle)
            kept, pieces = 0, piece is None and in_pieces(job, source, sink)
            if pieces:
                assert isinstance(source, VideoSource | TrimmedVideo)
                task = replace(pieces_task(job, tiling, sink_options, source.excerpt), reading=info.reading)
                kept = _kept_frames(task, info, bundle, resume=job.resume)
        elsewhere = self.options.cluster is not None
        memory = None
        if not (elsewhere or isinstance(bundle, BundleToBuild)):
            where = "cpu" if set(self.devices) == {"cpu"} else device
            memory = _memory(bundle, info, tiling, where, overlap=self.options.overlap)
        disk = _disk(job, form, width * size.height, shown.frames, copies=2 if pieces else 1)
        warn(*self._shortages(bundle, info, tiling, memory, disk))
        return FilePlan(
            job.title, str(job.source), job.output, info.description, form, Resolution(width, size.height),
            shown.frames, bundle, memory, disk, device, tiling, kept, job.resume,
        )  # fmt: skip

    def _bundle(self, size: Resolution) -> Bundle | BundleToBuild:
        if size not in self.bundles:
            self.bundles[size] = expect_bundle(self.options.request, size, self.display.say)
        return self.bundles[size]

    def _device(self, bundle: Bundle | BundleToBuild) -> str | None:
        if len(self.devices) > 1 or self.options.cluster is not None:
            return None
        recipe = bundle.recipe if isinstance(bundle, BundleToBuild) else bundle.manifest.recipe
        return choose_device(recipe.target, self.devices[0], self.options.opening())

    def _shortages(
        self,
        bundle: Bundle | BundleToBuild,
        info: SourceInfo,
        tiling: Tiling,
        memory: MemoryNeed | None,
        disk: DiskNeed,
    ) -> Iterator[str]:
        """What there is too little of, one line each."""
        card = find_card(self.options.request.target)
        if memory is not None and memory.free is not None and memory.ram > memory.free:
            yield f"the run needs {format_bytes(memory.ram)} of memory, {format_bytes(memory.free)} are free"
        if isinstance(bundle, Bundle) and memory is not None and memory.gpu is not None and card is not None:
            sides = tiling.part_size(*shrunk(tiling.size, info.height, info.width))
            overlap, more = self.options.overlap, len(tiling.tiles) - 1
            if memory.gpu > card.memory_bytes:
                beside = memory.gpu - plan_memory(bundle.manifest, *sides, overlap=overlap).gpu_bytes
                others = [beside // more] * more if more else []
                yield shortage_message(bundle.manifest, *sides, int(card.memory_bytes), overlap=overlap, others=others)
        if disk.low is not None and disk.low * disk.copies > disk.free:
            needed, free = format_bytes(disk.low * disk.copies), format_bytes(disk.free)
            yield f"the output will take {needed} or more, {free} are free: free some space, or choose another place"


def _kept_frames(task: PiecesTask, info: SourceInfo, bundle: Bundle | BundleToBuild, *, resume: bool) -> int:
    """How many frames an interrupted run has restored. Raises `MediaError` if this run may not go on with them."""
    identity = None
    if resume and isinstance(bundle, Bundle):
        identity = identity_of(task, Grid.for_rate(bundle.manifest, info.rate, task.seconds))
    return sum(mark.frames for mark in kept_pieces(task.output, identity))


def _memory(
    bundle: Bundle, info: SourceInfo, tiling: Tiling, device: str | None, *, overlap: bool = False
) -> MemoryNeed:
    manifest, free, streams = bundle.manifest, available_memory(), len(tiling.tiles)
    form = RGB if tiling.is_whole else info.form
    if device == "cpu":
        weights = sum(entry.size for entry in manifest.files)
        return MemoryNeed(weights + tiled_bytes(tiling, manifest, (info.height, info.width), form), None, free)
    sides = tiling.part_size(*shrunk(tiling.size, info.height, info.width))
    plan = plan_memory(manifest, *sides, Forms(form.format, form.format), overlap=overlap)
    host = streams * plan.host.nbytes + blended_bytes(tiling, manifest, form)
    graphs = 0 if bundle_target(manifest.recipe.target).compiled else graph_bytes(bundle, used_stages(plan.buffers))
    return MemoryNeed(host, graphs + plan.shared_bytes + streams * plan.device.nbytes, free)


def _disk(job: Job, form: OutputForm, pixels: int, frames: int | None, *, copies: int) -> DiskNeed:
    if is_output_pipe(job.output):
        return DiskNeed(None, None, 0, 0)
    place = next(folder for folder in Path(job.output).absolute().parents if folder.exists())
    low, high = (None, None) if frames is None else expected_bytes(form, pixels * frames)
    return DiskNeed(low, high, copies, free_bytes(place))
