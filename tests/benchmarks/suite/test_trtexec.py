"""Times of trtexec, in the form in which it writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swiftvr_trt.benchmarks.suite.record import How, read_run
from swiftvr_trt.benchmarks.suite.tables import tables_of
from swiftvr_trt.benchmarks.suite.trtexec import cases_of_traces, record_of
from swiftvr_trt.errors import MisuseError

RUNS = [
    {"startInMs": 0.0, "endInMs": 0.1, "startComputeMs": 0.1, "computeMs": took, "latencyMs": took + 1}
    for took in (4.0, 5.0, 6.0)
]


def test_times_become_a_case(tmp_path: Path) -> None:
    (tmp_path / "decode.json").write_text(json.dumps(RUNS))
    record_of(cases_of_traces([tmp_path / "decode.json"]), ["swiftvr-bench"], tmp_path / "run.json")
    run = read_run(tmp_path / "run.json")
    (case,), (table,) = run.cases, tables_of(run)
    assert table.title == "trtexec"  # an engine by itself has no size
    (times,) = case.figures
    assert (times.name, times.value, times.samples, times.how) == ("imported.decode", 5.0, (4, 5, 6), How.IMPORTED)
    assert case.protocol == "trtexec"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ("[]", "expected a list of 1 to"),
        ('{"a": 1}', "expected a list of 1 to"),
        ('[{"startInMs": 1}]', "a run has no computeMs"),
        ('[{"computeMs": "fast"}]', "runs[0].computeMs is 'fast', expected a number"),
        ('[{"computeMs": 1}], "x": [1', "not valid JSON"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "decode.json").write_text(text)
    with pytest.raises(MisuseError) as caught:
        cases_of_traces([tmp_path / "decode.json"])
    assert words in str(caught.value)


def test_two_files_of_one_name_would_hide_one_another(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match=r"two files of --import are called dit, .*rename one"):
        cases_of_traces([tmp_path / "a" / "dit.json", tmp_path / "b" / "dit.json"])
