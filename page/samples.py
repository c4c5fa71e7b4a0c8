"""Frames of a video or of a folder of images by their numbers, read again from the files, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from ..runtime.media import Picture, open_source
from ..runtime.media.base import Pixels
from ..runtime.media.index import VideoIndex
from ..runtime.media.source_options import SourceOptions
from ..runtime.media.trim import Trim
from ..runtime.media.trimmed import TrimmedVideo
from ..runtime.media.video_range import IndexMismatchError, VideoRange
from ..runtime.restore.segments.reading import index_of_part
from .pictures import as_8_bits

MOST_IN_ORDER = 1500
"""Frames that are read of a video in which no frame can be found by its number."""


@dataclass(frozen=True)
class Sample:
    """One frame: uint8 [H, W, 3] RGB, when it is shown in seconds from the first frame, and the name of its image."""

    pixels: Pixels
    seconds: float
    name: str | None = None


def spread(count: int, most: int) -> tuple[int, ...]:
    """The numbers of at most `most` of `count` frames, from the middles of equal parts: many films begin in black."""
    chosen = min(count, most)
    return tuple((2 * place + 1) * count // (2 * chosen) for place in range(chosen))


class SampledFile:
    """An open video, image or folder of images that gives frames by number. Close it, or use it as a context."""

    def __init__(
        self,
        path: Path,
        *,
        rate: Fraction | None = None,
        trim: Trim | None = None,
        options: SourceOptions | None = None,
    ) -> None:
        """See `open_source`. Reads the packets of a video once, to find its frames."""
        options = replace(options or SourceOptions(), planes=False)
        self._source = open_source(path, rate=rate, trim=trim, options=options)
        self.info = self._source.info
        self._are_images = self.info.image_suffix is not None
        try:
            self._index: VideoIndex | str = "images" if self._are_images else self._find_index()
        except BaseException:
            self._source.close()
            raise

    def _find_index(self) -> VideoIndex | str:
        return index_of_part(self.info, self._source.excerpt if isinstance(self._source, TrimmedVideo) else None)

    @property
    def within_reach(self) -> int | None:
        """How many frames can be asked for; None for all, unless the file has to be read in order."""
        return MOST_IN_ORDER if isinstance(self._index, str) and not self._are_images else None

    def samples(self, numbers: Sequence[int]) -> Iterator[Sample]:
        """The frames with these numbers, which increase. Can be called once. Ends early if the file does."""
        if self._are_images:
            return self._images(numbers)
        return self._in_order(numbers) if isinstance(self._index, str) else self._by_index(self._index, numbers)

    def _by_index(self, index: VideoIndex, numbers: Sequence[int]) -> Iterator[Sample]:
        begin = index.stamps[0][0]
        for place, number in enumerate(numbers):
            if number >= len(index):
                return
            try:
                with VideoRange(self.info, index, number, number + 1) as frames:
                    picture = next(iter(frames))
            except IndexMismatchError:
                yield from self._in_order(numbers[place:])
                return
            yield _sample(picture, begin)

    def _in_order(self, numbers: Sequence[int]) -> Iterator[Sample]:
        wanted, begin = set(numbers), 0
        pictures = (item for item in self._source if isinstance(item, Picture))
        for number, picture in enumerate(pictures):
            begin = picture.stamp.pts if number == 0 else begin
            if number in wanted:
                yield _sample(picture, begin)
            if number >= max(wanted):
                return

    def _images(self, numbers: Sequence[int]) -> Iterator[Sample]:
        files = self.info.files
        for number in (number for number in numbers if number < len(files)):
            with open_source(files[number], options=self.info.reading) as single:
                picture = next(item for item in single if isinstance(item, Picture))
            yield Sample(as_8_bits(picture.pixels), float(number / self.info.rate), files[number].name)

    def close(self) -> None:
        """Release the file."""
        self._source.close()

    def __enter__(self) -> SampledFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sample(picture: Picture, begin: int) -> Sample:
    return Sample(as_8_bits(picture.pixels), float((picture.stamp.pts - begin) * picture.stamp.time_base))
