"""`--hwaccel`: what can be known of it without a GPU. What a GPU makes of it is in tests/gpu."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.devices.driver import has_driver
from swiftvr_trt.runtime.media import Picture, SinkOptions, open_sink, open_source
from swiftvr_trt.runtime.media.hardware import ffmpeg_errors, first_error, nvdec, nvenc
from tests.clips import write_clip

without_driver = pytest.mark.skipif(has_driver(), reason="this machine has a driver")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "in.mp4")


def pixels(path: Path, gpu: int | None) -> list[np.ndarray]:
    with open_source(path, gpu=gpu) as source:
        return [item.pixels for item in source if isinstance(item, Picture)]


def test_each_software_encoder_has_its_counterpart() -> None:
    """As far as this FFmpeg has them; lossless and professional formats have none."""
    for encoder, expected in (("libx264", "h264_nvenc"), ("libx265", "hevc_nvenc"), ("libsvtav1", "av1_nvenc")):
        found = nvenc(encoder)
        if expected in av.codecs_available:
            assert found is not None
            assert found.name == expected
        else:
            assert found is None
    assert nvenc("ffv1") is None


def test_frames_come_down_to_the_host() -> None:
    settings = nvdec(2)
    assert (settings.device_id, settings.is_hw_owned) == (2, False)


@without_driver
def test_decoding_falls_back_to_software_and_says_why(clip: Path) -> None:
    with open_source(clip, gpu=0) as source:
        (note,) = source.notes
    assert note.startswith("decoding in software, not on the GPU: ")
    assert "\n" not in note
    assert np.array_equal(pixels(clip, 0), pixels(clip, None))


@without_driver
@pytest.mark.parametrize(("codec", "used"), [(None, "libx264"), ("hevc", "libx265"), ("libx264", "libx264")])
def test_encoding_falls_back_to_software_and_says_why(clip: Path, tmp_path: Path, codec: str | None, used: str) -> None:
    for name, gpu in (("soft.mkv", None), ("hard.mkv", 0)):
        options = SinkOptions(codec=codec, crf=0, gpu=gpu)  # without loss, since x264 is not the same each time
        with open_source(clip) as source, open_sink(tmp_path / name, source.info, 56, 34, options) as sink:
            notes = [note for note in sink.notes if "GPU" in note]
            for item in source:
                sink.write(item)
            sink.commit()
        assert len(notes) == (gpu is not None)
        assert all(note.startswith(f"encoding in software with {used}, not on the GPU: ") for note in notes)
        assert "\n" not in "".join(notes)
    if used == "libx264":
        assert np.array_equal(pixels(tmp_path / "soft.mkv", None), pixels(tmp_path / "hard.mkv", None))


@without_driver
def test_what_the_gpu_never_encodes_needs_no_excuse(clip: Path, tmp_path: Path) -> None:
    with (
        open_source(clip) as source,
        open_sink(tmp_path / "o.mkv", source.info, 56, 34, SinkOptions(codec="ffv1", gpu=0)) as sink,
    ):
        assert sink.notes == ()
        assert sink.description.startswith("ffv1")


def test_a_damaged_file_is_blamed_and_not_the_gpu(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_bytes(b"no video " * 500)
    with pytest.raises(MediaError, match="cannot be read as a video"):
        open_source(tmp_path / "in.mp4", gpu=0)


def test_a_bad_option_is_blamed_and_not_the_gpu(clip: Path, tmp_path: Path) -> None:
    with open_source(clip) as source, pytest.raises(MediaError, match="crf is 60, expected 0 to 51 for libx264"):
        open_sink(tmp_path / "o.mp4", source.info, 56, 34, SinkOptions(crf=60, gpu=0))
    assert list(tmp_path.iterdir()) == []


def test_reasons_are_one_line_in_the_words_of_ffmpeg() -> None:
    assert first_error(["Cannot load libcuda.so.1\n (twice)"], OSError(1, "Operation not permitted")) == (
        "Cannot load libcuda.so.1"
    )
    assert first_error([], OSError(1, "Operation not permitted")) == "Operation not permitted"
    before = av.logging.get_level()
    with ffmpeg_errors() as said:
        pass
    assert (said, av.logging.get_level()) == ([], before)


def test_nothing_of_it_is_imported_before_it_is_wanted() -> None:
    code = "import sys, swiftvr_trt.runtime.media.hardware; print('av' in sys.modules, 'cuda' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
