"""Clips to measure with."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from swiftvr_trt.benchmarks.suite.clips import (
    SAMPLE_CLIP,
    moving,
    obtain_clip,
    read_frames,
    write_lossless,
    write_video,
)
from swiftvr_trt.benchmarks.suite.likeness import psnr
from swiftvr_trt.benchmarks.suite.protocols import PROTOCOLS
from swiftvr_trt.runtime.media import Picture, open_source


def test_the_picture_moves_two_pixels_to_the_right_per_frame() -> None:
    first, second, third = moving(3, 20, 30)
    assert first.shape == (20, 30, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(second[:, 2:], first[:, :-2])
    assert np.array_equal(third[:, 4:], first[:, :-4])
    assert np.ptp(first) > 100


def test_a_written_video_has_every_frame_in_order(tmp_path: Path) -> None:
    frames = moving(7, 32, 48)
    write_video(tmp_path / "clip.mp4", iter(frames), crf="1")
    with open_source(tmp_path / "clip.mp4") as source:
        found = [item.pixels for item in source if isinstance(item, Picture)]
    assert len(found) == 7
    agreement = np.array([[psnr([ours], [theirs]) for theirs in frames] for ours in found])
    assert agreement.argmax(axis=1).tolist() == list(range(7))


def test_the_same_protocol_always_has_the_same_clip(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (path, clip), (_, again) = (obtain_clip(PROTOCOLS["trial"], tmp_path / name) for name in "ab")
    assert clip == again
    assert (clip.width, clip.height, clip.frames, clip.frame_rate) == (48, 32, 20, 25.0)
    assert clip.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(read_frames(path, 7)) == 7


def test_a_clip_of_your_own_takes_its_place(tmp_path: Path) -> None:
    own = tmp_path / "own.mp4"
    write_video(own, moving(5, 32, 48))
    path, clip = obtain_clip(PROTOCOLS["trial"], tmp_path, own)
    assert (path, clip.name, clip.frames) == (own, "own", 5)


def test_the_sample_is_a_clip() -> None:
    path, clip = obtain_clip(PROTOCOLS["quick"], Path("unused"))
    assert path == SAMPLE_CLIP
    assert (clip.width, clip.height, clip.frames) == (320, 180, 20)


def test_lossless_is_lossless_but_for_the_colour_space(tmp_path: Path) -> None:
    frames = moving(3, 32, 48)
    write_lossless(tmp_path / "clip.mkv", frames)
    assert psnr(read_frames(tmp_path / "clip.mkv", 9), frames) > 40
