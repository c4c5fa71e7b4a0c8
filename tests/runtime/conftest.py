"""Fixtures of the tests of `runtime`."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from swiftvr_trt import Restorer
from tests.conftest import BundleFactory
from tests.runtime.devices.cuda_lab import Lab
from tests.runtime.devices.fake_trt import write_engine_bundle

from .clips import CLIP_LEN, CLIPS, OUT, clip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, mini_bundle: BundleFactory) -> Iterator[Lab]:
    graphs = mini_bundle(OUT[1], OUT[0], CLIP_LEN)
    with Restorer.open(graphs, threads=1) as restorer:
        expected = {name: list(restorer.restore(clip(name))) for name in CLIPS}
    gc.collect()
    gc.freeze()  # what is loaded by now stays; collecting after each of many runs is quick then
    yield Lab(write_engine_bundle(tmp_path_factory.mktemp("engines") / "bundle", graphs), expected)
    gc.unfreeze()
