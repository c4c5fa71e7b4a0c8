"""The state of a file tells whether it was written to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swiftvr_trt.runtime.media.file_state import state_of


def test_size_and_time_make_the_state(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    path.write_bytes(b"video")
    os.utime(path, ns=(0, 3_000_000_000))
    assert state_of(path) == (5, 3_000_000_000)
    path.write_bytes(b"videos")
    assert state_of(path) != (5, 3_000_000_000)


def test_what_is_no_file_has_no_state(tmp_path: Path) -> None:
    assert state_of(tmp_path) is None
    assert state_of(tmp_path / "missing") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_has_no_state(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert state_of(tmp_path / "pipe") is None
