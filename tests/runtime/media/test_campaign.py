"""Corrupted videos: wherever FFmpeg has a complaint, so do we, and nothing else goes wrong.

SWIFTVR_CORRUPTIONS=300 reads so many; without it, a part. SWIFTVR_CORRUPTION_SEED=7 reads others than usual.
`benchmarks/damage_campaign.py` restores them, too.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks.damage_campaign import corrupted, ffmpeg_complains, write_originals
from swiftvr_trt.errors import SwiftVRError
from swiftvr_trt.runtime.media import Picture, SourceInfo, open_source

COUNT = int(os.environ.get("SWIFTVR_CORRUPTIONS", "36"))
SEED = int(os.environ.get("SWIFTVR_CORRUPTION_SEED", "0"))


def we_complain(path: Path) -> bool:
    """True if reading the file says that something is damaged or missing, or refuses it in one line."""
    try:
        with open_source(path) as source:
            info: SourceInfo = source.info
            for item in source:
                assert not isinstance(item, Picture) or item.pixels.shape == (info.height, info.width, 3)
            return bool(source.damage or source.shortfall)
    except SwiftVRError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return True


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_originals(tmp_path_factory.mktemp("originals"))


def test_intact_files_are_not_complained_about(originals: list[Path]) -> None:
    assert [path.name for path in originals if ffmpeg_complains(path) or we_complain(path)] == []


@pytest.mark.parametrize("number", range(COUNT))
def test_no_damage_that_ffmpeg_reports_is_silent(originals: list[Path], tmp_path: Path, number: int) -> None:
    suffix, data = corrupted(originals, number, seed=SEED)
    path = tmp_path / f"in{suffix}"
    path.write_bytes(data)
    began = time.monotonic()
    ours = we_complain(path)
    assert time.monotonic() - began < 30
    assert ours or not ffmpeg_complains(path)
