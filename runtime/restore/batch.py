"""Several inputs into one folder: name the outputs, refuse early what cannot work, and find a bundle for each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from ...engines.bundle.files import read_manifest
from ...engines.bundle.geometry import Resolution
from ...errors import MediaError, MisuseError, OutputError, SwiftVRError
from ...text import LineCallback
from ..media import SinkOptions, open_sink, open_source
from .job import Failure, Job, JobWithBundle
from .selection import BundleRequest, find_or_build_bundle, output_size


@dataclass(frozen=True)
class BatchOptions:
    """How inputs are read and outputs written.

    suffix: of output videos, e.g. `.mkv`; None keeps the input's. rate, sink, hwaccel: as in `Job`.
    """

    suffix: str | None = None
    rate: Fraction | None = None
    sink: SinkOptions = field(default_factory=SinkOptions)
    hwaccel: str = "none"

    def __post_init__(self) -> None:
        if self.suffix is not None and (self.suffix[:1] != "." or len(self.suffix) < 2 or os.sep in self.suffix):
            raise MisuseError(f"--suffix is {self.suffix!r}, expected a dot and a name, e.g. .mkv")


def plan_jobs(sources: Sequence[Path], folder: str, options: BatchOptions) -> list[Job]:
    """A job for each input, with an output of the same name in `folder`. Changes nothing on disk.

    Raises `MisuseError` if an input is missing or given twice, if two outputs would have the same name, or if an output
    is an input or must not be replaced; `OutputError` if the folder cannot be made.
    """
    place = Path(folder)
    _check_folder(place, slash=folder.endswith(("/", "\\")))
    jobs: dict[str, Job] = {}
    for source in sources:
        if not source.exists():
            raise MediaError(f"the input {source} does not exist, expected a video or a folder of images")
        output = str(place / _output_name(source, options.suffix))
        job = Job(source, output, options.rate, options.sink, options.hwaccel)
        other = jobs.setdefault(job.output.casefold(), job)  # Windows and macOS ignore case
        if other is not job and other.source.resolve() == source.resolve():
            raise MisuseError(f"{source} was given twice; name every input once")
        if other is not job:
            raise MisuseError(
                f"{other.source} and {source} would both become {job.output}; rename one, or restore them into "
                "different folders"
            )
    _check_outputs(list(jobs.values()), options.sink.overwrite)
    return list(jobs.values())


@contextmanager
def output_folder(folder: str) -> Iterator[None]:
    """Make the folder if need be, and remove it afterwards if it was made here and is empty."""
    place = Path(folder)
    new = not place.exists()
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot create the output folder ({error.strerror or error})") from error
    try:
        yield
    finally:
        if new:
            with suppress(OSError):  # it holds files
                place.rmdir()


def assign_bundles(
    jobs: Iterable[Job], request: BundleRequest, say: LineCallback
) -> tuple[list[JobWithBundle], list[Failure]]:
    """Find or build the bundle of each job. Jobs whose input or output cannot be opened are failures.

    Raises `BundleError` if the requested bundle is not usable.
    """
    if request.bundle is not None:
        read_manifest(request.bundle)  # a bad bundle is bad for every job
    assigned: list[JobWithBundle] = []
    failures: list[Failure] = []
    bundles: dict[Resolution, str] = {}
    for job in jobs:
        try:
            size = _open_once(job, request)
            if size not in bundles:
                bundle = find_or_build_bundle(request, size, say)
                say(f"bundle: {bundle.path} ({bundle.manifest.recipe.describe()})")
                bundles[size] = str(bundle.path)
            assigned.append(JobWithBundle(job, bundles[size]))
        except SwiftVRError as error:
            failures.append(Failure(job, str(error)))
            say(f"{job.name}: failed: {error}")
    return assigned, failures


def _open_once(job: Job, request: BundleRequest) -> Resolution:
    """Open input and output to see that they can be; returns the size of the output."""
    with open_source(job.source, rate=job.rate) as source:
        size = output_size(request, source.info.width, source.info.height)
        with open_sink(job.output, source.info, size.width, size.height, job.sink):
            return size


def _output_name(source: Path, suffix: str | None) -> str:
    from ..media.images_in import is_image

    name = source.name or source.resolve().name
    return name if suffix is None or source.is_dir() or is_image(source) else Path(name).stem + suffix


def _check_folder(place: Path, *, slash: bool) -> None:
    if place.exists() and not place.is_dir():
        raise MisuseError(f"the output {place} is a file, expected a folder for several inputs")
    if place.suffix and not place.exists() and not slash:
        raise MisuseError(
            f"the output {place} looks like a file, expected a folder for several inputs or --devices; if it is a "
            "folder, end its name with a slash"
        )
    if not place.absolute().parent.is_dir():
        raise OutputError(f"cannot write {place}: the directory {place.parent} does not exist; create it first")


def _check_outputs(jobs: Sequence[Job], overwrite: bool) -> None:
    inputs = {job.source.resolve(): job.source for job in jobs}
    for job in jobs:
        itself = inputs.get(Path(job.output).resolve())
        if itself is not None:
            raise MediaError(f"the output {job.output} is the input {itself}; choose another folder")
    there = [job.output for job in jobs if Path(job.output).exists()]
    if there and not overwrite:
        raise MediaError(
            f"{len(there)} of {len(jobs)} outputs exist already, e.g. {there[0]}; choose another folder, or replace "
            "them with -y"
        )
