"""Joining writes every packet once, in the order of decoding times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

import pytest

from swiftvr_trt.runtime.media.base import CopiedPacket
from swiftvr_trt.runtime.media.picture_encoder import EncodedPicture
from swiftvr_trt.runtime.media.video_in import VideoSource
from swiftvr_trt.runtime.media.video_out import VideoSink
from swiftvr_trt.runtime.restore.segments.join import join_pieces
from swiftvr_trt.runtime.restore.segments.piece import Mark
from swiftvr_trt.runtime.restore.segments.store import Store


@dataclass
class Packet:
    """What the joiner sees of a packet to copy."""

    pts: int | None
    dts: int | None
    time_base: Fraction = Fraction(1, 100)


@dataclass
class Pieces:
    """A store of two pieces."""

    pieces: dict[int, list[tuple[int, int]]]

    @property
    def marks(self) -> dict[int, Mark]:
        return {piece: Mark(0, 1, 1, 1, "", "1/25", 0, False, "libx264") for piece in self.pieces}

    def packets(self, piece: int) -> Iterator[EncodedPicture]:
        for pts, dts in self.pieces[piece]:
            yield EncodedPicture(b"", pts, dts, 1, False)


@dataclass
class Recorder:
    """A sink that notes what it is given."""

    log: list[str] = field(default_factory=list)

    def write(self, item: CopiedPacket) -> None:
        self.log.append(f"sound {item.packet.dts}")

    def write_encoded(self, picture: EncodedPicture, time_base: Fraction) -> None:
        assert time_base == Fraction(1, 25)
        assert picture.dts <= picture.pts
        self.log.append(f"{picture.pts}/{picture.dts}")

    def commit(self) -> None:
        self.log.append("commit")


@dataclass
class Sound:
    """A source with packets to copy only."""

    packets: list[Packet]

    def copied_packets(self) -> Iterator[CopiedPacket]:
        return (CopiedPacket(1, packet) for packet in self.packets)


def joined(pieces: dict[int, list[tuple[int, int]]], sound: list[Packet]) -> list[str]:
    recorder: Any = Recorder()
    join_pieces(cast(Store, Pieces(pieces)), cast(VideoSource, Sound(sound)), cast(VideoSink, recorder))
    log: list[str] = recorder.log
    return log


def test_packets_are_interleaved_by_decoding_time() -> None:
    log = joined({0: [(0, 0), (1, 1)], 1: [(2, 2)]}, [Packet(0, 0), Packet(6, 6), Packet(None, None), Packet(9, 9)])
    assert log == ["0/0", "sound 0", "1/1", "sound 6", "sound None", "2/2", "sound 9", "commit"]


def test_without_sound_there_is_the_video() -> None:
    assert joined({3: [(7, 7)], 1: [(5, 5)]}, []) == ["5/5", "7/7", "commit"]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ([(9, 7), (8, 8)], ["9/7", "8/8"]),  # as an encoder gives it: nothing to do
        ([(9, 5), (8, 6), (10, 8)], ["9/7", "8/8", "10/9"]),  # began before the last one of the piece before
    ],
)
def test_decoding_times_advance_across_the_border(second: list[tuple[int, int]], expected: list[str]) -> None:
    log = joined({0: [(5, 5), (7, 6)], 1: second}, [])
    assert log == ["5/5", "7/6", *expected, "commit"]
