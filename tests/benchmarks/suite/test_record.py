"""Records: what is written is read again, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt.benchmarks.suite.record import How, State, from_values, read_run, run_to_json, write_run
from swiftvr_trt.errors import MisuseError, OutputError

from .sample import JSON, sample_run


def test_a_record_survives_a_file(tmp_path: Path) -> None:
    run = sample_run(tmp_path)
    write_run(run, tmp_path / "run.json")
    assert read_run(tmp_path / "run.json") == run
    assert not list(tmp_path.glob("*.part"))


def test_the_sample_is_up_to_date(tmp_path: Path) -> None:
    """`python -m tests.benchmarks.suite.sample` writes it."""
    assert json.loads(JSON.read_text(encoding="utf-8")) == json.loads(run_to_json(sample_run(tmp_path)))


def test_a_record_from_before_a_field_was_added_is_read(tmp_path: Path) -> None:
    run = json.loads(JSON.read_text(encoding="utf-8"))
    for case in run["cases"]:
        assert case["subject"].pop("options") == ""
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert read_run(tmp_path / "run.json") == read_run(JSON)


def test_every_figure_says_how_it_was_obtained() -> None:
    figures = [figure for case in read_run(JSON).cases for figure in case.figures]
    assert {figure.how for figure in figures} >= {How.MEASURED, How.COMPILED, How.PROJECTED}
    assert all(figure.protocol and figure.scope for figure in figures)


def _without(name: str) -> Any:
    return lambda run: run.pop(name)


def _set(name: str, value: object) -> Any:
    return lambda run: run.update({name: value})


def _in_figure(name: str, value: object) -> Any:
    return lambda run: run["cases"][0]["figures"][0].update({name: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("host"), "host is missing"),
        (_without("format"), "format is missing, expected 1"),
        (_set("format", 2), "format is 2, expected 1"),
        (_set("seconds", "long"), "seconds is 'long', expected a number"),
        (_set("state", "over"), "state is 'over', expected one of planned, running"),
        (_set("cases", {}), "cases is {}, expected a list"),
        (_set("cases", [3]), "cases[0] is 3, expected an object"),
        (_set("colour", 3), "colour is there, expected a field of BenchRun"),
        (_in_figure("value", True), "cases[0].figures[0].value is True, expected a number"),
        (_in_figure("value", 1e999), "cases[0].figures[0].value is inf, expected a number"),
        (_in_figure("how", "guessed"), "cases[0].figures[0].how is 'guessed', expected one of measured"),
        (_in_figure("samples", [1, None]), "cases[0].figures[0].samples[1] is None, expected a number"),
        (_in_figure("groups", [1.5]), "cases[0].figures[0].groups[0] is 1.5, expected a whole number"),
    ],
)
def test_anything_else_is_refused_in_one_line(tmp_path: Path, change: Any, words: str) -> None:
    raw = json.loads(JSON.read_text(encoding="utf-8"))
    change(raw)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(MisuseError) as caught:
        read_run(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_part_is_read_like_the_whole() -> None:
    assert from_values(State, "done", JSON) is State.DONE


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    run = sample_run(tmp_path)
    with pytest.raises(OutputError, match="the record cannot be written"):
        write_run(run, tmp_path / "missing" / "run.json")
    path = tmp_path / "run.json"
    write_run(run, path)
    with pytest.raises(ValueError, match="Out of range"):  # what is no number never gets into a file
        write_run(replace(run, seconds=float("nan")), path)
    assert read_run(path) == run
