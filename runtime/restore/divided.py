"""Restores one video on several devices: each restores a span of pieces, and the parent joins them.

The spans go through the same fleet as the files of a batch, so a device that fails leaves its span to the others. A
device that is done takes over half of what another has yet to begin (`sharing`). Every finished piece counts, whatever
became of its span; what is missing after a round is handed out again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...engines.bundle.files import read_manifest
from ...engines.bundle.manifest import Manifest
from ...errors import MachineError, MisuseError, SwiftVRError
from ...text import LineCallback
from ..media import Source, SourceInfo, open_source
from ..media.files import explain_write_errors
from ..media.index import VideoIndex
from ..media.pipes import is_input_pipe
from ..media.repeats import is_animation
from ..media.trim import Excerpt
from ..media.trimmed import TrimmedVideo
from ..media.video_in import VideoSource
from ..stream.tiles import Tiling
from .display import Display, Result, WarnsOnce
from .fleet import run_fleet
from .hwaccel import on_gpu
from .job import (
    Failure,
    Job,
    JobWithBundle,
    Restored,
    in_steps,
    pieces_task,
    raise_faults,
    reading_of,
    say_input,
    say_tiles,
)
from .pace import Pace
from .pipeline import Progress
from .restorer import OpenOptions, Restorer
from .segments.grid import Grid, Span
from .segments.input_watch import InputWatch
from .segments.piece import PieceFolder
from .segments.reading import SpanReader, Work, index_of_part, restore_span
from .segments.resumable import finish, open_store
from .segments.room import full_elsewhere
from .segments.store import Store
from .segments.task import PiecesTask
from .sharing import Sharing
from .tiled import streams_of

_log = logging.getLogger(__name__)

_ROUNDS = 3
"""How often what is missing is handed out. A device that dies twice in a row in one round gets no more in it."""


def divide(missing: Iterable[Span], last: int, devices: int) -> list[Span]:
    """The missing pieces in spans, about one for each device: few, since each begins the stream anew.

    last: number of the last piece. The span with it is open-ended, which tells its worker that the stream ends there.
    """
    gaps = [range(span.first, last + 1 if span.stop is None else span.stop) for span in missing]
    length = max(1, -(-sum(map(len, gaps)) // devices))
    spans = [gap[at : at + length] for gap in gaps for at in range(0, len(gap), length)]
    return [Span(span.start, None if span.stop == last + 1 else span.stop) for span in spans]


HandOut = Callable[[Store, int | None, Display], str | None]
"""Has the missing pieces of a store restored by others. Gets the number of the last piece, None if unknown, and where
to show progress. Returns why pieces are still missing; None if none are. May raise `OutputError` for a full disk."""


def restore_divided(
    order: JobWithBundle, devices: Sequence[str | None], display: Display, options: OpenOptions
) -> Restored:
    """Restore a video on all devices, each in a process of its own.

    Raises `MachineError` if pieces are missing in the end, or for the input as `restore_job` does.
    """
    job = order.job
    video = look_at(job)
    if isinstance(video.index, str):
        display.warn(f"only {devices[0] or 'one device'} is used, because {job.name} cannot be divided: {video.index}")
        devices = devices[:1]
    return _restore_on_all(order, devices, video, display, options)


def restore_few(
    orders: Sequence[JobWithBundle], devices: Sequence[str | None], display: Display, options: OpenOptions
) -> list[Failure]:
    """Restore a batch with fewer files than devices: each video on all devices, one after the other.

    What cannot be divided, and videos of one piece, go to the fleet at the end, one per device. Returns the failures.
    """
    failures: list[Failure] = []
    undivided: list[JobWithBundle] = []
    for order in orders:
        job = order.job
        try:
            video = _worth_dividing(order)
            if video is None:
                undivided.append(order)
                continue
            restored = _restore_on_all(order, devices, video, display, options, job.name)
        except SwiftVRError as error:
            display.finish(job.name)
            failures.append(Failure(job, str(error)))
            display.result(job.result("failed", str(error)), job.name)
        else:
            display.result(job.done(restored), job.name)
    return failures + (run_fleet(undivided, devices, display, options) if undivided else [])


def _worth_dividing(order: JobWithBundle) -> VideoToDivide | None:
    """What is known of a video of several pieces; None for anything else."""
    job = order.job
    if job.scene_cut != "keep" or job.source.is_dir() or is_input_pipe(job.source):
        return None
    try:
        video = look_at(job)
    except MisuseError:  # an image, or one that cannot be read, of which the fleet will tell
        return None
    if isinstance(video.index, str):
        return None
    grid = Grid.for_rate(read_manifest(Path(order.bundle)), video.info.rate, job.piece_s)
    return video if grid.count(len(video.index)) > 1 else None


def _restore_on_all(  # many parameters: what `restore_divided` takes, and what is known about the video
    order: JobWithBundle,
    devices: Sequence[str | None],
    video: VideoToDivide,
    display: Display,
    options: OpenOptions,
    name: str = "",
) -> Restored:
    def hand_out(store: Store, last: int | None, shown: Display) -> str | None:
        return _rounds(order, devices, store, last, shown, options)

    manifest = read_manifest(Path(order.bundle))
    return restore_by_others(replace(order.job, device=devices[0]), manifest, video, hand_out, display, name)


def restore_by_others(  # many parameters: a job, what is known about it, and who does it
    job: Job, manifest: Manifest, video: VideoToDivide, hand_out: HandOut, display: Display, name: str = ""
) -> Restored:
    """Have the missing pieces of a video restored, and join all. name: of the video, as for `display`.

    Raises `MachineError` if pieces are missing in the end, or for the input as `restore_job` does.
    """
    info, index = video.info, video.index
    say_input(info, display, name)
    say_tiles(_tiling(job, manifest), manifest, info, display, name)
    warn = WarnsOnce(display, name)
    task = _task(job, manifest, video, warn)
    grid = Grid.for_rate(manifest, info.rate, job.piece_s)
    last = None if isinstance(index, str) else grid.count(len(index)) - 1
    began = time.monotonic()
    with open_store(task, grid, info, lambda line: display.say(line, name)) as store:
        kept = store.frames
        reason = hand_out(store, last, _Sum(display, warn, name, kept, info.frames))
        store.check_input()  # that may be why
        if reason is not None:
            raise MachineError(f"{job.name} is not complete: {reason}")
        joined = finish(task, store, info, Work(store.frames - kept, time.monotonic() - began), kept)
    display.finish(name)
    warn(*video.notes, *joined.damage, *joined.notes)
    raise_faults(job, joined)
    done = joined.restored + joined.kept
    return Restored(Path(job.output), done, joined.elapsed, tuple(warn.lines), joined.lost, joined.kept)


def _rounds(
    order: JobWithBundle,
    devices: Sequence[str | None],
    store: Store,
    last: int | None,
    display: Display,
    options: OpenOptions,
) -> str | None:
    """Hand out what is missing until nothing is. Returns why something still is; None if the video is complete.

    Raises `OutputError` once the disk is full: the others would only find it full, too.
    """
    reason, job = "its pieces are gone", replace(order.job, known=store.known)
    for _ in range(_ROUNDS):
        sharing: Sharing | None = None
        if not (spans := store.missing(last)):
            return None
        with explain_write_errors(store.output):
            store.claims.forget()
        if last is not None and not store.misled:
            spans, sharing = divide(spans, last, len(devices)), Sharing(store.claims, last)
        jobs = [
            replace(job, span=(span.first, span.stop), shared=True, title=f"pieces from {span.first}") for span in spans
        ]
        failures = run_fleet([JobWithBundle(job, order.bundle) for job in jobs], devices, display, options, sharing)
        for failure in failures:
            _log.info("%s: %s: %s", order.job.name, failure.job.name, failure.reason)
        reason = failures[0].reason if failures else reason  # later ones may only lack a device
        store.look_again()
        store.check_input()
        if (full := next((failure for failure in failures if failure.full), None)) and store.missing(last):
            raise full_elsewhere(full.reason)
    return reason if store.missing(last) else None


def restore_part(job: Job, video: VideoToDivide, restorer: Restorer, display: Display) -> Restored:
    """Restore the span of a job, in the process of one device.

    Raises `InputChangedError` if the input is not the one that the parent knows.
    """
    assert job.span is not None
    task = _task(job, restorer.manifest, video, display.warn)
    grid = Grid.for_rate(restorer.manifest, video.info.rate, job.piece_s)
    reader = SpanReader(task, grid, video.info, display.warn, index=video.index)

    folder = PieceFolder(task.output, shared=job.shared)
    if job.known is not None:
        folder.watch = InputWatch(task, job.known)
        folder.check_input()
    folder.recall(job.span[0] - 1)  # its last time stamp decides the next one
    earlier = folder.frames

    def show(now: Progress) -> None:
        display.update("", now.written - earlier, None, None)

    open_stream = streams_of(restorer, _tiling(job, restorer.manifest))
    done = restore_span(reader, folder, Span(*job.span), open_stream, show)
    return Restored(task.output, done.frames, done.elapsed)


@dataclass(frozen=True)
class VideoToDivide:
    """What is known of a video before it is restored.

    excerpt: the part of it to restore; None for all. notes: for people. index: of that part, or why it has none.
    """

    info: SourceInfo
    excerpt: Excerpt | None
    notes: tuple[str, ...]
    index: VideoIndex | str


def look_at(job: Job, option: str = "--devices", index: VideoIndex | None = None) -> VideoToDivide:
    """Open the input and index it, unless its index is given.

    Raises `MisuseError`, which names the option, for anything but a video into a video.
    """
    with open_source(job.source, trim=job.trim, options=reading_of(job)) as source:
        source = require_video(source, job, option)
        info, excerpt, notes = source.info, source.excerpt, source.notes
    return VideoToDivide(info, excerpt, notes, index or index_of_part(info, excerpt))


def require_video(source: Source, job: Job, option: str) -> VideoSource | TrimmedVideo:
    """The source of a job. Raises `MisuseError`, which names the option, for anything but a video into a video."""
    if not isinstance(source, VideoSource | TrimmedVideo):
        raise MisuseError(f"{option} was given for {job.source}, expected a video: images are restored on one device")
    if is_animation(job.output):
        raise MisuseError(f"{option} was given for {job.output}, but GIF and APNG are made on one device: name one")
    return source


def _task(job: Job, manifest: Manifest, video: VideoToDivide, warn: LineCallback) -> PiecesTask:
    sink = on_gpu(job.sink, job.hwaccel, job.device, warn)
    sink = in_steps(sink, job.output, video.info, lambda: video.index, warn)
    task = pieces_task(job, _tiling(job, manifest), sink, video.excerpt)
    return replace(task, reading=video.info.reading)


def _tiling(job: Job, manifest: Manifest) -> Tiling:
    return job.tiling or Tiling.whole(manifest.recipe.resolution)


class _Sum:
    """Shows the progress of all spans as that of one file. What is said about several of them is shown once.

    Their results are not shown, nor are lines about their turn. warn: for what is lost or not as asked for.
    """

    def __init__(self, display: Display, warn: WarnsOnce, name: str, kept: int, total: int | None) -> None:
        self._display, self._warn, self._name, self._kept, self._total = display, warn, name, kept, total
        self._pace = Pace(None if total is None else total - kept, time.monotonic())
        self._frames: dict[str, int] = {}
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def begin(self, files: Sequence[tuple[str, str]]) -> None:
        """Shows nothing: the file has begun."""

    def say(self, line: str, name: str = "") -> None:
        """Shows a line about a span, such as that a device leaves it, but not that its turn has come."""
        _log.info("%s: %s", name, line)
        with self._lock:
            if name and line not in self._said:
                self._said.add(line)
                self._display.say(line, self._name)

    def warn(self, line: str, _name: str = "") -> None:
        with self._lock:
            self._warn(line)

    def update(self, name: str, done: int, _total: int | None, _remaining: float | None) -> None:
        with self._lock:
            more = done - self._frames.get(name, 0)
            self._frames[name] = done
            now = time.monotonic()
            if more > 0:
                self._pace.advance(more, now)
            done = self._kept + sum(self._frames.values())
            self._display.update(self._name, done, self._total, self._pace.remaining(now))

    def show_nodes(self, frames: Mapping[str, int]) -> None:
        self._display.show_nodes(frames)

    def finish(self, name: str) -> None:
        """Shows nothing: other spans follow."""

    def result(self, result: Result, name: str = "") -> None:
        _log.info("%s: %s", name, result.text)
