"""Orders and answers, and what several turns add up to."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from swiftvr_trt.benchmarks.suite.metrics import figure, sampled
from swiftvr_trt.benchmarks.suite.record import How, Subject, from_values
from swiftvr_trt.benchmarks.suite.work import CaseOrder, Findings, joined
from swiftvr_trt.errors import MisuseError

from .lab import TINY


def test_an_order_survives_the_way_to_its_process() -> None:
    subject = Subject("bundle", "mini", "", "fp32", "cpu", "cpu", 96, 64, 8)
    order = CaseOrder("core", subject, TINY, "bundle", "", "clip.mp4", "", "folder", 2, False, 1.5)
    assert from_values(CaseOrder, asdict(order), Path("order")) == order
    wrong = {**asdict(order), "threads": "two"}
    with pytest.raises(MisuseError, match="threads is 'two', expected a whole number"):
        from_values(CaseOrder, wrong, Path("order"))


def test_samples_of_turns_are_kept_apart() -> None:
    turns = [Findings("cpu", (sampled("chunk", values, How.MEASURED, "trial"),)) for values in ([1, 2, 3], [7, 8])]
    (chunk,) = joined(turns).figures
    assert list(chunk.samples) == [1, 2, 3, 7, 8]
    assert list(chunk.groups) == [3, 2]
    assert chunk.value == 3


def test_a_number_per_turn_becomes_samples_and_a_count_stays_a_count() -> None:
    turns = [
        Findings("cpu", (figure("load", load, How.MEASURED, "trial"), figure("frames_in", 20, How.MEASURED, "trial")))
        for load in (1.0, 3.0, 2.0)
    ]
    load, frames = joined(turns).figures
    assert (load.value, load.samples, load.groups) == (2.0, (1.0, 3.0, 2.0), (1, 1, 1))
    assert (frames.value, frames.samples) == (20, ())


def test_figures_that_only_some_turns_have_are_kept() -> None:
    cold = Findings("cpu", (figure("cold_start", 9, How.MEASURED, "trial"),), ("busy",))
    warm = [Findings("cpu", (figure("warm_start", value, How.MEASURED, "trial"),), ("busy",)) for value in (2, 3)]
    found = joined([cold, *warm])
    assert {one.name: one.value for one in found.figures} == {"cold_start": 9, "warm_start": 2.5}
    assert found.notes == ("busy",)
