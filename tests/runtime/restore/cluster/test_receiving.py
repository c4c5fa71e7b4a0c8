"""Pieces that arrive are kept whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from swiftvr_trt.errors import MachineError, OutputError
from swiftvr_trt.runtime.restore.cluster.actor import PiecePart
from swiftvr_trt.runtime.restore.cluster.receiving import Receiver
from swiftvr_trt.runtime.restore.segments.piece import Mark, parse_mark, segments_folder

DATA = b"packets of a piece"
MARK = Mark(0, 8, 8, len(DATA), hashlib.sha256(DATA).hexdigest(), "1/25", 7, last=False, encoder="libx264")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    segments_folder(tmp_path / "out.mp4").mkdir()
    return tmp_path / "out.mp4"


def test_a_piece_counts_once_its_last_part_is_there(output: Path) -> None:
    receiver = Receiver(output)
    assert not receiver.take(PiecePart(3, DATA[:5]))
    assert receiver.done == set()
    assert receiver.take(PiecePart(3, DATA[5:], MARK))
    assert (receiver.done, receiver.frames) == ({3}, 8)
    assert (segments_folder(output) / "00003.piece").read_bytes() == DATA
    assert parse_mark(segments_folder(output) / "00003.json") == MARK
    assert receiver.mark_before(4) == MARK


def test_half_a_piece_is_discarded(output: Path) -> None:
    receiver = Receiver(output)
    receiver.take(PiecePart(3, DATA[:5]))
    receiver.close()
    assert list(segments_folder(output).iterdir()) == []


def test_a_piece_that_arrives_damaged_is_discarded(output: Path) -> None:
    receiver = Receiver(output)
    with pytest.raises(MachineError, match="piece 3 arrived damaged"):
        receiver.take(PiecePart(3, b"other", MARK))
    assert list(segments_folder(output).iterdir()) == []
    assert receiver.take(PiecePart(3, DATA, MARK))


def test_a_mark_that_has_changed_replaces_the_one_before(output: Path) -> None:
    receiver = Receiver(output)
    receiver.take(PiecePart(0, DATA, MARK))
    last = Mark(0, 8, 8, len(DATA), MARK.sha256, "1/25", 7, last=True, encoder="libx264", shortfall="it ends early")
    assert not receiver.take(PiecePart(0, b"", last))
    assert parse_mark(segments_folder(output) / "00000.json") == last


def test_a_folder_that_vanished_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"out\.mp4"):
        Receiver(tmp_path / "out.mp4").take(PiecePart(0, DATA, MARK))
