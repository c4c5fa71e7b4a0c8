"""Fixtures of the tests of `runtime`."""

from __future__ import annotations

import gc

import pytest

from swiftvr_trt import Restorer
from tests.conftest import BundleFactory
from tests.runtime.devices.cuda_lab import Lab
from tests.runtime.devices.fake_trt import write_engine_bundle

from .clips import CLIP_LEN, CLIPS, OUT, clip


@pytest.fixture(scope="session")
def made_lab(tmp_path_factory: pytest.TempPathFactory, mini_bundle: BundleFactory) -> Lab:
    """Made once: the process with the emulator ends all other fixtures with each test."""
    graphs = mini_bundle(OUT[1], OUT[0], CLIP_LEN)
    with Restorer.open(graphs, threads=1) as restorer:
        expected = {name: list(restorer.restore(clip(name))) for name in CLIPS}
    return Lab(write_engine_bundle(tmp_path_factory.mktemp("engines") / "bundle", graphs), expected)


@pytest.fixture
def lab(made_lab: Lab) -> Lab:
    gc.collect()
    gc.freeze()  # what is loaded by now stays; collecting after each of many runs is quick then
    return made_lab
