"""Fixtures of the tests of `engines.compile`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.graphs import graph, node, ones, save


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """[T, 16] x [16, 8]."""
    return save(graph([node("MatMul", "x w", "y")], {"x": ("T", 16)}, "y", {"w": ones(16, 8)}), tmp_path / "m.onnx")
