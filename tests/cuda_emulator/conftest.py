"""A fresh emulator for each of its own tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cuda.core import Device

from . import Emulator, emulated


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A fresh device that must be left clean."""
    with emulated(seed=1) as fresh:
        Device(0).set_current()
        yield fresh


@pytest.fixture
def hostile() -> Iterator[Emulator]:
    """A fresh device for programs that do something wrong."""
    with emulated(seed=1, clean=False) as fresh:
        Device(0).set_current()
        yield fresh
