"""The pictures of a part of a video, and what counts as missing in a span."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from swiftvr_trt.runtime.media.base import Colour, CopiedPacket, Item, Picture, SourceInfo, Stamp
from swiftvr_trt.runtime.restore.segments.grid import Span
from swiftvr_trt.runtime.restore.segments.piece import Mark, PieceFolder
from swiftvr_trt.runtime.restore.segments.reading import PartSource, Work, _missing

INFO = SourceInfo(Path("in.mp4"), 4, 4, 10, Fraction(25), Fraction(1, 25), Colour(), None, "a video")


class Whole:
    """A source of ten pictures, with a packet to copy before each."""

    info, notes, damage, shortfall = INFO, ("a note",), ("damaged",), "two frames are missing"
    closed = False

    def __iter__(self) -> Iterator[Item]:
        for index in range(10):
            yield CopiedPacket(1, None)
            yield Picture(np.zeros((4, 4, 3), np.uint8), Stamp(index, index, 1, Fraction(1, 25)))

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Whole:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.mark.parametrize(
    ("begin", "end", "numbers", "shortfall"),
    [
        (0, None, range(10), Whole.shortfall),
        (3, None, range(3, 10), Whole.shortfall),
        (0, 4, range(4), None),
        (3, 7, range(3, 7), None),
        (8, 20, range(8, 10), Whole.shortfall),
    ],
)
def test_a_part_has_its_pictures_and_no_packets(
    begin: int, end: int | None, numbers: range, shortfall: str | None
) -> None:
    """What the source lacks is known at its end only."""
    whole = Whole()
    with PartSource(whole, begin, end) as part:
        assert part.shortfall is None
        items = list(part)
        assert part.shortfall == shortfall
    assert [item.stamp.index for item in items if isinstance(item, Picture)] == list(numbers)
    assert len(items) == len(numbers)
    assert (part.notes, part.damage, whole.closed) == (("a note",), ("damaged",), True)


@pytest.mark.parametrize(
    ("finished", "span", "missing"),
    [
        ([], Span(0, None), Span(0, None)),
        ([], Span(2, 5), Span(2, 5)),
        ([2], Span(2, 5), Span(3, 5)),
        ([2, 3, 4], Span(2, 5), None),
        ([0, 1, 7], Span(2, 5), Span(2, 5)),
        ([3], Span(2, 5), Span(2, 3)),
        ([4, 5], Span(4, None), Span(6, None)),
        ([4, -5], Span(4, None), None),
    ],
)
def test_missing_pieces_of_a_span(tmp_path: Path, finished: list[int], span: Span, missing: Span | None) -> None:
    """A negative number is the stream's last piece."""
    folder = PieceFolder(tmp_path / "out.mp4")
    for piece in finished:
        folder.marks[abs(piece)] = Mark(0, 1, 1, 1, "", "1/25", 0, piece < 0, "libx264")
    assert _missing(folder, span) == missing


def test_what_was_done_adds_up() -> None:
    assert Work(3, 1.5) + Work(4, 0.5) + Work() == Work(7, 2.0)
