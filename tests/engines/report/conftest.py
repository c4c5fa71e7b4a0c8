"""A bundle of engines for the tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftvr_trt.engines.bundle.files import Bundle

from .compiled import write_compiled_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_compiled_bundle(tmp_path / "bundle")
