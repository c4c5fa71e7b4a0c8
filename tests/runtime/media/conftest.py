"""Videos that several tests of media read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clips import write_clip

from .videos import make_noise


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """30 frames of noise, 64x48, without sound: the only file in `tmp_path`."""
    return make_noise(tmp_path / "in.mp4")


@pytest.fixture(scope="session")
def sound_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames, 56x34, with sound."""
    return write_clip(tmp_path_factory.mktemp("clip") / "in.mp4")
