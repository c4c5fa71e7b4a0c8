"""What headers promise, and what of it is there: files that start late, end early or show less than they hold."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from swiftvr_trt.runtime.media import Picture, open_source

from .videos import STEP, make_video, mux_tone


def clip(path: Path, begin: float = 0.0, end: float = 99.0) -> Path:
    """Two seconds of picture and sound whose clock begins at `begin` seconds; packets after `end` seconds are lost."""

    def sound(container: Any, _: Any) -> None:
        container.add_stream("aac", rate=48000)

    whole = make_video(
        path.with_suffix(".whole.nut"),
        [STEP * index for index in range(50)],
        prepare=sound,
        extra=lambda container: mux_tone(container, 2.0),
        bf="0",
    )
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size and packet.pts is not None and packet.dts is not None and packet.time_base is not None:
                if packet.pts * packet.time_base >= end:
                    continue
                ticks = round(Fraction(begin) / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    return path


def read(path: Path) -> tuple[int, float, str | None]:
    """How many pictures a video has, when the first one is shown, and what is missing."""
    with open_source(path) as source:
        stamps = [item.stamp for item in source if isinstance(item, Picture)]
    return len(stamps), float(stamps[0].pts * stamps[0].time_base), source.shortfall


@pytest.mark.parametrize("begin", [0.0, 5.0, 3600.0])
@pytest.mark.parametrize("suffix", [".mkv", ".nut", ".flv", ".mov", ".mp4", ".ts"])
def test_a_file_that_starts_late_is_complete_and_starts_at_0(tmp_path: Path, suffix: str, begin: float) -> None:
    frames, first, shortfall = read(clip(tmp_path / f"in{suffix}", begin))
    assert (frames, shortfall) == (50, None)
    assert first < 0.1


@pytest.mark.parametrize("begin", [0.0, 5.0])
@pytest.mark.parametrize("kept", [0.5, 0.9])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_copy_that_was_cut_short_is_not_complete(tmp_path: Path, suffix: str, kept: float, begin: float) -> None:
    path = clip(tmp_path / f"in{suffix}", begin)
    data = path.read_bytes()
    if suffix == ".mp4":  # its index lies at the end: lose data before it
        moov = data.index(b"moov") - 4
        lost = int(moov * (1 - kept))
        path.write_bytes(data[: moov - lost] + bytes(lost) + data[moov:])
    else:
        path.write_bytes(data[: int(len(data) * kept)])
    frames, _, shortfall = read(path)
    assert frames <= 50
    assert shortfall is not None


@pytest.mark.parametrize(
    ("first", "count"), [(20, 9), (30, 16), (21, 160)], ids=["a little", "a multiple of 16 packets", "most of it"]
)
def test_sound_that_is_missing_in_the_middle_of_a_recording_is_said(tmp_path: Path, first: int, count: int) -> None:
    path = clip(tmp_path / "in.ts")
    data = path.read_bytes()
    packets = [data[place : place + 188] for place in range(0, len(data), 188)]
    sound = [number for number, packet in enumerate(packets) if (packet[1] & 31) << 8 | packet[2] == 257]
    lost = set(sound[first : min(first + count, len(sound) - 8)])
    path.write_bytes(b"".join(packet for number, packet in enumerate(packets) if number not in lost))
    with open_source(path) as source:
        assert sum(isinstance(item, Picture) for item in source) == 50
    assert any(" s of audio stream 1 are missing in the input" in line for line in source.damage)


def test_video_that_is_missing_in_the_middle_of_a_recording_is_measured(tmp_path: Path) -> None:
    path = clip(tmp_path / "in.ts")
    data = path.read_bytes()
    packets = [data[place : place + 188] for place in range(0, len(data), 188)]
    video = [number for number, packet in enumerate(packets) if (packet[1] & 31) << 8 | packet[2] == 256]
    starts = [number for number in video if packets[number][1] & 64]
    lost = {number for number in video if starts[20] <= number < starts[30]}
    path.write_bytes(b"".join(packet for number, packet in enumerate(packets) if number not in lost))
    with open_source(path) as source:
        frames = sum(isinstance(item, Picture) for item in source)
    assert frames < 50
    assert any(line.startswith("0.40 s of the video are missing in the input, at 0.8") for line in source.damage)
    assert (source.shortfall or "").startswith("frames are missing in the input: 0.40 s, at ")


def test_an_intact_recording_has_no_gaps(tmp_path: Path) -> None:
    with open_source(clip(tmp_path / "in.ts")) as source:
        assert sum(isinstance(item, Picture) for item in source) == 50
    assert source.damage == ()
