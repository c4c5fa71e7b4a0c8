"""Files that are not videos, and videos that are damaged."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.media import Picture, open_source

from .videos import add_cover, add_tone, make_noise, mux_cover, mux_tone, one_line, read


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"this is no video at all\n" * 50, "cannot be read as a video"), (bytes(5000), "cannot be read")],
)
def test_a_file_that_is_not_a_video_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "in.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=said) as error:
        open_source(tmp_path / "in.mp4")
    assert one_line(error)


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no\.mp4 does not exist") as error:
        open_source(tmp_path / "no.mp4")
    assert one_line(error)


def test_a_file_with_only_sound_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2000), np.int16), format="s16", layout="stereo")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
    with pytest.raises(MediaError, match="no video stream"):
        open_source(tmp_path / "in.wav")


def test_a_file_without_its_index_is_refused(clip: Path) -> None:
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])  # the index of an MP4 is at its end
    with pytest.raises(MediaError, match="complete") as error:
        open_source(clip)
    assert one_line(error)


def test_a_truncated_file_is_read_as_far_as_it_goes_and_reported(tmp_path: Path) -> None:
    path = make_noise(tmp_path / "in.mp4")
    data = path.read_bytes()
    start = data.index(b"moov") - 4
    size = int.from_bytes(data[start : start + 4], "big")
    assert start + size == len(data)
    cut = bytearray(data)
    half = data.index(b"mdat") + 4 + (start - data.index(b"mdat")) // 2
    cut[half:start] = bytes(start - half)  # the second half of the pictures is gone, the index is not
    path.write_bytes(cut)
    with open_source(path) as source:
        items = list(source)
        assert 10 <= len(items) <= 20
        assert any("damaged video packets were skipped" in note for note in source.notes)
        assert source.shortfall == f"the input promises 30 frames, but only {len(items)} could be read"


def test_a_damaged_packet_in_the_middle_does_not_end_the_run(clip: Path) -> None:
    with av.open(str(clip)) as container:
        packets = [(packet.pos, packet.size, packet.pts) for packet in container.demux(video=0) if packet.size]
    data = bytearray(clip.read_bytes())
    position, size, lost = packets[15]
    assert position is not None
    data[position : position + size] = b"\xff" * size
    clip.write_bytes(data)
    items, notes = read(clip)
    stamps = [item.stamp.pts for item in items if isinstance(item, Picture)]
    assert stamps == [pts for _, _, pts in packets if pts != lost]
    assert any("1 damaged video packets" in note for note in notes)


def test_a_file_with_only_a_cover_has_no_video(tmp_path: Path) -> None:
    path = tmp_path / "in.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        add_tone(container)
        add_cover(container, None)
        container.start_encoding()
        mux_cover(container)
        mux_tone(container, 0.2)
    with pytest.raises(MediaError, match="no video stream"):
        open_source(path)
