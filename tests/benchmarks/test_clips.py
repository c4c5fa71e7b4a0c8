"""Clips to measure with, and their agreement."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from benchmarks.clips import moving, psnr, write_video
from swiftvr_trt.runtime.media import Picture, open_source


def test_the_picture_moves_two_pixels_to_the_right_per_frame() -> None:
    first, second, third = moving(3, 20, 30)
    assert first.shape == (20, 30, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(second[:, 2:], first[:, :-2])
    assert np.array_equal(third[:, 4:], first[:, :-4])
    assert np.ptp(first) > 100


def test_agreement_is_measured_against_white() -> None:
    black, white = np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 255, np.uint8)
    assert psnr([black], [white]) == 0
    assert math.isclose(psnr([black, black], [black, white]), 10 * math.log10(2))
    assert math.isclose(psnr([black], [black + np.uint8(1)]), 20 * math.log10(255))
    assert psnr([white], [white]) == math.inf


def test_a_written_video_has_every_frame_in_order(tmp_path: Path) -> None:
    frames = moving(7, 32, 48)
    write_video(tmp_path / "clip.mp4", iter(frames), crf="1")
    with open_source(tmp_path / "clip.mp4") as source:
        found = [item.pixels for item in source if isinstance(item, Picture)]
    assert len(found) == 7
    agreement = np.array([[psnr([ours], [theirs]) for theirs in frames] for ours in found])
    assert agreement.argmax(axis=1).tolist() == list(range(7))
