"""The sum of decoding times ends where the last picture ends."""

from __future__ import annotations

from typing import Any

import av
import pytest

from swiftvr_trt.runtime.media.last_packet import ADDING_UP, LastPacket


def packet(pts: int, dts: int, duration: int) -> Any:
    made = av.Packet(b"picture")
    made.pts, made.dts, made.duration = pts, dts, duration
    return made


@pytest.mark.parametrize(
    ("stamps", "last"),
    [
        ([(0, 0, 4), (4, 4, 4)], 4),
        ([(0, 0, 4), (4, 4, 300)], 300),
        ([(10, 0, 4), (22, 4, 300), (14, 8, 4), (18, 12, 4)], 300),
        ([(0, -60, 10), (10, -50, 50), (60, 0, 4), (64, 10, 300)], 300),
        ([(0, -4, 9)], 9),
        ([(0, -8, 4), (4, -4, 300), (12, 0, 4), (8, 4, 4)], 4),
        ([(0, 0, 0)], 1),
    ],
    ids=["even", "long", "reordered", "delayed", "one", "overlapping", "unknown"],
)
def test_the_packet_decoded_last_ends_the_sum(stamps: list[tuple[int, int, int]], last: int) -> None:
    holder = LastPacket("mp4")
    written = [done for each in stamps for done in holder.ready([packet(*each)])]
    assert len(written) == len(stamps) - 1
    (rest,) = holder.rest()
    assert rest.duration == last
    assert holder.rest() == []


def test_other_containers_do_not_wait() -> None:
    assert "matroska" not in ADDING_UP
    holder, made = LastPacket("matroska"), packet(0, 0, 4)
    assert holder.ready([made]) == [made]
    assert holder.rest() == []
