"""Cuts are found where another scene begins, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from swiftvr_trt.engines.bundle.pixel_formats import pixel_format
from swiftvr_trt.runtime.media import Picture, SourceInfo, SourceView, Stamp, open_source
from swiftvr_trt.runtime.media.scenes import SceneDetector, SceneSource
from swiftvr_trt.runtime.stream.frames import FrameForm, Planes

from .videos import EVEN, make_video

Frames = list[np.ndarray]


def scene(seed: int, frames: int, size: tuple[int, int] = (96, 128)) -> Frames:
    """A picture that moves by a pixel per frame, with noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 230, (size[0] // 16, size[1] // 16, 3), np.uint8)
    picture = np.kron(coarse, np.ones((16, 16, 1), np.uint8))
    return [
        np.roll(picture, number, axis=1) + generator.integers(0, 8, picture.shape, np.uint8) for number in range(frames)
    ]


def cuts(frames: Iterable[np.ndarray]) -> list[int]:
    detector = SceneDetector()
    return [number for number, frame in enumerate(frames) if detector.begins(frame)]


def faded(one: Frames, other: Frames) -> Frames:
    parts = np.linspace(0, 1, len(one))
    return [
        (before * (1 - part) + after * part).astype(np.uint8)
        for before, after, part in zip(one, other, parts, strict=True)
    ]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (scene(1, 20), []),
        (scene(1, 7) + scene(2, 9), [7]),
        (scene(1, 7) + scene(2, 9) + scene(3, 2), [7, 16]),
        (faded(scene(1, 40), scene(2, 40)), []),
        ([np.zeros((96, 128, 3), np.uint8)] * 9, []),
        (scene(1, 4, (480, 640)) + scene(2, 4, (480, 640)), [4]),
        (scene(1, 1), []),
    ],
    ids=["one", "two", "three", "fade", "black", "large", "single"],
)
def test_scenes_begin_at_cuts(frames: Frames, expected: list[int]) -> None:
    assert cuts(frames) == expected


@pytest.mark.parametrize("name", ["yuv420p", "nv12", "yuv420p10", "p010"])
def test_cuts_are_found_in_planes(name: str) -> None:
    form = FrameForm(pixel_format(name))
    unit = form.format.unit << (form.format.bits - 8)
    frames = []
    for picture in scene(1, 6) + scene(2, 5):
        planes = Planes.empty(form, *picture.shape[:2])
        planes.data[:] = 0
        np.copyto(planes.luma, picture[..., 1].astype(planes.luma.dtype) * unit)
        frames.append(planes)
    detector = SceneDetector()
    assert [number for number, frame in enumerate(frames) if detector.begins(frame)] == [6]


class FramesSource(SourceView):
    """Pictures from memory, in place of those of a file."""

    def __init__(self, path: Path, frames: Frames) -> None:
        super().__init__(open_source(path))
        self._frames = frames
        self.info: SourceInfo = replace(self.source.info, frames=len(frames))

    def __iter__(self) -> Iterator[Picture]:
        for number, frame in enumerate(self._frames):
            yield Picture(frame, Stamp(number, number, 1, Fraction(1, 25)))


def test_first_pictures_of_scenes_are_marked(tmp_path: Path) -> None:
    frames = scene(1, 5) + scene(2, 6)
    with SceneSource(FramesSource(make_video(tmp_path / "in.mp4", EVEN[:2]), frames)) as source:
        marked = [item for item in source if isinstance(item, Picture)]
    assert [picture.stamp.index for picture in marked if picture.stamp.new_scene] == [5]
    assert source.scenes == 1
    assert all((one.pixels == frame).all() for one, frame in zip(marked, frames, strict=True))
