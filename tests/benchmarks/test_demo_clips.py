"""The training clips of the demonstration model: how they are damaged, and how batches are cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.demo import data, degrade
from benchmarks.demo.sample import Sampler

_SHAPE = (3, 8, 32)
_NO_JPEG = 9
"""The number of a clip that needs no Pillow, which the tests do not install."""


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips with grey pictures. Each damaged version has its own brightness."""
    for number in range(2):
        grey = np.full((data.CLIP_FRAMES, 64, 64, 3), 100, np.uint8)
        for version in range(data.VERSIONS):
            high, middle, low = data.paths_of(tmp_path, number, version)
            np.save(low, grey[:, ::2, ::2] + np.uint8(10 + version))
        np.save(high, grey)
        np.save(middle, grey[:, ::2, ::2])
    return tmp_path


def test_damage_depends_on_the_number_of_the_clip_and_differs_between_versions() -> None:
    rng = np.random.default_rng(1)
    clean = np.repeat(rng.integers(0, 255, (1, 256, 256, 3), dtype=np.uint8), data.CLIP_FRAMES, axis=0)
    halved, versions = data.damage(clean, _NO_JPEG)
    again, same = data.damage(clean, _NO_JPEG)
    assert len(versions) == data.VERSIONS
    assert {v.shape for v in versions} == {halved.shape} == {(data.CLIP_FRAMES, 128, 128, 3)}
    np.testing.assert_array_equal(halved, again)
    for ours, theirs in zip(versions, same, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len({v.tobytes() for v in versions}) == data.VERSIONS


def test_batches_are_cut_from_all_versions_and_depend_on_their_number(clips: Path) -> None:
    sampler = Sampler(clips, seed=3)
    seen = set()
    for step in range(20):
        batch = sampler.batch(step, [_SHAPE])
        assert torch.equal(batch.damaged, Sampler(clips, seed=3).batch(step, [_SHAPE]).damaged)
        assert sum(batch.cuts) == _SHAPE[1] // 4
        seen |= {round(255 * float(clip.mean())) for clip in batch.damaged.chunk(_SHAPE[0])}
    assert seen == {110 + version for version in range(data.VERSIONS)}


def test_plain_noise_is_on_three_clips_in_four(clips: Path) -> None:
    sampler = Sampler(clips, seed=4)
    spreads = []
    for step in range(40):
        for clip in sampler.batch(step, [_SHAPE], noise=True).damaged.chunk(_SHAPE[0]):
            assert abs(255 * float(clip.mean()) - 100) < 1
            spreads.append(float(clip.std()))
    clean = sum(spread < 1e-4 for spread in spreads) / len(spreads)
    assert 0.12 < clean < 0.4
    assert max(spreads) > 4 / 255


def test_a_nearly_clean_damage_has_no_noise() -> None:
    drawn = [degrade.draw(np.random.default_rng(number)) for number in range(200)]
    clean = [d for d in drawn if d.codec is None]
    assert clean
    assert all(d.noise == d.shot_noise == d.blur == 0 and d.jpeg is None for d in clean)
