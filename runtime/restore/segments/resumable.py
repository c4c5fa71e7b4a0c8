"""Restores a video in pieces, so that an interrupted run goes on where it was, and joins them at the end.

A run that is not interrupted reads its input once, in order, like any other; only the encoder begins anew with each
piece. A resumed run needs frames from the middle (`reading`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from .... import leaving
from ....engines.bundle.manifest import Manifest
from ....errors import MediaError, NameTakenError, SwiftVRError, UnreadableInputError
from ....text import LineCallback, counted
from ...media import SourceInfo
from ...media.files import free_name, is_taken
from ...media.trimmed import TrimmedVideo, reopen
from ...media.video_in import VideoSource
from ...media.video_out import VideoSink
from ..pipeline import Progress, StreamOpener
from .grid import Grid, Span
from .input_watch import InputChangedError, InputWatch, check_since_opening
from .join import join_pieces, last_shown_s
from .reading import SpanReader, Work, restore_span
from .room import check_room_to_join, full_disk, least_bytes, refuse_without_room
from .same_encoder import as_before, check_encoder
from .store import Store
from .task import KnownInput, PiecesTask, identity_of


@dataclass(frozen=True)
class Joined:
    """A finished output: frames restored in this run and kept from earlier ones.

    notes, lost: of the sink. damage, shortfall: of the input, as in `Source`. taken: the output is complete, but has
    another name.
    """

    restored: int
    kept: int
    elapsed: float
    notes: tuple[str, ...]
    damage: tuple[str, ...]
    shortfall: str | None
    taken: NameTakenError | None = None
    lost: tuple[str, ...] = ()


def restore_in_pieces(
    task: PiecesTask,
    source: VideoSource | TrimmedVideo,
    manifest: Manifest,
    open_session: StreamOpener,
    on_progress: Callable[[Progress], None],
    say: LineCallback,
) -> Joined:
    """Restore what is missing of the output, and join it.

    source: the input, open and not read yet. open_session: a new session of the bundle with this `manifest`. say: gets
    lines about what is kept. Whatever is raised, finished pieces stay for the next run, and `say` is told.
    """
    grid = Grid.for_rate(manifest, source.info.rate, task.seconds)
    with open_store(task, grid, source.info, say) as store:
        kept = store.frames
        reader = SpanReader(task, grid, source.info, say, source)
        done = restore_span(reader, store, Span(0, None), open_session, on_progress)
        return finish(task, store, source.info, done, kept)


@contextmanager
def open_store(task: PiecesTask, grid: Grid, info: SourceInfo, say: LineCallback) -> Iterator[Store]:
    """The pieces of the output. `say` is told what is kept from before and, if the block fails, for the next run.

    Raises `OutputError` if the disk certainly cannot hold the output, and `InputChangedError` if the input is another
    one than when it was opened.
    """
    known = KnownInput.of(task)
    check_since_opening(info, known)
    with Store.open(task.output, identity_of(task, grid, known), resume=task.resume, say=say) as store:
        store.watch = InputWatch(task, known)
        if store.frames:
            say(f"going on after an interruption: {counted(store.frames, 'frame is', 'frames are')} kept from before")
        if info.frames is not None:
            least = least_bytes(task.sink.codec, task.width, task.height, info.frames - store.frames)
            refuse_without_room(store, least)
        with _advising(store, say):
            yield store


def finish(task: PiecesTask, store: Store, info: SourceInfo, done: Work, kept: int) -> Joined:
    """Join all pieces and remove them. info: of the input. done: what was restored in this run; kept: frames from
    earlier ones."""
    (notes, lost), taken = _join(task, store, info)
    damage, shortfall = store.damage, store.shortfall
    store.remove()
    return Joined(done.frames, kept, done.elapsed, notes, damage, shortfall, taken, lost)


@contextmanager
def _advising(store: Store, say: LineCallback) -> Iterator[None]:
    """Tell a user whose run fails or is interrupted what is kept."""

    def advice() -> str:
        with suppress(SwiftVRError, OSError):
            store.look_again()  # others may have finished pieces
        if not store.marks or not store.folder.is_dir():
            return ""
        return f"{_kept_in(store)}; the same command{store.without} goes on from there"

    with leaving.advising(advice):
        try:
            yield
        except BaseException as error:
            if full := full_disk(error, store, store.frames):
                raise full from error
            cause = _cause(error, store)
            if isinstance(cause, UnreadableInputError | InputChangedError):
                kept = f"{_kept_in(store)}: " if store.marks else ""
                raise type(cause)(f"{cause}; {kept}{_remedy(cause, store)}") from error
            if kept := advice():
                say(kept)
            raise


def _cause(error: BaseException, store: Store) -> BaseException:
    """The error; or that the input was changed, of which it may be a consequence."""
    if isinstance(error, MediaError):
        try:
            store.check_input()
        except InputChangedError as changed:
            return changed
    return error


def _kept_in(store: Store) -> str:
    return f"{counted(store.frames, 'frame is', 'frames are')} kept in {store.folder}"


def _remedy(error: UnreadableInputError | InputChangedError, store: Store) -> str:
    """What to do about an input, as the end of a message."""
    again = f"run the same command again{store.without}"
    if isinstance(error, UnreadableInputError):
        return f"{again} once it can be read, or with --keep-going to finish the output with what there is"
    if store.marks:
        return f"put the earlier file back and {again}, or start over with --no-resume once it stays as it is"
    return f"{again} once it stays as it is"


def _join(
    task: PiecesTask, store: Store, info: SourceInfo
) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], NameTakenError | None]:
    """Write the output, beside its name if that was taken meanwhile.

    Returns what its sink notes and what that lacks, and where it is.
    """
    store.check_input()
    check_room_to_join(store)
    output = free_name(task.output) if is_taken(task.output, task.sink.overwrite) else task.output
    # Its encoder describes the pieces, and gets no picture.
    options = replace(as_before(task.sink, store.marks), surfaces=False)
    with (
        _reopened(task, store, info) as source,
        VideoSink(output, source.info, task.width, task.height, options, last_shown_s(store)) as sink,
    ):
        check_encoder((sink.form.codec, sink.header), store.marks, sink.notes)
        sink.lost_side_data = {words for mark in store.marks.values() for words in mark.lost_side_data}
        sink.lost_captions = sum(mark.lost_captions for mark in store.marks.values())
        try:
            join_pieces(store, source, sink, task.keep_going)
        except NameTakenError as error:
            output = error.kept_as
        taken = None if output == task.output else NameTakenError(task.output, output)
        return (sink.notes, sink.lost), taken


def _reopened(task: PiecesTask, store: Store, info: SourceInfo) -> VideoSource | TrimmedVideo:
    """The input, to copy from it. What is open cannot be replaced any more."""
    source = reopen(info, task.excerpt)
    try:
        store.check_input()
    except BaseException:
        source.close()
        raise
    return source
