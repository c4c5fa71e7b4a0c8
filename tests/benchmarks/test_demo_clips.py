"""The training clips of the demonstration model: how they are damaged, and how batches are cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.demo import data, degrade
from benchmarks.demo.degrade import Noise
from benchmarks.demo.sample import Sampler

_SHAPE = (3, 8, 32)


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
    halved, versions = data.damage(clean, 9)
    again, same = data.damage(clean, 9)
    assert len(versions) == data.VERSIONS
    assert {v.shape for v in versions} == {halved.shape} == {(data.CLIP_FRAMES, 128, 128, 3)}
    np.testing.assert_array_equal(halved, again)
    for ours, theirs in zip(versions, same, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len({v.tobytes() for v in versions}) == data.VERSIONS


def test_batches_are_cut_from_all_versions_and_depend_on_their_number(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.demo.sample._NOISE", 0)
    sampler = Sampler(clips, seed=3)
    seen = set()
    for number in range(20):
        batch = sampler.batch(number, _SHAPE)
        assert torch.equal(batch.damaged, Sampler(clips, seed=3).batch(number, _SHAPE).damaged)
        seen |= {round(255 * float(clip.mean())) for clip in batch.damaged.chunk(_SHAPE[0])}
    assert seen == {110 + version for version in range(data.VERSIONS)}


def test_new_noise_is_on_three_parts_in_four(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.demo.sample._NOISE", 1)
    sampler = Sampler(clips, seed=4)
    spreads = []
    for number in range(40):
        for clip in sampler.batch(number, _SHAPE).damaged.chunk(_SHAPE[0]):
            assert abs(255 * float(clip.mean()) - 100) < 5
            spreads.append(float(clip.std()))
    clean = sum(spread < 1e-4 for spread in spreads) / len(spreads)
    assert 0.12 < clean < 0.4
    assert max(spreads) > 10 / 255


GREY = np.full((6, 64, 64, 3), 128.0, np.float32)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def _noise(noise: Noise, frames: NDArray[np.float32] = GREY) -> NDArray[np.float32]:
    return degrade.add_noise(frames, noise, np.random.default_rng(5)).astype(np.float32) - frames


@pytest.mark.parametrize("strength", [0, 5, 20])
def test_noise_has_the_strength_it_was_asked_for(strength: float) -> None:
    assert _noise(Noise(rgb=strength)).std() == pytest.approx(strength, rel=0.03)
    luma = _noise(Noise(luma=strength))
    assert (luma @ LUMA).std() == pytest.approx(strength, rel=0.03)
    assert np.ptp(luma, axis=3).max() == 0
    blue = _noise(Noise(colour=strength))[..., 2]
    assert blue.std() == pytest.approx(1.772 * strength, rel=0.03)
    assert (_noise(Noise(colour=strength)) @ LUMA).std() < 1


def test_grain_is_shared_by_neighbours_along_its_direction_and_no_weaker() -> None:
    grain = _noise(Noise(luma=20, grain=(1.0, 0.0)))[..., 0]
    assert grain.std() == pytest.approx(20, rel=0.03)
    assert (grain[:, :, 1:] * grain[:, :, :-1]).mean() > 0.5 * 20**2
    assert abs((grain[:, 1:] * grain[:, :-1]).mean()) < 0.1 * 20**2
    assert abs((grain[1:] * grain[:-1]).mean()) < 0.1 * 20**2


def test_coarse_colour_noise_is_equal_within_a_place() -> None:
    blue = _noise(Noise(colour=10, coarse=4))[..., 2].reshape(6, 16, 4, 16, 4)
    assert np.ptp(blue, axis=(2, 4)).max() == 0
    assert blue.std() > 10


def test_light_makes_noise_stronger_where_it_is_bright() -> None:
    noise = Noise(rgb=10, light=1.0)
    dark, bright = (_noise(noise, GREY * share).std() for share in (0.5, 1.5))
    assert dark == pytest.approx(10 * 0.5**0.5, rel=0.05)
    assert bright == pytest.approx(10 * 1.5**0.5, rel=0.05)


def test_drawn_damage_is_clean_for_one_clip_in_four_and_always_of_a_high_bit_rate() -> None:
    drawn = [degrade.draw(np.random.default_rng(number)) for number in range(400)]
    assert 0.17 < sum(d.noise == Noise() for d in drawn) / len(drawn) < 0.33
    assert all(d.crf is not None and 8 <= d.crf <= 20 for d in drawn)
    assert max(max(d.noise.rgb, d.noise.luma) for d in drawn) > 20
