"""Packets on disk come back as they were, and anything else is noticed."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt import OutputError
from swiftvr_trt.engines.bundle.files import sha256
from swiftvr_trt.runtime.media.picture_encoder import EncodedPicture
from swiftvr_trt.runtime.restore.segments.packets import PacketWriter, read_packets

ticks = st.integers(-(1 << 62), 1 << 62)
data = st.binary(max_size=50)
pictures = st.builds(EncodedPicture, data, ticks, ticks, ticks, st.booleans(), data)


def written(path: Path, packets: list[EncodedPicture]) -> PacketWriter:
    writer = PacketWriter(path, path)
    for packet in packets:
        writer.write(packet)
    return writer


@given(packets=st.lists(pictures, max_size=5))
def test_packets_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, packets: list[EncodedPicture]
) -> None:
    path = tmp_path_factory.mktemp("packets") / "p"
    writer = written(path, packets)
    assert writer.finish() == sha256(path)
    assert (writer.packets, writer.size) == (len(packets), path.stat().st_size)
    assert list(read_packets(path)) == packets


def test_a_discarded_file_is_gone_and_a_finished_one_stays(tmp_path: Path) -> None:
    one = written(tmp_path / "one", [])
    other = written(tmp_path / "other", [])
    one.discard()
    other.finish()
    other.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_file_that_was_cut_or_is_another_is_noticed(tmp_path: Path) -> None:
    packets = [EncodedPicture(b"abc", 1, 2, 3, True), EncodedPicture(b"defgh", 4, 5, 6, False, b"ij")]
    written(tmp_path / "whole", packets).finish()
    data = (tmp_path / "whole").read_bytes()
    for length in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:length])
        if length in (8, 8 + 32 + 3):  # a cut between packets cannot be seen here; the digest tells
            continue
        with pytest.raises(ValueError, match=r"it ends within a packet|does not begin like"):
            list(read_packets(tmp_path / "cut"))
    (tmp_path / "huge").write_bytes(data[:8] + b"\xff" * 32)
    with pytest.raises(ValueError, match="it ends within a packet"):
        list(read_packets(tmp_path / "huge"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named_with_the_output(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    writer = PacketWriter(full, tmp_path / "out.mp4")
    with pytest.raises(OutputError, match=r"cannot write .*out\.mp4") as error:
        writer.write(EncodedPicture(bytes(1 << 21), 0, 0, 0, True))
    cause = error.value.__cause__
    assert isinstance(cause, OSError)
    assert cause.errno == errno.ENOSPC
    writer.discard()
    assert list(tmp_path.iterdir()) == []
