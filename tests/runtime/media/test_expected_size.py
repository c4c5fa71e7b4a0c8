"""Bounds on the size of an output, against what encoders write."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.runtime.media.base import OutputForm, Picture, SinkOptions, Stamp
from swiftvr_trt.runtime.media.codecs import quality_of
from swiftvr_trt.runtime.media.expected_size import expected_bytes
from swiftvr_trt.runtime.media.opening import open_sink, open_source
from tests.clips import write_clip

WIDTH, HEIGHT, FRAMES = 640, 360, 12


def written(clip: Path, out: Path, options: SinkOptions, grain: float) -> tuple[OutputForm, int]:
    """Encode moving pictures with some grain. Returns the form and the size of the file."""
    noise = np.random.default_rng(0)
    with open_source(clip) as source, open_sink(out, source.info, WIDTH, HEIGHT, options) as sink:
        for index in range(FRAMES):
            frame = synthetic_frame(index, HEIGHT, WIDTH) + noise.normal(0, grain, (HEIGHT, WIDTH, 1))
            pixels = np.clip(frame, 0, 255).astype(np.uint8)
            sink.write(Picture(pixels, Stamp(index, index * 512, 512, source.info.time_base)))
        form = sink.form
        sink.commit()
    return form, out.stat().st_size


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.mp4", SinkOptions()),
        ("out.mp4", SinkOptions(crf=30)),
        ("out.mp4", SinkOptions(crf=8)),
        ("out.mkv", SinkOptions(codec="libx265")),
        ("out.mkv", SinkOptions(codec="ffv1")),
        ("out.mkv", SinkOptions(codec="mjpeg")),
    ],
)
def test_encoders_stay_within_the_bounds(tmp_path: Path, name: str, options: SinkOptions) -> None:
    clip = write_clip(tmp_path / "in.mp4")
    form, size = written(clip, tmp_path / name, options, grain=1.5)
    low, high = expected_bytes(form, WIDTH * HEIGHT * FRAMES)
    assert low < size < high, (form, size, low, high)


def test_better_quality_is_larger_and_never_larger_than_raw() -> None:
    def high(crf: int) -> int:
        return expected_bytes(OutputForm("mp4", "libx264", "yuv420p", crf), 8000)[1]

    assert high(18) == 2 * high(24)
    assert high(12) == 2 * high(18)
    assert high(0) <= 3 * 8000
    assert expected_bytes(OutputForm("images", "png", "rgb24"), 8000)[1] == 3 * 8000


def test_the_quality_of_an_encoder_without_one_is_not_made_up() -> None:
    assert quality_of("ffv1", None) is None
    assert (quality_of("libx264", None), quality_of("libx264", 25)) == (18, 25)
    assert av.codec.Codec("libx264", "w").name == "libx264"
