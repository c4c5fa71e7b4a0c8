"""Two records: ratios with intervals, and what counts as worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from swiftvr_trt.benchmarks.suite.compare import by_subject, compare_runs, sides_of, worst
from swiftvr_trt.benchmarks.suite.metrics import figure, sampled
from swiftvr_trt.benchmarks.suite.record import BenchRun, Case, Clip, How, State
from swiftvr_trt.errors import MisuseError

from .lab import run_of

SOURCE = np.random.default_rng(3)


def around(value: float) -> list[float]:
    return [float(one) for one in SOURCE.normal(value, value / 50, 40)]


@pytest.mark.parametrize(
    ("name", "before", "after", "limit", "bad"),
    [
        ("chunk", 100, 130, 1.1, True),
        ("chunk", 100, 130, 1.5, False),
        ("chunk", 130, 100, 1.0, False),
        ("core_fps", 30, 20, 1.1, True),
        ("core_fps", 20, 30, 1.1, False),
        ("frames_out", 20, 10, 1.1, False),
    ],
)
def test_worse_depends_on_which_direction_is_better(
    name: str, before: float, after: float, limit: float, bad: bool
) -> None:
    (change,) = changes = compare_runs(run_of(around(before), name), run_of(around(after), name))
    assert change.ratio.value == pytest.approx(after / before, rel=0.03)
    assert (worst(changes, limit) is not None) is bad


def test_noise_is_no_regression() -> None:
    noisy = SOURCE.normal(100, 30, 8).tolist()
    changes = compare_runs(run_of([90.0, 100, 110, 130, 70, 95]), run_of(noisy))
    assert worst(changes, 1.01) is None


def test_a_row_says_everything() -> None:
    (change,) = compare_runs(run_of([100.0, 100, 100]), run_of([150.0, 150, 150]))
    assert change.row == (
        "trial, fp32 8 frames, cpu: chunk",
        "100 ms (100 ... 100 ... 100)",
        "150 ms (150 ... 150 ... 150)",
        "1.500",
        "1.500 ... 1.500",
    )


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("", "--overlap", "trial, fp32 8 frames, cpu, B --overlap: chunk"),
        ("--overlap", "", "trial, fp32 8 frames, cpu, --overlap, B without: chunk"),
        ("--overlap", "--overlap", "trial, fp32 8 frames, cpu, --overlap: chunk"),
    ],
)
def test_engines_that_are_run_in_two_ways_are_compared_and_told_apart(before: str, after: str, name: str) -> None:
    runs = []
    for options in (before, after):
        run = run_of([1.0])
        (case,) = run.cases
        runs.append(replace(run, cases=(replace(case, subject=replace(case.subject, options=options)),)))
    (change,) = compare_runs(*runs)
    assert change.name == name


@pytest.mark.parametrize(
    ("name", "before", "after", "limit", "bad"),
    [
        ("psnr", 50, 47.7, 1.05, True),
        ("psnr", 50, 49.8, 1.05, False),
        ("psnr", 47.7, 50, 1.0, False),
        ("ssim", 0.99, 0.945, 2, True),
        ("ssim", 0.945, 0.99, 1.0, False),
        ("ssim", 1.0, 1.0, 1.0, False),
        ("vmaf_clean", 98, 95, 2, True),
        ("temporal_error", 0, 0.5, 1.05, True),
        ("temporal_error", 0.5, 0, 1.05, False),
        ("core_fps", 30, 0, 1.05, True),
    ],
)
def test_scores_are_compared_as_errors_and_zeros_count(
    name: str, before: float, after: float, limit: float, bad: bool
) -> None:
    changes = compare_runs(run_of([before] * 3, name), run_of([after] * 3, name))
    assert (worst(changes, limit) is not None) is bad


def case_with(*names: str, state: State = State.DONE) -> Case:
    figures = tuple(sampled(name, [2.0, 2.0], How.MEASURED, "trial") for name in names)
    return replace(run_of([1.0]).cases[0], figures=figures, state=state)


@pytest.mark.parametrize(
    "broken",
    [
        (case_with("chunk"), replace(case_with(state=State.FAILED), suite="file")),
        (case_with("chunk"), replace(case_with("frames_out"), suite="file")),
        (case_with("chunk"),),
    ],
    ids=["a case failed", "a figure is missing", "a case is missing"],
)
def test_what_a_broken_run_lacks_is_worse(broken: tuple[Case, ...]) -> None:
    run = run_of([1.0])
    whole = replace(run, cases=(case_with("chunk"), replace(case_with("file_fps", "gpu_clock"), suite="file")))
    changes = compare_runs(whole, replace(run, cases=broken))
    bad = worst(changes, 1000.0)
    assert bad is not None
    assert bad.row == ("trial, fp32 8 frames, cpu: whole file", "2 FPS (2 ... 2)", "missing", "", "")
    assert len(changes) == 2
    assert worst(compare_runs(whole, whole), 1.0) is None


@pytest.mark.parametrize("state", [State.FAILED, State.INTERRUPTED, State.RUNNING])
def test_figures_of_the_first_turns_do_not_stand_for_a_case_that_did_not_end(state: State) -> None:
    run = run_of([1.0, 1.0])
    broken = replace(run, cases=(replace(run.cases[0], state=state), replace(run.cases[0], suite="file")))
    whole = replace(run, cases=(run.cases[0], replace(run.cases[0], suite="file")))
    bad = worst(compare_runs(whole, broken), 1000.0)
    assert bad is not None
    assert bad.after is None


def test_a_projection_is_the_same_figure_with_another_value() -> None:
    """Its note holds values."""
    before, after = (
        replace(run, cases=(replace(run.cases[0], figures=(figure("projected_fps", fps, How.PROJECTED, "x", note),)),))
        for run, fps, note in ((run_of([1.0]), 50.0, "49 to 58"), (run_of([1.0]), 60.0, "59 to 70"))
    )
    (change,) = changes = compare_runs(before, after)
    assert change.ratio.value == 1.2
    assert worst(changes, 1.0) is None


def test_imported_times_are_compared_by_their_names() -> None:
    def traces(**times: float) -> BenchRun:
        cases = (
            run_of([value] * 3, f"imported.{name}", How.IMPORTED, "trtexec").cases[0] for name, value in times.items()
        )
        return replace(run_of([1.0]), cases=tuple(cases))

    changes = compare_runs(traces(dit=2.0, decode=4.0), traces(decode=8.0, dit=2.0))
    assert [change.ratio.value for change in changes] == [1.0, 2.0]
    assert [change.after is None for change in compare_runs(traces(dit=2.0, decode=4.0), traces(decode=8.0))] == [
        True,
        False,
    ]


def with_clip(name: str, digest: str) -> BenchRun:
    run = run_of([1.0])
    clip = Clip(name, digest * 64, 96, 64, 9, 25.0)
    return replace(run, cases=(replace(run.cases[0], clip=name),), clips=(clip,))


def test_other_frames_are_another_question() -> None:
    assert compare_runs(with_clip("mine", "1"), with_clip("renamed", "1"))
    assert compare_runs(with_clip("moving-48x32-9", "1"), with_clip("moving-48x32-9", "2"))  # another encoder
    for other in (with_clip("mine", "2"), with_clip("moving-48x32-9", "1")):
        with pytest.raises(MisuseError, match="the same protocol, clip,"):
            compare_runs(with_clip("mine", "1"), other)


@pytest.mark.parametrize("slower", [0, 1])
def test_bundles_of_one_kind_are_compared_one_by_one(slower: int) -> None:
    def bundle(digest: str, value: float) -> Case:
        (case,) = run_of([value] * 3).cases
        return replace(case, subject=replace(case.subject, digest=digest * 64))

    run, values = run_of([1.0]), (1.0, 5.0)
    first, second = map(bundle, "ab", values)
    worse = tuple(bundle("cd"[at], value * (2 if at == slower else 1)) for at, value in enumerate(values))
    changes = compare_runs(replace(run, cases=(first, second)), replace(run, cases=worse))
    assert [change.is_worse(1.5) for change in changes] == [slower == 0, slower == 1]
    assert [change.name.split(" ")[2] for change in changes] == ["aaaaaa", "bbbbbb"]


@pytest.mark.parametrize(
    "other",
    [run_of([1.0], "load"), run_of([1.0], how=How.EMULATED), run_of([1.0], side="torch")],
    ids=["another figure", "obtained in another way", "another side"],
)
def test_only_like_is_compared_with_like(other: object) -> None:
    with pytest.raises(MisuseError, match="have no figure in common"):
        compare_runs(run_of([1.0]), other)  # type: ignore[arg-type]


def test_the_sides_of_one_run_are_compared_in_pairs() -> None:
    slow, fast = run_of([100.0, 200, 300], side="torch").cases, run_of([50.0, 100, 150]).cases
    both = replace(run_of([1.0]), cases=(*fast, *slow))
    (change,) = sides_of(both, "torch")
    assert change.ratio.value == pytest.approx(0.5)
    assert change.name == "trial, fp32 8 frames, cpu: chunk"


def test_two_bundles_and_the_torch_network_are_two_rows() -> None:
    run, slow = run_of([1.0]), run_of([4.0, 4.0], side="torch").cases
    bundles = tuple(
        replace(one, subject=replace(one.subject, precision=precision, digest=digest))
        for precision, digest, value in (("fp16", "a" * 64, 2.0), ("fp8", "b" * 64, 1.0), ("fp8", "c" * 64, 3.0))
        for one in run_of([value, value]).cases
    )
    found = {change.name: change.ratio.value for change in sides_of(replace(run, cases=(*bundles, *slow)), "torch")}
    assert found == {
        "trial, fp16 8 frames, cpu: chunk": 0.5,
        "trial, fp8 bbbbbb 8 frames, cpu: chunk": 0.25,
        "trial, fp8 cccccc 8 frames, cpu: chunk": 0.75,
    }


def test_rows_are_told_apart_by_what_they_are_of() -> None:
    run, other = run_of([1.0, 1.0]), run_of([2.0, 2.0], "stage.dit")
    both = replace(
        run,
        cases=tuple(replace(case, protocol=name) for case, name in zip((*run.cases, *other.cases), "ab", strict=True)),
    )
    assert by_subject(compare_runs(both, both)) == {
        "a, fp32 8 frames, cpu": (
            ("chunk", "1 ms (1 ... 1 ... 1)", "1 ms (1 ... 1 ... 1)", "1.000", "1.000 ... 1.000"),
        ),
        "b, fp32 8 frames, cpu": (("stage: dit", "2 ms (2 ... 2)", "2 ms (2 ... 2)", "1.000", "1.000 ... 1.000"),),
    }
