"""Fixtures of the tests of live runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from swiftvr_trt import Bundle, Restorer
from tests.conftest import BundleFactory


@pytest.fixture(scope="session")
def small_bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle()


@pytest.fixture(scope="module")
def restorer(small_bundle: Bundle) -> Iterator[Restorer]:
    with Restorer.open(small_bundle, threads=1) as opened:
        yield opened
