"""A restorer that all tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from swiftvr_trt import (
    Restorer,
)
from tests.conftest import BundleFactory


@pytest.fixture(scope="module")
def restorer(mini_bundle: BundleFactory) -> Iterator[Restorer]:
    with Restorer.open(mini_bundle(), threads=1) as opened:
        yield opened
