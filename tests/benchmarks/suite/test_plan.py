"""Which cases a run has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt.benchmarks.suite.plan import BenchOptions, in_turn, plan_cases, protocol_of
from swiftvr_trt.benchmarks.suite.protocols import MOVING, PROTOCOLS
from swiftvr_trt.benchmarks.suite.record import SUITES, Case, Subject
from swiftvr_trt.errors import MisuseError

from .lab import trial_bundle

SUBJECT = Subject("bundle", "mini", "", "fp16", "cuda", "cuda:0", 1920, 1080, 24)
TRIAL = (PROTOCOLS["trial"],)


def options(**more: Any) -> BenchOptions:
    return BenchOptions(**{"protocols": TRIAL, "checkpoint": Path("mini"), **more})


def test_builds_come_first_and_the_bundle_before_what_it_is_compared_with() -> None:
    command = "/opt/bin/fast {input} {output}"
    cases = list(plan_cases(SUBJECT, TRIAL[0], "clip", options(against=("torch", command))))
    assert [case.suite for case in cases[:7]] == ["build", *(suite for suite in SUITES if suite != "build")]
    assert [case.name for case in cases[7:]] == [
        *(f"{suite} torch 1920x1080" for suite in ("core", "file", "latency", "memory", "startup")),
        "file fast 1920x1080",
    ]
    assert {case.subject.precision for case in cases[7:]} == {"fp32", ""}
    assert all(case.protocol == "trial" and case.clip == "clip" for case in cases)


def test_how_engines_are_run_is_in_the_names_of_their_cases_only() -> None:
    subject = replace(SUBJECT, options="--no-graphs --overlap")
    given = options(suites=("core",), against=("torch",), graphs=False, overlap=True)
    assert given.engine_options == subject.options
    ours, theirs = plan_cases(subject, TRIAL[0], "clip", given)
    assert (ours.name, ours.subject.options) == ("core bundle 1920x1080 fp16 --no-graphs --overlap", subject.options)
    assert (theirs.name, theirs.subject.options) == ("core torch 1920x1080", "")


def test_only_the_suites_that_were_asked_for() -> None:
    cases = list(plan_cases(SUBJECT, TRIAL[0], "clip", options(suites=("quality", "core"), against=("torch",))))
    assert [case.suite for case in cases] == ["quality", "core", "core"]


def test_what_two_bundles_are_compared_with_is_measured_once() -> None:
    given = options(suites=("core", "file"), against=("torch", "cat {input} {output}"))
    sides = [case.subject.side for case in plan_cases(SUBJECT, TRIAL[0], "clip", given, beside=True)]
    assert sides == ["bundle", "bundle"]


@pytest.mark.parametrize(
    ("turn", "order"),
    [
        (0, ["build a", "build b", "core a", "core b", "core torch", "file a", "file b", "file torch"]),
        (1, ["core torch", "core b", "core a", "file torch", "file b", "file a"]),
        (2, ["core a", "core b", "core torch", "file a", "file b", "file torch"]),
    ],
)
def test_sides_alternate_in_every_suite(turn: int, order: list[str]) -> None:
    names = [f"{suite} {side}" for side in "ab" for suite in ("build", "core", "file")] + ["core torch", "file torch"]
    cases = [Case(name, name.split()[0], SUBJECT, "trial") for name in names]
    assert [names[number] for number in in_turn(cases, turn)] == order


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"suites": ("speed",)}, "the suite 'speed' is not known"),
        ({"checkpoint": None}, "neither a --bundle nor a --checkpoint was named"),
        ({"checkpoint": None, "bundles": (Path("b"),), "against": ("torch",)}, "--against torch needs the weights"),
        ({"against": ("ffmpeg {input}",)}, "expected torch, or a command with {input} and {output}"),
        (
            {"suites": ("core",), "against": ("x {input} {output}",)},
            "--against x {input} {output} has no use with --suite core, expected file in it",
        ),
        (
            {"suites": ("quality", "build"), "against": ("torch",)},
            "--against torch has no use with --suite quality,build, expected core or file or latency or memory or",
        ),
        ({"suites": ("core",), "clean": Path("clean.mkv")}, "--clean has no use with --suite core, expected quality"),
        ({"suites": ("build",), "clip": Path("clip.mkv")}, "--clip has no use with --suite build, expected core or"),
        ({"suites": ("build",), "overlap": True}, "--overlap has no use with --suite build, expected core or"),
        ({"suites": ("build",), "graphs": False}, "--no-graphs has no use with --suite build, expected core or"),
        ({"suites": ("build",), "turns": 2}, "--turns has no use with --suite build, expected core or"),
    ],
)
def test_what_cannot_be_measured_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(MisuseError) as caught:
        options(**given)
    assert words in str(caught.value)


def test_a_named_bundle_brings_its_size_and_chunks() -> None:
    protocol = protocol_of(trial_bundle(), PROTOCOLS["paper-1080p"])
    assert (protocol.size, protocol.clip_len, protocol.clip) == ("96x64", 4, MOVING)
    assert (protocol.input_width, protocol.input_height) == (48, 32)
    assert protocol.name == "bundle-96x64-4"
    assert protocol.frames == PROTOCOLS["paper-1080p"].frames
