"""Plans a batch, several inputs into one folder: names the outputs, checks them early, and finds the bundles."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path, PurePath

from ... import leaving
from ...engines.bundle.files import read_manifest
from ...engines.bundle.geometry import Resolution
from ...errors import MediaError, MisuseError, NoBundleError, OutputError, SwiftVRError
from ..media import SinkOptions, open_sink, open_source
from ..media.files import check_parent
from ..media.image_names import is_image
from ..stream.tiles import Tiling
from .bundle_request import BundleRequest
from .display import Display
from .inputs import Input
from .job import Failure, Job, JobWithBundle, tidy_output, tiling_of
from .selection import find_and_name_bundle

KEPT_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts", ".m2ts", ".mts", ".m2t", ".flv", ".f4v", ".nut", ".mxf", ".ogv",
    ".gif", ".apng", ".y4m",
})  # fmt: skip
"""Suffixes of videos whose outputs keep them. Older containers become `.mkv`, which holds what they hold and more."""


def plan_jobs(
    inputs: Sequence[Input],
    folder: str,
    *,
    suffix: str | None = None,
    rate: Fraction | None = None,
    sink: SinkOptions | None = None,
    hwaccel: str = "none",
) -> list[Job]:
    """A job for each input, with an output at its place in `folder`. Changes nothing on disk.

    suffix: of output videos, e.g. `.mkv`; None keeps the input's if it is one of `KEPT_SUFFIXES`. rate: of
    folders of images. sink, hwaccel: see `Job`.
    Raises `MisuseError` if an input is given twice, if two outputs would have the same name, or if an output is an
    input; `OutputError` if the folder cannot be created.
    """
    if suffix is not None and (suffix[:1] != "." or len(suffix) < 2 or os.sep in suffix):
        raise MisuseError(f"--suffix is {suffix!r}, expected a dot and a name, e.g. .mkv")
    sink = sink or SinkOptions()
    place = Path(folder)
    _check_folder(place, slash=folder.endswith(("/", "\\")))
    jobs: dict[str, Job] = {}
    if rate is not None and not any(_has_pictures(each.path) for each in inputs):
        raise MisuseError("--rate is for folders of images, but there is none; a video has its own rate")
    usual = Counter(str(_usual_place(each)).casefold() for each in inputs)
    for each in inputs:
        source, pictures = each.path, _has_pictures(each.path)
        if pictures:
            name = each.place
        elif suffix is not None:
            name = each.place.with_name(each.place.stem + suffix)
        else:
            name = _usual_place(each)
            if name != each.place and usual[str(name).casefold()] > 1:
                name = each.place.with_name(each.place.name + ".mkv")
        output = str(place / name)
        job = Job(source, output, rate if pictures else None, sink, hwaccel, title=each.place.as_posix())
        other = jobs.setdefault(job.output.casefold(), job)  # Windows and macOS ignore case
        if other is not job and other.source.resolve() == source.resolve():
            raise MisuseError(f"{source} was given twice; name every input once")
        if other is not job:
            raise MisuseError(
                f"{other.source} and {source} would both become {job.output}; rename one, or restore them into "
                "different folders"
            )
    _refuse_inputs_as_outputs(list(jobs.values()))
    return list(jobs.values())


def _usual_place(each: Input) -> PurePath:
    """Where the output of an input goes if no suffix is given."""
    keeps = each.place.suffix.lower() in KEPT_SUFFIXES or _has_pictures(each.path)
    return each.place if keeps else each.place.with_name(each.place.stem + ".mkv")


def set_finished_aside(jobs: Iterable[Job]) -> tuple[list[Job], list[Job]]:
    """The jobs that are still to be done, and those whose output is there. Whatever options made it, it counts."""
    to_do: list[Job] = []
    finished: list[Job] = []
    for job in jobs:
        tidy_output(job, keep_pieces=False)
        (finished if _is_finished(job) else to_do).append(job)
    return to_do, finished


def unfinished(jobs: Sequence[Job], display: Display) -> list[Job]:
    """The jobs whose output is not there yet. `display` is told about the others."""
    to_do, finished = set_finished_aside(jobs)
    for job in finished:
        display.result(job.result("skipped", f"skipped, {job.output} is there already"), job.name)
    if old := outdated(finished):
        display.warn(
            f"{len(old)} of the skipped inputs changed after their output was written, e.g. {old[0].source}; to "
            f"restore it again, delete {old[0].output}"
        )
    return to_do


def outdated(jobs: Iterable[Job]) -> list[Job]:
    """The jobs whose input has changed since their output was written."""
    return [job for job in jobs if job.source.stat().st_mtime > Path(job.output).stat().st_mtime]


def refuse_existing(jobs: Sequence[Job]) -> None:
    """Raise `MediaError` if outputs exist that must not be overwritten."""
    for job in jobs:
        tidy_output(job, keep_pieces=job.sink.overwrite)
    existing = [job.output for job in jobs if Path(job.output).exists() and not job.sink.overwrite]
    if existing:
        raise MediaError(
            f"{len(existing)} of {len(jobs)} outputs already exist, e.g. {existing[0]}; choose another folder, "
            "overwrite them with -y, or keep them and restore the others with --skip-existing"
        )


@contextmanager
def output_folders(folder: str, jobs: Iterable[Job]) -> Iterator[None]:
    """Create the output folder and the folders in it that the jobs need, as `output_folder` does."""
    root = Path(folder)
    needed = {root}
    for job in jobs:
        parents = Path(job.output).parents
        needed.update(parent for parent in parents if root in parent.parents)
    with ExitStack() as stack:
        for place in sorted(needed, key=lambda place: len(place.parts)):
            stack.enter_context(output_folder(str(place)))
        yield


@contextmanager
def output_folder(folder: str) -> Iterator[None]:
    """Create the folder unless it exists. On leaving, remove it again if it was created here and is empty."""
    place = Path(os.path.realpath(folder))  # what a link leads to
    new = not place.exists()

    def remove_if_new_and_empty() -> None:
        if new:
            with suppress(OSError):  # it holds files
                place.rmdir()

    try:
        with leaving.starting():
            place.mkdir(exist_ok=True)
            release = leaving.hold(folder, remove_if_new_and_empty, leaving.Turn.FOLDERS)
    except OSError as error:
        raise OutputError(f"{folder}: cannot create the output folder ({error.strerror or error})") from error
    try:
        yield
    finally:
        remove_if_new_and_empty()
        release()


def with_bundle(job: Job, tiling: Tiling, request: BundleRequest, display: Display) -> JobWithBundle:
    """The job with the tiling of its output, and with its bundle, which is found or built."""
    bundle = find_and_name_bundle(request, tiling.tile, display)
    return JobWithBundle(replace(job, tiling=tiling), str(bundle.path))


def assign_bundles(
    jobs: Iterable[Job], request: BundleRequest, display: Display
) -> tuple[list[JobWithBundle], list[Failure]]:
    """Find or build the bundle of each job. Jobs whose input or output cannot be opened become failures.

    display: gets lines about bundles, and failures. Raises `BundleError` if the requested bundle cannot be used,
    `NoBundleError` if none of the jobs has a bundle, for that reason alone.
    """
    if request.bundle is not None:
        read_manifest(request.bundle)  # raise once, not for every job
    assigned: list[JobWithBundle] = []
    failures: list[Failure] = []
    bundles: dict[Resolution, str] = {}
    without_bundle: list[NoBundleError] = []
    for job in jobs:
        try:
            tiling = open_once(job, request)
            if tiling.tile not in bundles:
                bundles[tiling.tile] = str(find_and_name_bundle(request, tiling.tile, display).path)
            assigned.append(JobWithBundle(replace(job, tiling=tiling), bundles[tiling.tile]))
        except SwiftVRError as error:
            failures.append(Failure(job, str(error)))
            without_bundle += [error] if isinstance(error, NoBundleError) else []
            display.result(job.result("failed", str(error)), job.name)
    if without_bundle and not assigned and len(without_bundle) == len(failures):
        raise without_bundle[0]
    return assigned, failures


def open_once(job: Job, request: BundleRequest) -> Tiling:
    """Open and close the input and the output, to see that they can be opened. Returns how the output is restored.

    What a killed run left of the output is removed before, unless it is of use.
    """
    tidy_output(job, keep_pieces=job.sink.overwrite)
    with open_source(job.source, rate=job.rate, options=job.reading) as source:
        tiling = tiling_of(job, request, source.info)
        with open_sink(job.output, source.info, tiling.size.width, tiling.size.height, job.sink):
            return tiling


def _has_pictures(source: Path) -> bool:
    return source.is_dir() or is_image(source)


def _is_finished(job: Job) -> bool:
    """Whether the output is complete. A file is, if it is there; a folder, if it has an image for each of the input."""
    output = Path(job.output)
    if not output.is_dir():
        return output.exists()
    restored = _pictures(output)
    return bool(restored) and (not job.source.is_dir() or _pictures(job.source) <= restored)


def _pictures(folder: Path) -> set[str]:
    """The names of the images in a folder, without suffixes."""
    return {file.stem for file in folder.iterdir() if is_image(file) and not file.name.startswith(".")}


def _check_folder(place: Path, *, slash: bool) -> None:
    if place.exists() and not place.is_dir():
        raise MisuseError(f"the output {place} is a file, expected a folder for several inputs")
    if place.suffix and not place.exists() and not slash:
        raise MisuseError(
            f"the output {place} looks like a file, expected a folder for several inputs or --devices; if it is a "
            "folder, end its name with a slash"
        )
    check_parent(place)


def _refuse_inputs_as_outputs(jobs: Sequence[Job]) -> None:
    inputs = {job.source.resolve(): job.source for job in jobs}
    for job in jobs:
        source = inputs.get(Path(os.path.realpath(job.output)))
        if source is not None:
            raise MediaError(f"the output {job.output} is the input {source}; choose another folder")
