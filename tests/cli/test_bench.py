"""`swiftvr-bench`: from the command line to the record, the table and the exit code."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from swiftvr_trt import Bundle
from swiftvr_trt.benchmarks.suite import runner
from swiftvr_trt.benchmarks.suite.protocols import PROTOCOLS
from swiftvr_trt.benchmarks.suite.record import SUITES, How, State, read_run, write_run
from swiftvr_trt.cli.bench import command
from swiftvr_trt.cli.trial import BUNDLE
from swiftvr_trt.errors import SwiftVRError
from swiftvr_trt.export import build as build_module
from swiftvr_trt.runtime.devices import gpu
from swiftvr_trt.runtime.restore import selection
from tests.benchmarks.suite.lab import run_of
from tests.benchmarks.suite.test_runner import in_this_process
from tests.conftest import BundleFactory
from tests.page.examples import Shown, numbers_in


@pytest.fixture(autouse=True)
def _idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs do not look for a second how busy this machine is."""
    monkeypatch.setattr(runner, "busy_share", lambda: 0.0)


def bench(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(command, list(map(str, arguments)))
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def test_a_bundle_is_measured_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_ask", in_this_process)
    path, page = tmp_path / "run.json", tmp_path / "run.html"
    twice = ("--bundle", BUNDLE, "--bundle", BUNDLE, "--protocol", "trial,trial", "--suite", "core,memory,core")
    shown = bench(*twice, "-o", path)
    run = read_run(path)
    on_page = Shown(page.read_text(encoding="utf-8"))
    assert "Time by stage" in on_page.texts
    assert len(on_page.figures) > 10
    assert {value for value, _ in on_page.figures} <= set(numbers_in(json.loads(path.read_text())))
    assert [case.state for case in run.cases] == [State.DONE, State.DONE]
    assert "bundle-96x64-4: 96x64" in shown
    assert "delay" not in shown
    for label in ("chunk", "stage: decode", "RAM, peak", "memory: weights"):
        assert label in shown


def test_a_preset_is_run_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mini_bundle: BundleFactory, mini_checkpoint: Path
) -> None:
    """Every suite, from the build to the page. Its own model and frames take minutes, a build many seconds."""

    def build(options: build_module.BuildOptions, _report: object) -> Iterator[Bundle]:
        assert options.output is not None
        shutil.copytree(mini_bundle().path, options.output)
        yield Bundle.open(options.output)

    recipe = mini_bundle().manifest.recipe
    tiny = replace(PROTOCOLS["trial"], name="quick", width=recipe.width, height=recipe.height)
    monkeypatch.setitem(PROTOCOLS, "quick", tiny)
    monkeypatch.setattr(build_module, "build_bundles", build)
    monkeypatch.setattr(runner, "_ask", in_this_process)
    path, page = tmp_path / "run.json", tmp_path / "run.html"
    shown = bench("--preset", "quick", "--checkpoint", mini_checkpoint, "--device", "cpu", "--threads", 1, "-o", path)
    run = read_run(path)
    assert run.state is State.DONE
    assert [(case.suite, case.state, case.problem) for case in run.cases] == [
        (suite, State.DONE, "") for suite in ("build", *(suite for suite in SUITES if suite != "build"))
    ]
    psnr = next(figure for case in run.cases if (figure := case.figure("psnr")))
    assert psnr.value > 50
    on_page = Shown(page.read_text(encoding="utf-8"))
    assert {value for value, _ in on_page.figures} <= set(numbers_in(json.loads(path.read_text())))
    for label in ("build", "core", "whole file", "first frame", "RAM, peak", "PSNR", "start"):
        assert label in shown


def test_a_case_that_fails_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise SwiftVRError("the GPU is lost")

    monkeypatch.setattr(runner, "_ask", fail)
    path = tmp_path / "run.json"
    shown = bench("--bundle", BUNDLE, "--protocol", "trial", "--suite", "latency", "-o", path, code=1)
    assert "latency bundle 96x64 fp32: failed: the GPU is lost" in shown
    assert read_run(path).state is State.DONE
    again = CliRunner().invoke(command, ["--bundle", str(BUNDLE), "-o", str(path)])
    assert str(again.exception) == f"the output {path} already exists: choose another name, or overwrite it with -y"


def test_a_record_is_shown_again_with_its_page(tmp_path: Path) -> None:
    write_run(run_of([100.0, 101.0, 102.0]), tmp_path / "a.json")
    page = tmp_path / "a.html"
    shown = bench("--show", tmp_path / "a.json", "--page", page)
    assert "chunk" in shown
    assert str(page) in shown
    assert "<title>" in page.read_text(encoding="utf-8")


def test_quiet_means_no_tables(tmp_path: Path) -> None:
    for name, value in (("a", 100.0), ("b", 150.0)):
        write_run(run_of([value] * 3), tmp_path / f"{name}.json")
    assert bench("--show", tmp_path / "a.json", "--page", tmp_path / "a.html", "-q") == ""
    assert (tmp_path / "a.html").exists()
    both = tmp_path / "a.json", tmp_path / "b.json"
    assert bench("--compare", *both, "-q") == bench("--compare", *both, "-q", "--fail-above", 1.2, code=1) == ""


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("no/a.html", "does not exist"),
        ("", "is a directory"),
        ("a.json", "is the record: give the page a name of its own"),
    ],
)
def test_a_page_that_cannot_be_is_refused_before_anything_is_measured(tmp_path: Path, page: str, said: str) -> None:
    outcome = CliRunner().invoke(
        command, ["--preset", "quick", "-o", str(tmp_path / "a.json"), "--page", str(tmp_path / page)]
    )
    assert isinstance(outcome.exception, SwiftVRError)
    assert said in str(outcome.exception)


@pytest.mark.parametrize(("limit", "code"), [((), 0), (("--fail-above", 2), 0), (("--fail-above", 1.2), 1)])
def test_two_records_are_compared(tmp_path: Path, limit: tuple[object, ...], code: int) -> None:
    for name, value in (("a", 100.0), ("b", 150.0)):
        write_run(run_of([value, value, value + 1]), tmp_path / f"{name}.json")
    shown = bench("--compare", tmp_path / "a.json", tmp_path / "b.json", *limit, code=code)
    assert "1.500" in shown
    assert "100 ms" in shown


def test_times_of_trtexec_are_imported(tmp_path: Path) -> None:
    (tmp_path / "decode.json").write_text('[{"computeMs": 4}, {"computeMs": 6}]')
    bench("--import", tmp_path / "decode.json", "-o", tmp_path / "run.json")
    (case,) = read_run(tmp_path / "run.json").cases
    assert (case.figures[0].value, case.figures[0].how) == (5.0, How.IMPORTED)


def test_a_file_that_cannot_be_imported_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_ask", pytest.fail)
    result = CliRunner().invoke(
        command, ["--bundle", str(BUNDLE), "--import", str(tmp_path / "a.json"), "-o", str(tmp_path / "run.json")]
    )
    assert "a.json: no such file, expected a file of trtexec --exportTimes" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "neither a --bundle nor a --checkpoint was named"),
        (["--suite", "speed"], "the suite 'speed' is not known, expected some of core, file"),
        (["--suite", ","], "no suite was named"),
        (["--protocol", "fast"], "the protocol 'fast' is not known"),
        (["--preset", "h200"], "'h200' is not one of"),
        (["--fail-above", "1.1"], "--fail-above was given without --compare"),
        (["--bundle", "nowhere"], "nowhere: no such directory"),
        (["--bundle", str(BUNDLE), "--against", "torch"], "--against torch needs the weights"),
        (["--compare", "a.json", "b.json", "--turns", "2"], "--turns was given with --compare, which has no use"),
        (["--show", "a.json", "-o", "b.json"], "--output was given with --show, which has no use for it"),
        (["--bundle", str(BUNDLE), "--target", "cpu"], "--target was given with --bundle, which has its own"),
        (["--bundle", str(BUNDLE), "--precision", "fp16"], "--precision was given with --bundle, which has its own"),
        (["--bundle", str(BUNDLE), "--overlap"], "--overlap was given for a bundle for onnx on cpu, expected engines"),
        (["--bundle", str(BUNDLE), "--no-graphs"], "--no-graphs was given for a bundle for onnx, expected engines"),
        (["--bundle", str(BUNDLE), "--suite", "core,build"], "the suite build was given with --bundle"),
        (["--bundle", str(BUNDLE), "--protocol", "trial,quick"], "several protocols were given with --bundle"),
        (["--import", "t.json", "--turns", "2"], "--turns was given with --import alone, which has no use for it"),
        (["--import", "t.json", "--against", "torch"], "--against was given with --import alone"),
        (["--preset", "quick", "--limit", "nan"], "nan was given, expected a finite number"),
        (["--preset", "quick", "--limit", "inf"], "inf is not in the range 1<=x<=2592000"),
        (["--compare", "a.json", "b.json", "--fail-above", "nan"], "nan was given, expected a finite number"),
        (["--compare", "a.json", "b.json", "--fail-above", "inf"], "inf was given, expected a finite number"),
        (["--compare", "a.json", "b.json"], "a.json: no such file, expected a record of swiftvr-bench"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, arguments)
    said = result.output + str(result.exception or "")
    assert result.exit_code != 0
    assert words in said
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_downloaded_for_a_gpu_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda: False)
    result = CliRunner().invoke(command, ["--preset", "rtx5090", "-o", str(tmp_path / "run.json")])
    assert "no NVIDIA driver was found" in str(result.exception)


def test_nothing_is_downloaded_for_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "locate_checkpoint", pytest.fail)
    arguments = ["--checkpoint", "somebody/model", "--suite", "build", "--turns", "2", "-o", str(tmp_path / "run.json")]
    result = CliRunner().invoke(command, arguments)
    assert "--turns has no use with --suite build" in str(result.exception)


def test_the_program_is_installed_without_the_scripts_beside_it() -> None:
    """It imports nothing of `benchmarks` but what is in the wheel."""
    import subprocess

    code = "import sys\nimport swiftvr_trt.cli.bench, swiftvr_trt.benchmarks.suite.runner\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    own = [name.split(".")[2] for name in loaded if name.startswith("swiftvr_trt.benchmarks.")]
    assert set(own) <= {"suite", "page"}
    assert "torch" not in loaded
