"""Which bundle of the cache serves a request."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.runtime.restore.selection import BundleRequest, find_or_build_bundle
from tests.engines.fakes import RECIPE, write_fake_bundle

FP8 = replace(RECIPE, precision="fp8", target="rtx5090")


def stored(cache: Path, calibration: str, *, seconds: int, checkpoint: str = RECIPE.checkpoint) -> Bundle:
    """A bundle in the cache that was built `seconds` after another time."""
    recipe = replace(FP8, calibration=calibration * 64, checkpoint=checkpoint)
    bundle = write_fake_bundle(BundleCache(cache).path(recipe), recipe)
    os.utime(bundle.path / "manifest.json", (1e9 + seconds, 1e9 + seconds))
    return bundle


def request(cache: Path) -> BundleRequest:
    return BundleRequest(cache=cache, precision="fp8", target="rtx5090", clip_len=RECIPE.clip_len)


def test_of_several_calibrations_the_latest_serves(tmp_path: Path) -> None:
    latest = stored(tmp_path, "b", seconds=2)
    stored(tmp_path, "a", seconds=1)
    assert find_or_build_bundle(request(tmp_path), RECIPE.resolution, print).path == latest.path


def test_of_several_checkpoints_none_is_guessed(tmp_path: Path) -> None:
    stored(tmp_path, "a", seconds=1)
    stored(tmp_path, "a", seconds=2, checkpoint="d" * 64)
    with pytest.raises(MisuseError, match="bundles of several checkpoints fit"):
        find_or_build_bundle(request(tmp_path), RECIPE.resolution, print)
