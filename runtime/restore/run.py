"""Restores files: a single file in this process, several with one process per device.

options = RunOptions((Path("old.mp4"),), "new.mp4", request=BundleRequest(bundle=Path("b1080")))
restore_files(options, display)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from ...engines.bundle.files import read_manifest
from ...engines.bundle.geometry import Resolution
from ...errors import MachineError, MisuseError, SwiftVRError
from ..devices.gpu import require_driver
from ..media import SinkOptions
from ..media.files import check_parent
from ..stream.trace import Trace
from .batch import assign_bundles, output_folder, plan_jobs
from .display import Display
from .fleet import parse_devices, run_fleet
from .interruptible import run_interruptibly
from .job import Job, restore_job
from .restorer import OpenOptions, Restorer, choose_device
from .selection import BundleRequest, find_or_build_bundle


@dataclass(frozen=True)
class RunOptions:
    """What to restore and how. The fields are named like the options of `swiftvr-run`.

    sources     videos, images or folders of images
    output      as typed, since a slash at its end means a folder; always a folder with several sources or `devices`
    request     which bundle to use or build
    sink        how outputs are written
    rate        images per second, for folders of images
    hwaccel     see `video_gpu`
    device      see `Restorer.open`, as for `threads` and `ort_graphs`
    devices     see `parse_devices`
    suffix      of the outputs in a folder; see `plan_jobs`
    trace       file for the trace of a single run

    Raises `MisuseError` for options that exclude each other.
    """

    sources: tuple[Path, ...]
    output: str
    request: BundleRequest = field(default_factory=BundleRequest)
    sink: SinkOptions = field(default_factory=SinkOptions)
    rate: Fraction | None = None
    hwaccel: str = "none"
    device: str | None = None
    devices: str | None = None
    suffix: str | None = None
    threads: int | None = None
    ort_graphs: bool = False
    trace: Path | None = None

    def __post_init__(self) -> None:
        if self.into_folder:
            for name in ("device", "trace"):
                if self.devices is not None and getattr(self, name) is not None:
                    raise MisuseError(f"--{name} and --devices were both given, expected one of them")
            if self.trace is not None:
                raise MisuseError("--trace is for one INPUT; restore that file by itself")
        elif self.suffix is not None:
            raise MisuseError("--suffix is for several INPUTs; for one, OUTPUT is its name")

    @property
    def into_folder(self) -> bool:
        """True if the output is a folder with a file for each source."""
        return len(self.sources) > 1 or self.devices is not None


def restore_files(options: RunOptions, display: Display) -> None:
    """Restore every source; lines and progress go to `display`.

    A file that fails in a batch does not stop the others; at the end, `MachineError` names all that failed.
    """
    if options.into_folder:
        _restore_batch(options, display)
    else:
        _restore_one(options, display)


def _restore_one(options: RunOptions, display: Display) -> None:
    request = options.request
    job = Job(options.sources[0], options.output, options.rate, options.sink, options.hwaccel, options.device)
    _check_devices(request, (job.device,), options.ort_graphs)
    if options.trace is not None:
        _check_trace(options.trace, job.source, Path(job.output), options.sink.overwrite)

    @contextmanager
    def open_restorer(size: Resolution) -> Iterator[Restorer]:
        bundle = find_or_build_bundle(request, size, display.say)
        display.say(f"bundle: {bundle.path} ({bundle.manifest.recipe.describe()})")
        with _open_trace(options.trace) as trace:

            def load() -> Restorer:
                return Restorer.open(
                    bundle, device=job.device, threads=options.threads, ort_graphs=options.ort_graphs, trace=trace
                )

            with run_interruptibly(load) as restorer:
                yield restorer

    display.say(restore_job(job, request, open_restorer, display))


def _restore_batch(options: RunOptions, display: Display) -> None:
    devices = (options.device,) if options.devices is None else parse_devices(options.devices)
    jobs = plan_jobs(
        options.sources,
        options.output,
        suffix=options.suffix,
        rate=options.rate,
        sink=options.sink,
        hwaccel=options.hwaccel,
    )
    _check_devices(options.request, devices, options.ort_graphs)
    with output_folder(options.output):
        assigned, failures = assign_bundles(jobs, options.request, display.say)
        failures += run_fleet(assigned, devices, display, OpenOptions(options.threads, options.ort_graphs))
    if failures:
        names = ", ".join(str(failure.job.source) for failure in failures)
        others = ", the others are complete" if len(failures) < len(jobs) else ""
        raise MachineError(f"{len(failures)} of {len(jobs)} files failed{others}: {names}")


def _check_devices(request: BundleRequest, devices: Sequence[str | None], ort_graphs: bool) -> None:
    """Raise, before a bundle is built, if none of the devices can run it. One that can is enough."""
    target = request.target if request.bundle is None else read_manifest(request.bundle).recipe.target
    refused: list[SwiftVRError] = []
    for device in devices:
        try:
            if choose_device(target, device, ort_graphs=ort_graphs) != "cpu":
                require_driver()
        except SwiftVRError as error:
            refused.append(error)
    if len(refused) == len(devices):
        raise refused[0]


def _check_trace(trace: Path, source: Path, output: Path, overwrite: bool) -> None:
    """Raise, before anything is done, if the trace would overwrite something else."""
    check_parent(trace)
    for name, path in (("INPUT", source), ("OUTPUT", output)):
        if os.path.realpath(trace) == os.path.realpath(path) or (
            trace.exists() and path.exists() and trace.samefile(path)
        ):
            raise MisuseError(f"--trace {trace} is {name}: give the trace a name of its own, e.g. trace.json")
    if trace.is_dir():
        raise MisuseError(f"--trace {trace} is a directory, expected the name of a file, e.g. trace.json")
    if trace.is_file() and not overwrite:
        raise MisuseError(f"--trace {trace} already exists: choose another name, or allow overwriting it with -y")


def _open_trace(path: Path | None) -> AbstractContextManager[Trace | None]:
    return nullcontext() if path is None else Trace(path)
