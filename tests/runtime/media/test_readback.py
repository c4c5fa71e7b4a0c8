"""What was written is counted again before it gets its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftvr_trt.errors import OutputError
from swiftvr_trt.runtime.media import SinkOptions, open_sink, open_source, video_out
from swiftvr_trt.runtime.media.readback import check_output, count_shown

from .videos import EVEN, make_noise, make_video, names, one_line, remux, times, transcode


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".nut", ".flv", ".wmv", ".ts", ".3gp"])
def test_every_frame_of_an_output_is_found_again(tmp_path: Path, suffix: str) -> None:
    transcode(make_noise(tmp_path / "in.mkv"), tmp_path / f"out{suffix}")
    assert count_shown(tmp_path / f"out{suffix}") == 30


def test_frames_that_an_edit_list_hides_are_missed(tmp_path: Path) -> None:
    path = remux(make_video(tmp_path / "in.mkv", EVEN), tmp_path / "out.mp4")
    assert count_shown(path) == len(EVEN)
    with pytest.raises(OutputError, match=r"out\.mp4 shows only 30 of the 31 frames") as error:
        check_output(path, path, 31)
    assert one_line(error)


def test_an_output_that_cannot_be_read_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_noise(tmp_path / "in.mkv")
    monkeypatch.setattr(video_out, "check_output", lambda file, name, count: check_output(file, name, count + 1))
    with open_source(clip) as source, open_sink(tmp_path / "out.mkv", source.info, 64, 48) as sink:
        for item in source:
            sink.write(item)
        with pytest.raises(OutputError, match="shows only 30 of the 31"):
            sink.commit()
    assert names(tmp_path) == ["in.mkv"]
    (tmp_path / "part.mkv").write_bytes(b"no video")
    with pytest.raises(OutputError, match="cannot be read back") as error:
        check_output(tmp_path / "part.mkv", tmp_path / "out.mkv", 1)
    assert one_line(error)


@pytest.mark.parametrize("begin", [59857 * 90000, (1 << 33) - 8 * 3600], ids=["late", "wrap"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_an_output_begins_at_zero_wherever_the_clock_of_a_recording_starts(
    tmp_path: Path, begin: int, suffix: str
) -> None:
    clip = make_video(tmp_path / "in.ts", [begin + moment for moment in EVEN])
    transcode(clip, tmp_path / f"out{suffix}", options=SinkOptions(crf=30))
    found = times(tmp_path / f"out{suffix}")
    assert (len(found), float(found[0])) == (30, 0.0)
    assert abs(found[-1] - 29 / 25) < 0.002
