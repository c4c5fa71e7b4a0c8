"""Plans a batch, several inputs into one folder: names the outputs, checks them early, and finds the bundles."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

from ...engines.bundle.files import read_manifest
from ...engines.bundle.geometry import Resolution
from ...errors import MediaError, MisuseError, OutputError, SwiftVRError
from ...text import LineCallback
from ..media import SinkOptions, open_sink, open_source
from ..media.files import check_parent
from ..media.images_in import is_image
from .job import Failure, Job, JobWithBundle
from .selection import BundleRequest, find_or_build_bundle, output_size


def plan_jobs(
    sources: Sequence[Path],
    folder: str,
    *,
    suffix: str | None = None,
    rate: Fraction | None = None,
    sink: SinkOptions | None = None,
    hwaccel: str = "none",
) -> list[Job]:
    """A job for each input, with an output of the same name in `folder`. Changes nothing on disk.

    suffix: of output videos, e.g. `.mkv`; None keeps the input's. rate, sink, hwaccel: see `Job`.
    Raises `MisuseError` if an input is missing or given twice, if two outputs would have the same name, or if an output
    is an input or must not be overwritten; `OutputError` if the folder cannot be created.
    """
    if suffix is not None and (suffix[:1] != "." or len(suffix) < 2 or os.sep in suffix):
        raise MisuseError(f"--suffix is {suffix!r}, expected a dot and a name, e.g. .mkv")
    sink = sink or SinkOptions()
    place = Path(folder)
    _check_folder(place, slash=folder.endswith(("/", "\\")))
    jobs: dict[str, Job] = {}
    for source in sources:
        if not source.exists():
            raise MediaError(f"the input {source} does not exist, expected a video or a folder of images")
        output = str(place / _output_name(source, suffix))
        job = Job(source, output, rate, sink, hwaccel)
        other = jobs.setdefault(job.output.casefold(), job)  # Windows and macOS ignore case
        if other is not job and other.source.resolve() == source.resolve():
            raise MisuseError(f"{source} was given twice; name every input once")
        if other is not job:
            raise MisuseError(
                f"{other.source} and {source} would both become {job.output}; rename one, or restore them into "
                "different folders"
            )
    _check_outputs(list(jobs.values()), sink.overwrite)
    return list(jobs.values())


@contextmanager
def output_folder(folder: str) -> Iterator[None]:
    """Create the folder unless it exists. On leaving, remove it again if it was created here and is empty."""
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
    """Find or build the bundle of each job. Jobs whose input or output cannot be opened become failures.

    say: gets lines about bundles and failures. Raises `BundleError` if the requested bundle cannot be used.
    """
    if request.bundle is not None:
        read_manifest(request.bundle)  # raise once, not for every job
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
    """Open and close the input and the output, to see that they can be opened. Returns the size of the output."""
    with open_source(job.source, rate=job.rate) as source:
        size = output_size(request, source.info.width, source.info.height)
        with open_sink(job.output, source.info, size.width, size.height, job.sink):
            return size


def _output_name(source: Path, suffix: str | None) -> str:
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
    check_parent(place)


def _check_outputs(jobs: Sequence[Job], overwrite: bool) -> None:
    inputs = {job.source.resolve(): job.source for job in jobs}
    for job in jobs:
        source = inputs.get(Path(job.output).resolve())
        if source is not None:
            raise MediaError(f"the output {job.output} is the input {source}; choose another folder")
    existing = [job.output for job in jobs if Path(job.output).exists()]
    if existing and not overwrite:
        raise MediaError(
            f"{len(existing)} of {len(jobs)} outputs already exist, e.g. {existing[0]}; choose another folder, or "
            "overwrite them with -y"
        )
