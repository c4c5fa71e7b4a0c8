"""Whole files: as many frames out as in, counted by decoding the output again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt.benchmarks.suite.clips import moving, write_video
from swiftvr_trt.benchmarks.suite.metrics import figure
from swiftvr_trt.benchmarks.suite.record import Figure, How
from swiftvr_trt.benchmarks.suite.whole_files import file_figures, frame_notes, measure_file

from .lab import order_for, trial_bundle


@pytest.mark.parametrize("side", ["bundle", "torch"])
def test_a_file_is_restored_and_its_frames_are_counted(side: str, mini_checkpoint: Path, tmp_path: Path) -> None:
    order = order_for(trial_bundle(), tmp_path, "file", checkpoint=mini_checkpoint)
    figures = {
        figure.name: figure
        for figure in measure_file(replace(order, subject=replace(order.subject, side=side))).figures
    }
    assert figures["frames_in"].value == figures["frames_out"].value == 12
    assert figures["file_fps"].value == pytest.approx(12 / figures["file_s"].value)
    assert figures["real_time"].value == pytest.approx(12 / 25 / figures["file_s"].value)
    assert figures["rss_bytes"].value > 1e7


def test_the_first_of_several_requests_does_not_count(tmp_path: Path) -> None:
    order = order_for(trial_bundle(), tmp_path, "file")
    figures = measure_file(replace(order, protocol=replace(order.protocol, requests=3))).figures
    assert len(next(figure for figure in figures if figure.name == "file_s").samples) == 2


def test_lost_frames_are_seen(tmp_path: Path) -> None:
    out = tmp_path / "short.mp4"
    write_video(out, moving(9, 32, 48))
    figures = {
        one.name: one.value
        for one in file_figures(order_for(trial_bundle(), tmp_path, "file"), [2.0], out, How.MEASURED)
    }
    assert (figures["frames_in"], figures["frames_out"], figures["file_fps"]) == (12, 9, 4.5)


def test_lost_frames_are_noted() -> None:
    def counted(taken: int, made: int) -> list[Figure]:
        return [
            figure(name, value, How.MEASURED, "trial") for name, value in (("frames_in", taken), ("frames_out", made))
        ]

    assert frame_notes(counted(12, 12)) == ()
    assert frame_notes(counted(12, 9)) == ("12 frames went in, and 9 came out",)
