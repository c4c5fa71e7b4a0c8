"""Several inputs into one folder: which output each gets, what can be refused at once, and which bundle does it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from swiftvr_trt.engines.bundle.files import read_manifest
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.errors import MediaError, MisuseError, OutputError, SwiftVRError
from swiftvr_trt.runtime.media import SinkOptions, open_sink, open_source

from .fleet import Failure, Task
from .job import Job
from .selection import BundleRequest, choose_bundle, output_size


@dataclass(frozen=True)
class BatchOptions:
    """How inputs are read and outputs written. suffix: of videos, e.g. `.mkv`; None keeps the input's.

    rate, sink, hwaccel: as in `Job`.
    """

    suffix: str | None = None
    rate: Fraction | None = None
    sink: SinkOptions = field(default_factory=SinkOptions)
    hwaccel: str = "none"

    def __post_init__(self) -> None:
        if self.suffix is not None and (self.suffix[:1] != "." or len(self.suffix) < 2 or os.sep in self.suffix):
            raise MisuseError(f"--suffix is {self.suffix!r}, expected a dot and a name, e.g. .mkv")


def plan_jobs(sources: Sequence[Path], folder: str, options: BatchOptions) -> list[Job]:
    """A job for each input, its output in `folder` under the same name. Changes nothing.

    Raises `MisuseError` if an input is missing, two outputs have one name, one is an input, or one exists and must not
    be replaced; `OutputError` if the folder cannot be made.
    """
    place = Path(folder)
    _check_folder(place, slash=folder.endswith(("/", "\\")))
    jobs: dict[str, Job] = {}
    for source in sources:
        if not source.exists():
            raise MediaError(f"the input {source} does not exist, expected a video or a folder of images")
        output = str(place / _output_name(source, options.suffix))
        job = Job(source, output, options.rate, options.sink, options.hwaccel)
        other = jobs.setdefault(job.output.casefold(), job)  # on Windows and macOS case makes no difference
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
    """The folder is there within the block; one that was made for it and stayed empty is removed."""
    place = Path(folder)
    new = not place.exists()
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the output folder cannot be made ({error.strerror or error})") from error
    try:
        yield
    finally:
        if new:
            with suppress(OSError):  # it holds files
                place.rmdir()


def choose_bundles(
    jobs: Iterable[Job], request: BundleRequest, say: Callable[[str], None]
) -> tuple[list[Task], list[Failure]]:
    """The bundle for each job, built if need be; and the jobs whose input or output cannot be opened."""
    if request.bundle is not None:
        read_manifest(request.bundle)  # what is wrong with it is wrong for all
    tasks: list[Task] = []
    failures: list[Failure] = []
    bundles: dict[Resolution, str] = {}
    for job in jobs:
        try:
            size = _try(job, request)
            if size not in bundles:
                bundle = choose_bundle(request, size, say)
                say(f"bundle: {bundle.path} ({bundle.manifest.recipe.describe()})")
                bundles[size] = str(bundle.path)
            tasks.append(Task(job, bundles[size]))
        except SwiftVRError as error:
            failures.append(Failure(job, str(error)))
            say(f"{job.name}: failed: {error}")
    return tasks, failures


def _try(job: Job, request: BundleRequest) -> Resolution:
    """The size of the output, after both ends were opened once."""
    with open_source(job.source, rate=job.rate) as source:
        size = output_size(request, source.info.width, source.info.height)
        with open_sink(job.output, source.info, size.width, size.height, job.sink):
            return size


def _output_name(source: Path, suffix: str | None) -> str:
    from swiftvr_trt.runtime.media.images_in import is_image

    name = source.name or source.resolve().name
    return name if suffix is None or source.is_dir() or is_image(source) else Path(name).stem + suffix


def _check_folder(place: Path, *, slash: bool) -> None:
    if place.exists() and not place.is_dir():
        raise MisuseError(f"the output {place} is a file, expected a folder for several inputs: name one")
    if place.suffix and not place.exists() and not slash:
        raise MisuseError(
            f"the output {place} looks like a file, expected a folder for several inputs or --devices: end its name "
            "with a slash if it is one"
        )
    if not place.absolute().parent.is_dir():
        raise OutputError(f"cannot write {place}: the directory {place.parent} does not exist; create it first")


def _check_outputs(jobs: Sequence[Job], overwrite: bool) -> None:
    inputs = {job.source.resolve(): job.source for job in jobs}
    for job in jobs:
        itself = inputs.get(Path(job.output).resolve())
        if itself is not None:
            raise MediaError(f"the output {job.output} is the input {itself}: choose another folder")
    there = [job.output for job in jobs if Path(job.output).exists()]
    if there and not overwrite:
        raise MediaError(
            f"{len(there)} of {len(jobs)} outputs exist already, {there[0]} among them: choose another folder, or "
            "allow them to be overwritten with -y"
        )
