"""Packets of transport streams that are missing, by their counters: packets by hand, and a video that lost frames."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from swiftvr_trt.runtime.media import open_source
from swiftvr_trt.runtime.media.ts_continuity import is_torn, is_torn_between, tear_finder
from swiftvr_trt.runtime.media.video_in import VideoSource

from .videos import EVEN, make_video

VIDEO, OTHER = 256, 257


def packet(counter: int, pid: int = VIDEO, *, payload: bool = True, announced: bool = False) -> bytes:
    """A packet of 188 bytes. announced: it says that the counter does not go on."""
    adapted = announced or not payload
    head = bytes([0x47, pid >> 8, pid & 255, counter & 15 | payload << 4 | adapted << 5])
    return (head + bytes([1, announced << 7] if adapted else [])).ljust(188, b"\xff")


WHOLE = [packet(counter) for counter in range(14, 20)]  # round the end of the counter


@pytest.mark.parametrize(
    ("packets", "torn"),
    [
        (WHOLE, False),
        ([*WHOLE[:3], *WHOLE[4:]], True),
        ([*WHOLE[:3], WHOLE[2], *WHOLE[3:]], False),  # sent again
        ([packet(1), packet(9, OTHER), packet(2), packet(3, OTHER), packet(3)], False),
        ([packet(1), packet(9, OTHER), packet(3)], True),
        ([packet(1), packet(1, payload=False), packet(2)], False),
        ([packet(1), packet(2, payload=False), packet(2)], True),
        ([packet(1), packet(7, announced=True), packet(8)], False),
        ([packet(1), bytes(188), packet(2)], True),  # damaged
        ([packet(1), packet(3, OTHER)], False),  # not of one stream: nothing is known
        ([packet(1), bytes(188)], False),
    ],
)
@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b"\x12\x34\x56\x78", b""), (b"", bytes(16))])
def test_counters_by_hand(packets: list[bytes], torn: bool, before: bytes, after: bytes, tmp_path: Path) -> None:
    """In packets of 188 and 192 bytes, and in those of 204, before which FFmpeg's positions lie."""
    begin, stride = (188 - 16 if after else 0), 188 + len(before) + len(after)
    data = (bytes(188) if after else b"") + b"".join(before + each + after for each in packets)
    last = (len(packets) - 1) * stride
    assert is_torn(data[begin:], last) is torn
    (tmp_path / "in.ts").write_bytes(data)
    assert is_torn_between(tmp_path / "in.ts", begin, begin + last) is torn


def test_what_cannot_be_told_is_not_torn(tmp_path: Path) -> None:
    (tmp_path / "in.ts").write_bytes(b"".join(WHOLE[::2]))
    assert is_torn_between(tmp_path / "in.ts", 0, 188)
    for begin, end in ((188, 0), (-1, 188), (0, 1 << 30), (0, 188 * 9)):
        assert not is_torn_between(tmp_path / "in.ts", begin, end)
    assert not is_torn_between(tmp_path / "no.ts", 0, 188)
    assert tear_finder(tmp_path / "in.mp4", "mov,mp4") is None


def test_frames_that_are_lost_whole_are_missed(tmp_path: Path) -> None:
    """Two frames of one packet each. FFmpeg says nothing of them."""
    clip = make_video(tmp_path / "in.ts", EVEN)
    with av.open(str(clip)) as container:
        places = [each.pos for each in container.demux(video=0) if each.size]
    data = bytearray(clip.read_bytes())
    for at in range((places[12] or 0) + 20, places[14] or 0):
        data[at] ^= 0x55
    clip.write_bytes(data)
    with open_source(clip) as source:
        for _ in source:
            pass
        assert isinstance(source, VideoSource)
        assert len(source.holes) == 1
        assert "frames are missing in the input: 0.08 s, at 0.40 s" in (source.shortfall or "")
