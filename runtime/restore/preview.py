"""`--preview`: restores a short piece and writes it beside the original, before | after, at the size of the output."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engines.bundle.geometry import Resolution
from ...errors import MisuseError
from ...text import LineCallback
from ..media import CopiedPacket, Item, Picture, Sink, Source, SourceInfo, SourceView, open_sink, open_source
from ..media.alpha import enlarged
from ..media.colour import converted
from ..media.damage import in_one_line, part_line
from ..media.holes import Hole, hole_line
from ..media.index import VideoIndex, index_video
from ..media.video_in import VideoSource
from ..media.video_range import IndexMismatchError, VideoRange
from .bundle_request import BundleRequest
from .display import Display, WarnsOnce
from .hwaccel import on_gpu
from .interruptible import run_interruptibly
from .job import Job, Restored, as_one, open_streams, raise_faults, say_input, tiling_of, with_steps
from .pipeline import restore_media
from .restorer import Restorer
from .segments.resumable import Joined

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preview:
    """Which piece to look at. seconds: its length. at: where it begins, in seconds; None for the middle.

    Raises `MisuseError` for a piece without a length, or one that begins before the video.
    """

    seconds: Fraction
    at: Fraction | None = None

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise MisuseError(f"--preview is {float(self.seconds):g} s, expected a length above 0, e.g. 10s")
        if self.at is not None and self.at < 0:
            raise MisuseError(f"--preview-at is {float(self.at):g} s, expected 0 or more, e.g. 1:30")

    def begin(self, info: SourceInfo) -> Fraction:
        """Where the piece begins, in seconds. Raises `MisuseError` if that is behind the end."""
        length = info.seconds
        if self.at is None:
            return Fraction(0) if length is None else max((length - self.seconds) / 2, Fraction(0))
        if length is not None and self.at >= length:
            raise MisuseError(
                f"--preview-at is {float(self.at):g} s, but {info.path} lasts {float(length):.1f} s: choose an earlier "
                "moment"
            )
        return self.at


def restore_preview(
    job: Job,
    preview: Preview,
    request: BundleRequest,
    open_restorer: Callable[[Resolution], AbstractContextManager[Restorer]],
    display: Display,
) -> Restored:
    """Restore a piece of a file. Takes, tells and raises what `restore_job` does."""
    warn = WarnsOnce(display)
    job = _on_host(job, warn)
    with run_interruptibly(lambda: _open(job)) as whole, _Piece(whole, preview) as source:
        say_input(whole.info, display)
        warn(*whole.notes)
        tiling = tiling_of(job, request, whole.info)
        size, options = tiling.size, with_steps(job.sink, job.output, whole, warn)
        originals = _Originals(source, size)
        with open_sink(job.output, source.info, 2 * size.width, size.height, options) as inner:
            warn(*inner.notes)
            with (
                open_streams(open_restorer, tiling, whole.info, display) as (_, open_stream),
                open_stream(whole.info.form) as session,
                as_one(job, originals) as asked,
            ):
                done = restore_media(
                    session,
                    asked,
                    _SideBySide(inner, originals),
                    lambda now: display.update("", now.written, now.total, now.remaining),
                )
            joined = Joined(done.written, 0, done.elapsed, inner.notes, source.damage, asked.shortfall)
        display.finish("")
        warn(*source.notes, *joined.damage, *joined.notes)
    raise_faults(job, joined)
    return Restored(Path(job.output), done.written, done.elapsed, tuple(warn.lines))


def _on_host(job: Job, warn: LineCallback) -> Job:
    """The job with the GPU that decodes and encodes. Frames come to the host, where they are put side by side."""
    sink = on_gpu(job.sink, job.hwaccel, job.device, warn)
    if sink.surfaces:
        warn("frames go through the host: --preview shows them beside the originals")
    return replace(job, sink=replace(sink, surfaces=False))


def _open(job: Job) -> Source:
    """Open the input to restore it in RGB, in which originals are enlarged."""
    return open_source(job.source, rate=job.rate, gpu=job.sink.gpu, options=replace(job.reading, deep=True))


def preview_info(info: SourceInfo, preview: Preview) -> SourceInfo:
    """The info of a piece: twice as wide, for both pictures, and without anything but pictures."""
    frames = round(preview.seconds * info.rate)
    return replace(
        info,
        width=2 * info.width,
        frames=frames if info.frames is None else min(frames, info.frames),
        metadata={},
        stream_metadata={},
        chapters=(),
        copies=(),
    )


class _Piece:
    """The pictures of a piece, from time 0 on, without sound and other streams. Its info has the width of two."""

    def __init__(self, whole: Source, preview: Preview) -> None:
        self._begin = preview.begin(whole.info)
        self._end = self._begin + preview.seconds
        self._whole = whole
        self._range: VideoRange | None = None
        self._start = Fraction(0)  # of the whole
        self._holes: tuple[Hole, ...] = ()
        self._in_turn = self._at_end = False
        self._promised = self._found = 0
        self.info = preview_info(whole.info, preview)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the input."""
        return self._whole.notes

    @property
    def damage(self) -> tuple[str, ...]:
        """What is damaged in what was read. Valid after the last picture."""
        return self._whole.damage if self._in_turn or self._range is None else self._range.damage

    @property
    def shortfall(self) -> str | None:
        """What is missing of the piece. Valid after the last picture."""
        whole = self._whole
        if not isinstance(whole, VideoSource):  # images
            return whole.shortfall
        if self._range is not None:
            lacks = in_one_line(self._range.shortfall, part_line(self._promised, self._found, whole.lost))
        else:
            lacks = whole.broken_promise if self._at_end else None
        begin, end = self._start + self._begin, self._start + self._end
        holes = whole.holes if self._in_turn else self._holes
        return in_one_line(lacks, hole_line(tuple(each for each in holes if each.overlaps(begin, end))))

    def __iter__(self) -> Iterator[Item]:
        first: int | None = None
        for number, picture in enumerate(self._pictures()):
            stamp = picture.stamp
            first = stamp.pts if first is None else first
            self._found = number + 1
            yield replace(picture, stamp=replace(stamp, index=number, pts=stamp.pts - first))

    def _pictures(self) -> Iterator[Picture]:
        """The pictures of the piece with their own stamps. In a video with an index, the others are not decoded."""
        info = self._whole.info
        index = index_video(info) if info.image_suffix is None else "a folder of images"
        if isinstance(index, str):
            yield from self._in_order()
            return
        last: int | None = None
        try:
            for picture in self._by_index(index):
                last = picture.stamp.pts
                yield picture
        except IndexMismatchError as error:
            _log.info("%s; the video is read in order instead", error)
            yield from (picture for picture in self._in_order() if last is None or picture.stamp.pts > last)

    def _by_index(self, index: VideoIndex) -> Iterator[Picture]:
        begin = min(index.frame_at(self._begin), len(index) - 1)
        self._start, self._holes = index.stamps[0][0] * index.time_base, index.holes_s
        end = max(index.frame_at(self._end), begin + 1)
        self._promised = end - begin
        part = replace(index, holes=())  # they may lie outside
        self._range = VideoRange(self._whole.info, part, begin, end)
        yield from self._range

    def _in_order(self) -> Iterator[Picture]:
        """The pictures of the piece, found by reading the whole input up to its end."""
        self._in_turn = True
        pictures = (item for item in self._whole if not isinstance(item, CopiedPacket))
        for number, picture in enumerate(pictures):
            moment = picture.stamp.pts * picture.stamp.time_base
            self._start = self._start if number else moment
            if moment - self._start >= self._end:
                return
            if moment - self._start >= self._begin:
                yield picture
        self._at_end = True

    def close(self) -> None:
        if self._range is not None:
            self._range.close()

    def __enter__(self) -> _Piece:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Originals(SourceView):
    """Keeps each original until its restored picture comes out. Otherwise the source itself."""

    def __init__(self, source: _Piece, size: Resolution) -> None:
        super().__init__(source)
        self._size = size
        self._waiting: dict[int, NDArray[Any]] = {}
        self._lock = threading.Lock()
        self.info = replace(source.info, width=source.info.width // 2)

    def __iter__(self) -> Iterator[Item]:
        for item in self.source:
            if isinstance(item, Picture):
                with self._lock:
                    self._waiting[item.stamp.index] = item.pixels
            yield item

    def enlarged(self, index: int) -> NDArray[Any]:
        """The original of a picture, enlarged with bicubic interpolation; can be asked for once."""
        from av.video.frame import VideoFrame

        with self._lock:
            pixels = self._waiting.pop(index)
        frame = VideoFrame.from_ndarray(pixels, format="rgb48le" if pixels.dtype == np.uint16 else "rgb24")
        width, height = self._size.width, self._size.height
        larger = converted(frame, width=width, height=height, interpolation="BICUBIC")
        return np.asarray(larger.to_ndarray(), pixels.dtype)


class _SideBySide:
    """Writes each restored picture with its original on the left."""

    def __init__(self, sink: Sink, originals: _Originals) -> None:
        self._sink, self._originals = sink, originals

    @property
    def notes(self) -> tuple[str, ...]:
        return self._sink.notes

    @property
    def description(self) -> str:
        return self._sink.description

    def write(self, item: Item) -> None:
        if isinstance(item, Picture):
            before, alpha = self._originals.enlarged(item.stamp.index), item.stamp.alpha
            both = item.with_pixels(np.concatenate([before, item.pixels], axis=1))
            if alpha is not None:
                larger = enlarged(
                    alpha, *item.pixels.shape[:2]
                )  # each by itself: nothing runs over from one to the other
                both = replace(both, stamp=replace(item.stamp, alpha=np.concatenate([larger, larger], axis=1)))
            self._sink.write(both)

    def commit(self) -> None:
        self._sink.commit()

    def __enter__(self) -> _SideBySide:
        return self

    def __exit__(self, *_: object) -> None:
        """The sink itself is left by whoever opened it."""
