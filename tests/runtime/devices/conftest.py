"""Fixtures of the tests of devices."""

from __future__ import annotations

import pytest

from swiftvr_trt import Bundle
from tests.conftest import BundleFactory

from .fake_trt import write_engine_bundle


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory, mini_bundle: BundleFactory) -> Bundle:
    """A bundle of engines for an RTX 5090 that only `FakeTensorRT` can load."""
    return write_engine_bundle(tmp_path_factory.mktemp("engines") / "bundle", mini_bundle())
