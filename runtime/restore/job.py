"""Restores one input into one output: for `swiftvr-run` with a single file, and in the worker processes of a fleet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from ...engines.bundle.files import read_manifest
from ...engines.bundle.geometry import Resolution
from ...engines.bundle.manifest import Manifest
from ...errors import MachineError, MediaError, NameTakenError
from ...text import LineCallback, format_bytes, format_duration
from ..media import Sink, SinkOptions, Source, SourceInfo, open_sink, open_source
from ..media.even_steps import find_steps
from ..media.index import VideoIndex
from ..media.pipes import input_name, is_output_pipe, output_name
from ..media.repeats import is_animation
from ..media.scenes import SceneSource
from ..media.source_options import SourceOptions
from ..media.trim import Excerpt, Trim
from ..media.trimmed import TrimmedVideo, TrimmedWithCopies
from ..media.video_in import VideoSource
from ..media.video_out import VideoSink, format_of_output
from ..stream.tiles import Tiling, plan_tiles
from .bundle_request import BundleRequest, output_size, untiled_size
from .display import Display, Result, WarnsOnce
from .hwaccel import on_gpu
from .interruptible import run_interruptibly
from .passage import keep_on_gpu
from .pipeline import Progress, RestoringStream, StreamOpener, restore_media
from .restorer import Restorer
from .segments.grid import PIECE_S
from .segments.reading import index_of_part
from .segments.resumable import Joined, restore_in_pieces
from .segments.store import tidy
from .segments.task import KnownInput, PiecesTask
from .segments.until_broken import UntilBroken
from .tiled import streams_of, tiled_bytes

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """An input, its output, and how they are read and written.

    output: as typed, because a slash at its end means a folder. rate: frames per second of a folder of images. hwaccel:
    one of `hwaccel.MODES`. device: where the bundle runs, as in `Restorer.open`. title: see `name`. strict: a damaged
    input counts as a failure. resume: go on with the pieces of an interrupted run; False starts over. trim: the part to
    restore. reading: how the input is read. scene_cut: one of `SCENE_CUTS`. tile: see `plan_tiles`. tiling: what came
    of it, also for whole pictures; None until somebody has looked at the input, see `tiling_of`. piece_s: length of a
    piece in seconds. span: restore these pieces only, as `segments.grid.Span`, for a parent that joins them
    (`divided`). shared: end where somebody else has claimed a piece (`segments.claims`). known: the input as the parent
    has found it.
    """

    source: Path
    output: str
    rate: Fraction | None = None
    sink: SinkOptions = field(default_factory=SinkOptions)
    hwaccel: str = "none"
    device: str | None = None
    title: str = ""
    strict: bool = False
    resume: bool = True
    keep_going: bool = False
    trim: Trim = field(default_factory=Trim)
    reading: SourceOptions = field(default_factory=SourceOptions)
    scene_cut: str = "keep"
    tile: str | None = None
    tiling: Tiling | None = None
    piece_s: float = PIECE_S
    span: tuple[int, int | None] | None = None
    shared: bool = False
    known: KnownInput | None = None

    @property
    def name(self) -> str:
        """What messages call the input: in a batch, its place."""
        return self.title or Path(input_name(self.source)).name or str(self.source)

    def result(self, status: str, text: str, frames: int | None = None, seconds: float | None = None) -> Result:
        """What became of this job; see `Result`."""
        return Result(str(self.source), self.output, status, text, frames, seconds)

    def done(self, restored: Restored) -> Result:
        """That this job is complete."""
        result = self.result("done", restored.describe(), restored.frames, restored.seconds)
        return replace(result, lost=restored.lost, kept=restored.kept)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for another process."""
        rate = None if self.rate is None else str(self.rate)
        return {**asdict(self), "source": str(self.source), "rate": rate, "trim": self.trim.to_dict()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Job:
        """The inverse of `to_dict`."""
        sink = {**plain["sink"], "extra": tuple(map(tuple, plain["sink"]["extra"]))}
        rate = None if plain["rate"] is None else Fraction(plain["rate"])
        values = {
            "source": Path(plain["source"]),
            "rate": rate,
            "sink": SinkOptions(**sink),
            "trim": Trim.from_dict(plain["trim"]),
            "reading": SourceOptions(**plain["reading"]),
            "tiling": None if plain["tiling"] is None else Tiling.from_dict(plain["tiling"]),
            "span": None if plain["span"] is None else tuple(plain["span"]),
            "known": None if plain["known"] is None else KnownInput.from_dict(plain["known"]),
        }
        return cls(**{**plain, **values})


@dataclass(frozen=True)
class JobWithBundle:
    """A job, and the directory of the bundle to do it with."""

    job: Job
    bundle: str


@dataclass(frozen=True)
class Restored:
    """A file that was restored.

    path        the output
    frames      how many the output has
    seconds     how long this run took to restore and write, without loading the bundle
    notes       what is lost or not as asked for, one line each
    lost        those of them about streams that the output lacks
    kept        how many of the frames an interrupted run had restored before
    """

    path: Path
    frames: int
    seconds: float
    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    kept: int = 0

    def describe(self) -> str:
        """One line for people."""
        restored = self.frames - self.kept
        rate = restored / self.seconds if self.seconds else 0.0
        took = f"in {format_duration(self.seconds)} ({rate:.2f} frames/s)"
        if self.kept:
            took = f"{restored} of them {took}, {self.kept} kept from before" if restored else "all kept from before"
        comma = ", " if self.kept else " "
        return f"output: {output_name(self.path)}, {self.frames} frame{'s' * (self.frames != 1)}{comma}{took}"


@dataclass(frozen=True)
class Failure:
    """A job that failed, and why, in one line. full: because its disk is."""

    job: Job
    reason: str
    full: bool = False


def say_input(info: SourceInfo, display: Display, name: str = "") -> None:
    """Say what the input is: to people what they know of it, to the log all. name: of the file, as for `display`."""
    display.say(f"input:  {info.summary}", name)
    _log.info("input: %s", info.description)


def say_tiles(tiling: Tiling, manifest: Manifest, info: SourceInfo, display: Display, name: str = "") -> None:
    """Say which tiles the output consists of, if it does, and what they take. name: of the file, as for `display`."""
    if not tiling.is_whole:
        memory = format_bytes(tiled_bytes(tiling, manifest, (info.height, info.width), info.form))
        line = f"tiles:  {len(tiling.tiles)} of {tiling.tile}; their frames take at least {memory} of memory"
        display.say(line, name)


def tidy_output(job: Job, *, keep_pieces: bool) -> None:
    """Remove what a killed run left of the output, as `tidy` does. A trial removes nothing."""
    if not job.sink.trial:
        tidy(Path(job.output), keep_pieces=keep_pieces)


def restore_job(
    job: Job,
    request: BundleRequest,
    open_restorer: Callable[[Resolution], AbstractContextManager[Restorer]],
    display: Display,
) -> Restored:
    """Restore a file.

    request: gives the size of the output. open_restorer: called with that size, or that of a tile, once input and
    output are open, because it may take minutes to build a bundle. display: gets progress, a line about the input, and
    warnings.
    Raises `MachineError` if the input is incomplete, or if it is damaged and the job is strict; the output then holds
    what could be restored.
    """
    warn = WarnsOnce(display)
    tidy_output(job, keep_pieces=job.sink.overwrite)
    job = replace(job, sink=on_gpu(job.sink, job.hwaccel, job.device, warn))
    with run_interruptibly(lambda: open_settled(job, request)) as source:
        info = source.info
        say_input(info, display)
        warn(*source.notes)
        tiling = tiling_of(job, request, info)
        size, opened = tiling.size, partial(open_streams, open_restorer, tiling, info, display)
        options = with_steps(job.sink, job.output, source, warn)
        # Refuse what cannot be written before a bundle is built.
        with run_interruptibly(lambda: open_sink(job.output, info, size.width, size.height, options)) as sink:
            warn(*sink.notes)
            _log_streams(job, info, sink)
            joined = None
            if not in_pieces(job, source, sink):
                with opened() as (restorer, open_stream), as_one(job, source) as whole:
                    _settle(job, tiling, source, restorer, warn)
                    with open_stream(sink.frames, surfaces=sink.surfaces) as session:
                        joined = _restore_at_once(session, whole, sink, display)
        if joined is None:
            assert isinstance(source, VideoSource | TrimmedVideo)
            with opened() as (restorer, open_stream):
                _settle(job, tiling, source, restorer, warn)
                manifest = restorer.manifest
                task = replace(pieces_task(job, tiling, options, source.excerpt), reading=info.reading)
                joined = restore_in_pieces(task, source, manifest, open_stream, _shown_on(display), display.say)
        display.finish("")
        warn(*source.notes, *joined.damage, *joined.notes)
    raise_faults(job, joined)
    done = joined.restored + joined.kept
    return Restored(Path(job.output), done, joined.elapsed, tuple(warn.lines), joined.lost, joined.kept)


def tiling_of(job: Job, request: BundleRequest, info: SourceInfo) -> Tiling:
    """How the pictures of a job's output consist of tiles. request: as for `restore_job`, unless the job knows."""
    if job.tiling is not None:
        return job.tiling
    if job.tile is None:
        return Tiling.whole(output_size(request, info.width, info.height))
    size = untiled_size(request, info.width, info.height)
    bundle = None if request.bundle is None else read_manifest(request.bundle).recipe.resolution
    return plan_tiles(job.tile, size, bundle) or Tiling.whole(size)


@contextmanager
def open_streams(
    open_restorer: Callable[[Resolution], AbstractContextManager[Restorer]],
    tiling: Tiling,
    info: SourceInfo,
    display: Display,
) -> Iterator[tuple[Restorer, StreamOpener]]:
    """An open bundle, and what opens a stream of pictures. `display` is told about tiles."""
    with open_restorer(tiling.tile) as restorer:
        say_tiles(tiling, restorer.manifest, info, display)
        yield restorer, streams_of(restorer, tiling)


def _settle(job: Job, tiling: Tiling, source: Source, restorer: Restorer, warn: LineCallback) -> None:
    """Let frames stay on the GPU if the job asks for that; `warn` is told if they cannot."""
    if job.sink.surfaces:
        scenes = job.scene_cut != "keep"
        keep_on_gpu(source, restorer, warn, tiled=not tiling.is_whole, divided_by_scenes=scenes)


def with_steps(sink: SinkOptions, output: str, source: Source, warn: Callable[[str], None]) -> SinkOptions:
    """The options with the clock of a container that counts even steps. `warn` is told if they are too coarse."""
    info = source.info
    excerpt = source.excerpt if isinstance(source, VideoSource | TrimmedVideo) else None
    readable = isinstance(source, VideoSource | TrimmedVideo) and not info.read_once

    def read_index() -> VideoIndex | str:
        return index_of_part(info, excerpt) if readable else "it is no video file"

    return run_interruptibly(lambda: in_steps(sink, output, info, read_index, warn))


def in_steps(
    sink: SinkOptions,
    output: str,
    info: SourceInfo,
    read_index: Callable[[], VideoIndex | str],
    warn: Callable[[str], None],
) -> SinkOptions:
    """As `with_steps`, for a video with this `info`. read_index: of the part to restore; called if it is needed."""
    try:
        container = format_of_output(Path(output), sink.out_format, info)
    except MediaError:  # it is no video, or opening it will refuse it
        return sink
    with_sound = sink.wants("audio") and any(copy.kind == "audio" for copy in info.copies)
    steps = find_steps(info, container, read_index, with_sound=with_sound)
    if steps is None:
        return sink
    if note := steps.note(container):
        warn(note)
    return replace(sink, clock=steps.clock)


def pieces_task(job: Job, tiling: Tiling, sink: SinkOptions, excerpt: Excerpt | None) -> PiecesTask:
    """A job on a video as a task in pieces. excerpt: the part to restore."""
    output, size = Path(job.output), tiling.size
    task = PiecesTask(job.source, output, size.width, size.height, sink, sink.gpu, job.piece_s)
    tile = None if tiling.is_whole else str(tiling.tile)
    return replace(task, resume=job.resume, keep_going=job.keep_going, excerpt=excerpt, tile=tile)


def open_job_input(job: Job) -> Source:
    """Open the input of a job, to restore it, on the GPU that encodes."""
    gpu, surfaces = job.sink.gpu, job.sink.surfaces
    return open_source(job.source, rate=job.rate, gpu=gpu, surfaces=surfaces, trim=job.trim, options=reading_of(job))


def open_settled(job: Job, request: BundleRequest) -> Source:
    """Open the input of a job, as without tiles if the output is one. Only then is it known how many it has.

    A pipe, which cannot be opened again, is read as for tiles all the same.
    """
    source = open_job_input(job)
    if job.tile is None or job.tiling is not None or source.info.read_once:
        return source
    try:
        tiling = tiling_of(job, request, source.info)
        if not tiling.is_whole:
            return source
    except BaseException:
        source.close()
        raise
    source.close()
    return open_job_input(replace(job, tiling=tiling))


def reading_of(job: Job) -> SourceOptions:
    """How the input of a job is read to restore it. Tiles are blended in RGB, so they get no planes."""
    tiled = job.tile is not None and not (job.tiling is not None and job.tiling.is_whole)
    return replace(job.reading, planes=not tiled, deep=tiled)


def in_pieces(job: Job, source: Source, sink: Sink) -> bool:
    """True if a run in pieces is possible: from a video file into a video file that is no animation, as one stream."""
    is_video = isinstance(source, VideoSource | TrimmedVideo) and not source.info.read_once
    is_one_stream = job.scene_cut == "keep"
    is_file = isinstance(sink, VideoSink) and not is_output_pipe(job.output) and not is_animation(job.output)
    return is_video and is_one_stream and is_file


@contextmanager
def as_one(job: Job, source: Source) -> Iterator[Source]:
    """The source of a job that is read once: with all packets, and if the job asks for it, with marks on scenes.

    There are no pieces that keep what was restored, so it ends where it cannot be read on, whatever the job asks for,
    unless there is nothing to keep yet.
    """
    with ExitStack() as stack:
        if isinstance(source, TrimmedVideo):
            source = stack.enter_context(TrimmedWithCopies(source))
        source = UntilBroken(source, if_empty=False)
        yield SceneSource(source) if job.scene_cut == "reset" else source


def _restore_at_once(session: RestoringStream, source: Source, sink: Sink, display: Display) -> Joined:
    """Restore images, a video into images, or through pipes: without pieces."""
    try:
        done, taken = restore_media(session, source, sink, _shown_on(display)), None
    except NameTakenError as error:
        done, taken = Progress(0, 0, None, 0.0), error
    lost = sink.lost if isinstance(sink, VideoSink) else ()
    return Joined(done.written, 0, done.elapsed, sink.notes, source.damage, source.shortfall, taken, lost)


def raise_faults(job: Job, joined: Joined) -> None:
    """Raise if the output, which is there, is not all that was asked for."""
    place = joined.taken.kept_as if joined.taken else output_name(job.output)
    damaged = "the input is damaged" if job.strict and joined.damage else None
    if fault := joined.shortfall or damaged:
        raise MachineError(f"{fault}; {place} {_HOLDS[is_output_pipe(job.output)]} what could be restored")
    if joined.taken:
        raise joined.taken


_HOLDS = {False: "holds", True: "was given"}


def _log_streams(job: Job, info: SourceInfo, sink: Sink) -> None:
    _log.info("%s: %s", job.output, sink.description)
    for copy in info.copies:
        _log.info("%s: %s is %s", job.source, copy, "copied" if job.sink.wants(copy.kind) else "left out")


def _shown_on(display: Display) -> Callable[[Progress], None]:
    return lambda now: display.update("", now.written, now.total, now.remaining)
