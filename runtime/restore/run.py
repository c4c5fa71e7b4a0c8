"""Restores files: a single file in this process, several with one process per device.

options = RunOptions((Path("old.mp4"),), "new.mp4", request=BundleRequest(bundle=Path("b1080")))
restore_files(options, display)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from ... import leaving
from ...engines.bundle.geometry import Resolution
from ...errors import MachineError, MisuseError, SwiftVRError
from ...text import counted
from ..media import SinkOptions
from ..media.pipes import is_output_pipe, output_name
from ..media.source_options import SCENE_CUTS, SourceOptions
from ..media.trim import Trim
from ..stream.tiles import parse_tile
from ..stream.trace import Trace
from .batch import assign_bundles, open_once, output_folders, plan_jobs, refuse_existing, unfinished, with_bundle
from .bundle_request import BundleRequest, check_devices, requested_device, suit_devices
from .cluster.address import ClusterOptions
from .cluster.on_cluster import ClusterRun, check_cluster
from .display import Display
from .divided import restore_divided, restore_few
from .fleet import parse_devices, run_fleet
from .inputs import Input, Inputs, find_inputs
from .interruptible import run_interruptibly
from .job import Job, JobWithBundle, Restored, restore_job
from .piped import check_pipes
from .preview import Preview, restore_preview
from .restorer import OpenOptions, Restorer
from .selection import find_and_name_bundle
from .side_file import check_side_file


@dataclass(frozen=True)
class RunOptions:
    """What to restore and how. The fields are named like the options of `swiftvr-run`.

    sources         videos, images, folders of videos or of images
    output          as typed, since a slash at its end means a folder; always a folder with several sources
    request         which bundle to use or build
    sink            how outputs are written
    trim            the part of each source to restore
    reading         how sources are read
    rate            images per second, for folders of images
    hwaccel         see `video_gpu`
    device          see `Restorer.open`, as for `threads`, `ort_graphs`, `graphs` and `overlap`
    devices         see `parse_devices`; they share one video, or take the files of a batch one by one
    cluster, ship   restore videos on a cluster; see `ClusterOptions`
    suffix          of the outputs in a folder; see `plan_jobs`
    recursive       also restore what the folders in folders hold
    skip_existing   leave inputs alone whose output is there; see `set_finished_aside`
    preview         restore this piece of a single input only, and write it beside the original
    trace           file for the trace of a single run
    strict          a damaged input is a failure, even if no frame is missing
    tile            restore outputs that no bundle fits in tiles: "auto", or their size; see `plan_tiles`
    scene_cut       one of `SCENE_CUTS`: what becomes of the network's memory where a scene begins
    keep_going      finish an output with what there is if its input cannot be read on in the middle
    resume          go on with what an interrupted run of the same output kept; False starts over

    Raises `MisuseError` for options that exclude each other.
    """

    sources: tuple[Path, ...]
    output: str
    request: BundleRequest = field(default_factory=BundleRequest)
    sink: SinkOptions = field(default_factory=SinkOptions)
    trim: Trim = field(default_factory=Trim)
    reading: SourceOptions = field(default_factory=SourceOptions)
    rate: Fraction | None = None
    hwaccel: str = "none"
    device: str | None = None
    devices: str | None = None
    cluster: str | None = None
    ship: bool = False
    suffix: str | None = None
    recursive: bool = False
    skip_existing: bool = False
    threads: int | None = None
    ort_graphs: bool = False
    graphs: bool = True
    overlap: bool = False
    preview: Preview | None = None
    trace: Path | None = None
    strict: bool = False
    resume: bool = True
    keep_going: bool = False
    scene_cut: str = "keep"
    tile: str | None = None

    def __post_init__(self) -> None:
        if self.skip_existing and self.sink.overwrite:
            raise MisuseError("--skip-existing and -y were both given, expected one of them")
        for name in ("device", "trace", "preview"):
            if self.devices is not None and getattr(self, name) is not None:
                raise MisuseError(f"--{name} and --devices were both given, expected one of them")
        self._check_cluster()
        if self.preview is not None and not self.trim.is_whole:
            raise MisuseError(
                "--preview was given with --start, --duration or --frames: give --preview-at to say where it begins"
            )
        if self.scene_cut not in SCENE_CUTS:
            raise MisuseError(f"--scene-cut is {self.scene_cut!r}, expected one of {', '.join(SCENE_CUTS)}")
        asked = {
            "--devices": self.devices is not None,
            "--cluster": self.cluster is not None,
            "--preview": self.preview is not None,
            "--skip-existing": self.skip_existing,
        }
        self._check_tile()
        check_pipes(self.sources, self.output, asked)
        if self.into_folder:
            self.check(is_batch=True)
        elif not self.sources[0].is_dir():
            self.check(is_batch=False)

    @property
    def into_folder(self) -> bool:
        """True if the output is certainly a folder with an output for each input. One folder of videos is, too."""
        return len(self.sources) > 1 or (self._is_shared and not self._names_one_file)

    @property
    def _is_shared(self) -> bool:
        """True if several devices do the work."""
        return self.devices is not None or self.cluster is not None

    def _check_cluster(self) -> None:
        """Raise `MisuseError` for options that have no effect on a cluster, or without one."""
        if self.cluster is None:
            if self.ship:
                raise MisuseError("--ship was given without --cluster, expected both")
            return
        ClusterOptions(self.cluster, self.ship, self.device)
        excluded = {
            "--devices": self.devices is not None,
            "--trace": self.trace is not None,
            "--preview": self.preview is not None,
            "--hwaccel": self.hwaccel != "none",
            "--rate": self.rate is not None,
            "--scene-cut reset": self.scene_cut != "keep",
        }
        given = [name for name, is_given in excluded.items() if is_given]
        if given:
            raise MisuseError(f"{', '.join(given)} and --cluster were both given, expected one of them")

    def _check_tile(self) -> None:
        if self.tile is None:
            return
        if self.overlap:
            raise MisuseError(
                "--tile and --overlap were both given, but tiles are decoded one after the other; omit one"
            )
        parse_tile(self.tile)

    def opening(self) -> OpenOptions:
        """How the bundle is run. Raises `MisuseError` if it cannot be run so."""
        return OpenOptions(self.threads, self.ort_graphs, self.graphs, self.overlap)

    @property
    def _names_one_file(self) -> bool:
        """True for one file whose output is named as a file, too."""
        output = Path(self.output)
        names_a_file = bool(output.suffix) and not self.output.endswith(("/", "\\")) and not output.is_dir()
        return len(self.sources) == 1 and not self.sources[0].is_dir() and names_a_file

    def device_names(self) -> tuple[str | None, ...]:
        """The devices that restore; None for the one that a bundle is for. Raises as `parse_devices` does."""
        return (self.device,) if self.devices is None else parse_devices(self.devices)

    def on_this_machine(self) -> RunOptions:
        """The options with what `--target auto` goes by. Raises `MisuseError` for a device that cannot be."""
        request = suit_devices(self.request, self.device_names(), ort_graphs=self.ort_graphs, overlap=self.overlap)
        return replace(self, request=request)

    def check(self, *, is_batch: bool) -> None:
        """Raise `MisuseError` for options that are of no use with several inputs, or with one."""
        if not is_batch and self.devices is not None and self.scene_cut != "keep":
            raise MisuseError(
                "--devices was given with --scene-cut reset, which restores a video in order: name one device with "
                "--device"
            )
        if is_batch and is_output_pipe(self.output):
            raise MisuseError(f"OUTPUT is {output_name(self.output)}, expected a folder with a file for each of INPUT")
        if is_batch and self.trace is not None:
            raise MisuseError("--trace is for one INPUT; restore that file by itself")
        if is_batch and self.preview is not None:
            raise MisuseError("--preview is for one INPUT, expected a video or a folder of images")
        if not is_batch and self.suffix is not None:
            raise MisuseError("--suffix is for several INPUTs; for one, OUTPUT is its name")


def restore_files(options: RunOptions, display: Display) -> None:
    """Restore every source; lines and progress go to `display`.

    A file that fails in a batch does not stop the others; at the end, `MachineError` names all that failed.
    """
    options = options.on_this_machine()
    inputs = announced_inputs(options, display)
    if inputs.is_batch:
        _restore_batch(options, inputs.found, display)
    else:
        _restore_one(options, display)


def announced_inputs(options: RunOptions, display: Display) -> Inputs:
    """What there is to restore; `display` is told what is left out."""
    inputs = find_inputs(options.sources, options.output, recursive=options.recursive, batch=options.into_folder)
    options.check(is_batch=inputs.is_batch)
    for note in inputs.notes:
        display.say(note)
    for warning in inputs.warnings:
        display.warn(warning)
    return inputs


def _restore_one(options: RunOptions, display: Display) -> None:
    job = only_job(options)
    display.begin([(str(job.source), job.output)])
    if options.skip_existing and not unfinished([job], display):
        return
    try:
        if options.cluster is not None:
            _restore_on_cluster(options, job, display)
            return
        restored = restore_one(options, display) if options.devices is None else _restore_divided(options, job, display)
    except SwiftVRError as error:
        display.result(job.result("failed", str(error)))
        raise
    display.result(job.done(restored))


def _restore_divided(options: RunOptions, job: Job, display: Display) -> Restored:
    """Restore one video on several devices."""
    devices = check_one(options, job)
    order = with_bundle(job, open_once(job, options.request), options.request, display)
    return restore_divided(order, devices, display, options.opening())


def _restore_on_cluster(options: RunOptions, job: Job, display: Display) -> None:
    """Restore one video on a cluster; `display` gets its result."""
    check_one(options, job)
    tiling = open_once(job, options.request)
    order = with_bundle(job, tiling, options.request, display)
    with _connect(options, [order], display) as run:
        for failure in run.restore([order], named=False):
            raise failure.error


def _cluster(options: RunOptions) -> ClusterOptions:
    return ClusterOptions(options.cluster or "", options.ship, options.device)


def _connect(options: RunOptions, orders: Sequence[JobWithBundle], display: Display) -> ClusterRun:
    """Connect once the bundles are known, which say whether the nodes need GPUs. Graphs run on those, too."""
    opening = options.opening()
    requests = [BundleRequest(bundle=Path(path)) for path in {order.bundle for order in orders}]
    gpu = any(requested_device(request, options.device, opening) != "cpu" for request in requests)
    return ClusterRun.connect(_cluster(options), opening, gpu=gpu, display=display)


def only_job(options: RunOptions) -> Job:
    """The job of a run with one input."""
    job = Job(options.sources[0], options.output, options.rate, options.sink, options.hwaccel, options.device)
    return _as_asked(job, options)


def _as_asked(job: Job, options: RunOptions) -> Job:
    """The job with what every job of a run has in common."""
    job = replace(job, strict=options.strict, resume=options.resume, keep_going=options.keep_going)
    return replace(job, trim=options.trim, reading=options.reading, scene_cut=options.scene_cut, tile=options.tile)


def restore_one(options: RunOptions, display: Display) -> Restored:
    """Restore the only source, in this process."""
    request, job = options.request, only_job(options)
    check_one(options, job)

    @contextmanager
    def open_restorer(size: Resolution) -> Iterator[Restorer]:
        bundle = find_and_name_bundle(request, size, display)
        with _open_trace(options.trace) as trace:

            def load() -> Restorer:
                return Restorer.open(bundle, device=job.device, trace=trace, **vars(options.opening()))

            with run_interruptibly(load) as restorer:
                yield restorer

    if options.preview is not None:
        return restore_preview(job, options.preview, request, open_restorer, display)
    return restore_job(job, request, open_restorer, display)


def check_one(options: RunOptions, job: Job) -> tuple[str | None, ...]:
    """The devices for the only job. Raises, before anything is opened, if it cannot be done like this."""
    devices = _checked_devices(options)
    if options.trace is not None:
        check_side_file("--trace", options.trace, job.source, Path(job.output), overwrite=options.sink.overwrite)
    return devices


def _restore_batch(options: RunOptions, inputs: Sequence[Input], display: Display) -> None:
    jobs, devices = batch_jobs(options, inputs, display)
    if not jobs:
        return
    option = "--skip-existing" if options.resume else "--skip-existing instead of --no-resume"
    advice = "" if options.sink.overwrite else f"the same command with {option} restores the other files"
    with leaving.advising(advice), output_folders(options.output, jobs):
        failed = _restore_jobs(options, jobs, devices, display)
    if failed:
        others = ", the others are complete" if len(failed) < len(jobs) else ""
        raise some_failed(failed, len(jobs), "failed", others)


def _restore_jobs(
    options: RunOptions, jobs: Sequence[Job], devices: Sequence[str | None], display: Display
) -> list[Job]:
    """Restore all jobs of a batch, on devices or on a cluster. Returns those that failed."""
    if options.cluster is None:
        assigned, failures = assign_bundles(jobs, options.request, display)
        restore = restore_few if len(assigned) < len(devices) else run_fleet
        failures += restore(assigned, devices, display, options.opening())
        return [failure.job for failure in failures]
    assigned, failures = assign_bundles(jobs, options.request, display)
    failed = [failure.job for failure in failures]
    if assigned:
        with _connect(options, assigned, display) as run:
            failed += [failure.job for failure in run.restore(assigned, named=True)]
    return failed


def some_failed(failed: Sequence[Job], total: int, verb: str, others: str) -> MachineError:
    """The error at the end of a batch. others: what became of the other files."""
    names = ", ".join(str(job.source) for job in failed)
    return MachineError(f"{len(failed)} of {counted(total, 'file')} {verb}{others}: {names}")


def batch_jobs(
    options: RunOptions, inputs: Sequence[Input], display: Display
) -> tuple[list[Job], tuple[str | None, ...]]:
    """What is left to do of a batch, and the devices. `display` is told about outputs that are there already."""
    jobs = plan_jobs(
        inputs,
        options.output,
        suffix=options.suffix,
        rate=options.rate,
        sink=options.sink,
        hwaccel=options.hwaccel,
    )
    jobs = [_as_asked(job, options) for job in jobs]
    devices = _checked_devices(options)
    display.begin([(str(job.source), job.output) for job in jobs])
    if options.skip_existing:
        jobs = unfinished(jobs, display)
    refuse_existing(jobs)
    return jobs, devices


def _checked_devices(options: RunOptions) -> tuple[str | None, ...]:
    """The devices of a run, after `check_devices`, and after `check_cluster` if they are there."""
    devices = options.device_names()
    check_devices(options.request, devices, options.opening(), elsewhere=options.cluster is not None)
    if options.cluster is not None:
        check_cluster(_cluster(options))
    return devices


def _open_trace(path: Path | None) -> AbstractContextManager[Trace | None]:
    return nullcontext() if path is None else Trace(path)
