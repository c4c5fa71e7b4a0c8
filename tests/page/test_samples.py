"""Frames by their numbers, from files of all kinds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.page.samples import SampledFile, spread
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.media.trim import Trim
from tests.clips import write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "in.mp4", 24)


def differences(file: SampledFile, numbers: tuple[int, ...], first: int = 0) -> list[int]:
    """For each sample, which frame of the clip is nearest to it, less the one that was asked for."""
    found = []
    for number, sample in zip(numbers, file.samples(numbers), strict=True):
        height, width = sample.pixels.shape[:2]
        errors = [
            np.abs(sample.pixels.astype(int) - synthetic_frame(n, height, width).astype(int)).mean() for n in range(24)
        ]
        found.append(int(np.argmin(errors)) - first - number)
        assert sample.seconds == pytest.approx(number / 25)
    return found


@pytest.mark.parametrize(
    ("count", "most", "numbers"),
    [(40, 4, (5, 15, 25, 35)), (3, 8, (0, 1, 2)), (1, 8, (0,)), (2, 1, (1,)), (100_000, 2, (25_000, 75_000))],
)
def test_samples_are_spread_evenly(count: int, most: int, numbers: tuple[int, ...]) -> None:
    assert spread(count, most) == numbers


def test_frames_are_found_by_their_numbers(clip: Path) -> None:
    with SampledFile(clip) as file:
        assert file.within_reach is None
        assert differences(file, (0, 7, 23)) == [0, 0, 0]


def test_numbers_count_from_the_beginning_of_a_part(clip: Path) -> None:
    with SampledFile(clip, trim=Trim(start=Fraction(1, 5))) as file:
        assert differences(file, (0, 7), first=5) == [0, 0]


def test_a_filtered_video_is_read_in_order_and_not_for_ever(clip: Path) -> None:
    with SampledFile(clip, options=SourceOptions(vf="negate,negate")) as file:
        assert file.within_reach == 1500
        assert differences(file, (2, 9)) == [0, 0]


def test_numbers_behind_the_end_give_nothing(clip: Path) -> None:
    with SampledFile(clip) as file:
        assert len(list(file.samples((23, 24, 99)))) == 1


def test_images_are_opened_one_by_one(tmp_path: Path) -> None:
    for number in range(3):
        picture = av.VideoFrame.from_ndarray(np.full((8, 10, 3), 50 * number, np.uint8), format="rgb24")
        with av.open(tmp_path / f"shot{number}.png", "w", format="image2") as container:
            stream = container.add_stream("png", rate=1)
            stream.width, stream.height, stream.pix_fmt = 10, 8, "rgb24"
            container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    with SampledFile(tmp_path, rate=Fraction(10)) as file:
        found = [(sample.name, sample.seconds, int(sample.pixels[0, 0, 0])) for sample in file.samples((0, 2, 5))]
    assert found == [("shot0.png", 0, 0), ("shot2.png", 0.2, 100)]
