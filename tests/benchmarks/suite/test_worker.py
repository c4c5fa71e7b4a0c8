"""The process of a case: whatever happens is an answer."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from swiftvr_trt.benchmarks.suite.record import SUITES, from_values
from swiftvr_trt.benchmarks.suite.work import Findings
from swiftvr_trt.benchmarks.suite.worker import MEASURES, answer_to

from .lab import order_for, trial_bundle


def test_every_suite_is_measured() -> None:
    assert set(MEASURES) == set(SUITES)


def test_findings_are_answered(tmp_path: Path) -> None:
    answer = answer_to(asdict(order_for(trial_bundle(), tmp_path, "latency")))
    assert answer["error"] is None
    assert from_values(Findings, answer["findings"], Path("answer")).figures[0].name == "first_frame"


def test_errors_are_answered_in_one_line(tmp_path: Path) -> None:
    order = order_for(trial_bundle(), tmp_path, "core")
    missing = answer_to(asdict(replace(order, bundle=str(tmp_path / "none"))))
    assert missing["misuse"]
    assert "no such directory; expected a bundle" in missing["error"]
    assert "missing, expected CaseOrder" in answer_to({"suite": "core"})["error"]
    assert "internal error: KeyError: 'speed'" in answer_to(asdict(replace(order, suite="speed")))["error"]
