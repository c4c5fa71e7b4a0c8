"""Containers that take streams which PyAV would refuse."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest

from swiftvr_trt.runtime.media.holding import add_copy, is_taken_if_passed_on
from swiftvr_trt.runtime.media.muxer import format_name_of, is_passed_on, open_muxer, plain
from swiftvr_trt.runtime.media.opening import open_source

from .test_holding import make_sound


def test_a_container_behind_tee_is_called_by_its_own_name() -> None:
    passed_on = open_muxer(io.BytesIO(), "matroska", passed_on=True)
    assert is_passed_on(passed_on)
    assert format_name_of(passed_on) == "matroska"
    assert "h264" in plain(passed_on).supported_codecs
    usual = open_muxer(io.BytesIO(), "mp4")
    assert not is_passed_on(usual)
    assert plain(usual) is usual
    assert format_name_of(usual) == "mp4"


def test_matroska_takes_the_sound_of_avi_files(tmp_path: Path) -> None:
    with open_source(make_sound(tmp_path / "in.avi", "adpcm_ms")) as source:
        (sound,) = source.info.copies
        assert is_taken_if_passed_on("matroska", sound)
        assert not is_taken_if_passed_on("mp4", sound)
        with pytest.raises(ValueError, match="does not support"):
            add_copy(av.open(io.BytesIO(), "w", format="matroska"), sound)
