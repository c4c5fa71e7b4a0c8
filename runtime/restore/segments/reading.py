"""Restores a span of pieces from frames in the middle of a video.

The frames are found by the video's index. A video without one, or whose index turns out to be wrong, is read in order
up to the place.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction

from ....errors import SwiftVRError, UnreadableInputError
from ....text import LineCallback
from ...media import Item, Picture, Source, SourceInfo, SourceView
from ...media.encoder import EncodingRequest
from ...media.index import VideoIndex, index_video
from ...media.timeline import ClockConverter
from ...media.trim import Excerpt
from ...media.trimmed import TrimmedVideo, reopen
from ...media.video_in import VideoSource
from ...media.video_range import IndexMismatchError, VideoRange
from ...stream.session import EndedBeforeCutError
from ..pipeline import Part, Progress, StreamOpener, restore_media
from .grid import Grid, Span, missing_spans
from .piece import Mark, PieceFolder
from .sink import Before, NoFrameError, PieceSink, PieceTakenError
from .task import PiecesTask
from .until_broken import UntilBroken


def index_of_part(info: SourceInfo, excerpt: Excerpt | None) -> VideoIndex | str:
    """The index of the video or of a part of it, or why it has none."""
    index = index_video(info)
    return index if excerpt is None or isinstance(index, str) else excerpt.of_index(index)


@dataclass(frozen=True)
class Work:
    """What was restored: frames, and the seconds that it took."""

    frames: int = 0
    elapsed: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.frames + other.frames, self.elapsed + other.elapsed)


class SpanReader:
    """Opens the frames of spans of one video. index: of the video, found when it is first needed; or why it has none.

    source: the video, open and not read yet, to be read once from its beginning; None if there is none. It is closed
    before anything else is opened.
    """

    def __init__(  # many parameters: the last two save reading the video again
        self,
        task: PiecesTask,
        grid: Grid,
        info: SourceInfo,
        say: LineCallback,
        source: VideoSource | TrimmedVideo | None = None,
        index: VideoIndex | str | None = None,
    ) -> None:
        self.task, self.grid, self.info = task, grid, info
        self._say, self._source, self._index = say, source, index

    @property
    def index(self) -> VideoIndex | str:
        if self._index is None:
            if self._source is not None:
                self._source.close()
            self._index = index_of_part(self.info, self.task.excerpt)
            if isinstance(self._index, str):
                self._say(f"{self.info.path.name} is read from its beginning to the place, since {self._index}")
        return self._index

    def distrust(self, error: IndexMismatchError) -> None:
        """Do not use the index again, since a frame was not where it says."""
        self._say(f"{error}; the video is read in order instead")
        self._index = "its index is wrong"

    @contextmanager
    def pictures(self, span: Span) -> Iterator[tuple[Source, Part]]:
        """The pictures that a span needs, and where the stream is continued."""
        end = None if span.stop is None else self.grid.taken(span.stop)
        if span.first == 0 and self._source is not None:
            source, self._source = self._source, None
            with source:  # its decoder keeps frames in memory
                yield PartSource(source, 0, end), Part(frames=None if span.stop is None else self.grid.begin(span.stop))
            return
        index = self.index
        known = None if isinstance(index, str) else len(index)
        cut = self.grid.entry(span.first, known)
        expected = self.info.frames if known is None else known
        last = expected if span.stop is None else self.grid.begin(span.stop)
        part = Part(
            cut if cut.frame else None,
            to_end=end is None or known is None or end > known,
            frames=None if last is None else max(last - cut.emitted, 0),
        )
        if isinstance(index, str):
            with reopen(self.info, self.task.excerpt, self.task.gpu) as whole:
                yield PartSource(whole, cut.lead, end), part
        else:
            stop = len(index) if end is None else min(end, len(index))
            with VideoRange(self.info, index, cut.lead, stop) as frames:
                yield frames, part

    def check(self, before: Mark | None) -> None:
        """Raise `IndexMismatchError` unless the piece before a span ends where the index says.

        If it was read in order, frames that are missing before it have no number.
        """
        if before is None or isinstance(self.index, str):
            return
        end = before.begin + before.frames
        if _clock_after(self.index, end, Fraction(before.time_base)).last != before.clock:
            raise IndexMismatchError(f"frame {end - 1} of {self.info.path} is not where its index says")

    def before(self, span: Span, folder: PieceFolder) -> Before:
        """What comes before a span."""
        before = folder.marks.get(span.first - 1)
        index = self._index

        def clock(time_base: Fraction) -> ClockConverter:
            if before is not None:
                return ClockConverter(time_base, before.clock)
            if isinstance(index, VideoIndex):
                return _clock_after(index, self.grid.begin(span.first), time_base)
            return ClockConverter(time_base)

        return Before(clock, by_index=isinstance(index, VideoIndex))


def _clock_after(index: VideoIndex, frames: int, time_base: Fraction) -> ClockConverter:
    """The converter to an encoder's time base that has seen so many frames."""
    converter = ClockConverter(time_base)
    for pts, duration in index.stamps[:frames]:
        converter(pts, duration, index.time_base)
    return converter


def restore_span(
    reader: SpanReader,
    folder: PieceFolder,
    span: Span,
    open_session: StreamOpener,
    on_progress: Callable[[Progress], None],
) -> Work:
    """Restore the pieces of a span that are missing in `folder`, up to one that somebody else has claimed.

    open_session: a new session of the bundle. on_progress: its frames include those of all
    finished pieces.
    """
    request = EncodingRequest(reader.info, reader.task.width, reader.task.height, reader.task.sink)
    done = Work()
    while (rest := _missing(folder, span)) is not None:
        kept, began = folder.frames, time.monotonic()

        def progress(now: Progress, kept: int = kept) -> None:
            on_progress(replace(now, written=kept + now.written, total=reader.info.frames))

        until: UntilBroken | None = None
        try:
            reader.check(folder.marks.get(rest.first - 1))
            with reader.pictures(rest) as (pictures, part):
                if reader.task.keep_going and rest.stop is None:
                    pictures = until = UntilBroken(pictures)
                with _sink(reader, folder, rest, request, pictures) as sink:
                    form, surfaces = sink.takes
                    with open_session(form, surfaces=surfaces) as session:
                        now = restore_media(session, pictures, sink, progress, part=part)
            done += Work(folder.frames - kept, now.elapsed)  # a stream may have begun before the span
        except PieceTakenError:
            return done + Work(folder.frames - kept, time.monotonic() - began)
        except IndexMismatchError as error:
            reader.distrust(error)
        except (NoFrameError, EndedBeforeCutError) as error:
            if rest.first and rest.first - 1 not in folder.marks:
                return done  # whoever restores the pieces before reaches the end
            if not rest.first or not isinstance(error, NoFrameError):
                raise
            folder.end(rest.first - 1, error.shortfall)
        except SwiftVRError as error:
            reason = _why_it_ends(error, until)
            keeps_going = reader.task.keep_going and rest.stop is None
            if reason is None or not keeps_going or rest.first - 1 not in folder.marks:
                raise
            folder.end(rest.first - 1, reason)
    return done


def _why_it_ends(error: SwiftVRError, until: UntilBroken | None) -> str | None:
    """Why nothing can be read of a part of the input; None if that is not what went wrong."""
    if until is not None and until.broken:
        return until.broken
    return str(error) if isinstance(error, UnreadableInputError) else None


def _missing(folder: PieceFolder, span: Span) -> Span | None:
    """The first missing part of a span, without pieces that cannot be part of it; None if it is complete."""
    folder.sift()
    last = min((last for last in (folder.last, span.stop and span.stop - 1) if last is not None), default=None)
    done = {*range(span.first), *folder.marks}
    return next(missing_spans((piece for piece in done if last is None or piece <= last), last), None)


def _sink(reader: SpanReader, folder: PieceFolder, span: Span, request: EncodingRequest, pictures: Source) -> PieceSink:
    return PieceSink(folder, reader.grid, span, request, reader.before(span, folder), pictures)


class PartSource(SourceView):
    """The pictures of a source from number `begin` up to `end`, without packets to copy."""

    def __init__(self, source: Source, begin: int, end: int | None) -> None:
        super().__init__(source)
        self._range = range(begin, sys.maxsize if end is None else end)
        self._ended = False

    @property
    def shortfall(self) -> str | None:
        """What the source lacks; None if it was not read to its end."""
        return self.source.shortfall if self._ended else None

    def __iter__(self) -> Iterator[Item]:
        for item in self.source:
            if isinstance(item, Picture) and item.stamp.index in self._range:
                yield item
                if item.stamp.index == self._range[-1]:
                    return
            del item  # before the next one is decoded: it may be large
        self._ended = True
