"""`swiftvr-run --report`: refused early if it cannot be, and never the reason why a run fails."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt.cli.report import check_report, restore_and_report
from swiftvr_trt.cli.trial import BUNDLE
from swiftvr_trt.errors import MachineError, SwiftVRError
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.display import Result
from swiftvr_trt.runtime.restore.preview import Preview
from swiftvr_trt.runtime.restore.run import RunOptions, restore_files
from tests.clips import write_clip
from tests.runtime.restore.fleet_lab import RecordingDisplay

REQUEST = BundleRequest(bundle=BUNDLE)


class Heard(RecordingDisplay):
    """A display that remembers lines and warnings. doomed: a folder that vanishes when the video is complete."""

    def __init__(self, doomed: Path | None = None) -> None:
        super().__init__()
        self._doomed = doomed

    def result(self, result: Result, name: str = "") -> None:
        super().result(result, name)
        if self._doomed is not None:
            shutil.rmtree(self._doomed)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "in.mp4", 8, 48, 32)


def run_json(report: Path) -> Any:
    text = report.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])["run"]


def test_a_run_writes_its_report_last(clip: Path, tmp_path: Path) -> None:
    plain, out, report = tmp_path / "plain.mp4", tmp_path / "out.mp4", tmp_path / "report.html"
    options = RunOptions((clip,), str(out), request=REQUEST, threads=1, sink=SinkOptions(crf=0))
    display = Heard()
    restore_and_report(options, report, display)
    assert (display.warnings, display.lines[-1]) == ([], f"report: {report}")
    assert display.results[0].status == "done"
    run = run_json(report)
    assert (run["frames"], run["output"]["width"], run["output"]["height"]) == (8, 96, 64)
    assert len(run["shown"]) == 8
    assert run["copied"] == ["audio stream 1 (aac)"]
    restore_files(replace(options, output=str(plain)), Heard())
    assert out.read_bytes() == plain.read_bytes()


def test_a_report_that_cannot_be_written_is_one_warning(clip: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "reports", tmp_path / "out.mp4"
    folder.mkdir()
    display = Heard(doomed=folder)
    restore_and_report(RunOptions((clip,), str(out), request=REQUEST, threads=1), folder / "report.html", display)
    assert out.exists()
    (warning,) = display.warnings
    assert re.match(r"the report .*report\.html was not written: cannot write .* create it first$", warning)


def test_an_incomplete_output_has_no_report_and_a_line_says_so(tmp_path: Path) -> None:
    cut, out, report = tmp_path / "cut.mkv", tmp_path / "out.mp4", tmp_path / "report.html"
    write_clip(cut, 40, 48, 32)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    display = Heard()
    with pytest.raises(MachineError, match="holds what could be restored"):
        restore_and_report(RunOptions((cut,), str(out), request=REQUEST, threads=1), report, display)
    assert display.warnings[-1] == f"no report was written: {out} is not complete"
    assert not report.exists()


def test_images_have_reports_too(clip: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "frames/", tmp_path / "report.html"
    options = RunOptions((clip,), f"{out}/", request=REQUEST, threads=1, sink=SinkOptions(audio=False))
    restore_and_report(options, report, Heard())
    run = run_json(report)
    assert [each["name"] for each in run["shown"]][:2] == ["000001.png", "000002.png"]


def test_a_skipped_output_has_no_report(clip: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "report.html"
    out.touch()
    display = Heard()
    restore_and_report(RunOptions((clip,), str(out), request=REQUEST, skip_existing=True), report, display)
    assert display.warnings == [f"no report was written: {out} was not written by this run"]
    assert not report.exists()


@pytest.mark.parametrize(
    ("sources", "output", "more", "report", "expected"),
    [
        (["in.mp4"], "-", {}, "r.html", "--report reads OUTPUT again, but standard output is a pipe: write a file"),
        (["-"], "out.mp4", {}, "r.html", "--report reads INPUT again, but standard input is a pipe"),
        (["in.mp4"], "out.mp4", {"preview": Preview(Fraction(1))}, "r.html", "--report and --preview were both given"),
        (["in.mp4", "b.mp4"], "out", {}, "r.html", "--report is for one INPUT"),
        (["films"], "out", {}, "r.html", "--report is for one INPUT"),
        (["in.mp4"], "out.mp4", {}, "report.pdf", "expected the name of a page, e.g. report.html"),
        (["in.mp4"], "out.html", {}, "out.html", "is OUTPUT: give the report a name of its own, e.g. report.html"),
        (["in.mp4"], "out.mp4", {"trace": "r.html"}, "r.html", "--report and --trace are both"),
        (["in.mp4"], "out.mp4", {}, "no/r.html", "the directory .* does not exist"),
        (
            ["in.mp4"],
            "out.mp4",
            {},
            "there.html",
            "already exists: choose another name, or allow overwriting it with -y",
        ),
    ],
)
def test_a_report_that_cannot_be_is_refused_before_any_work(
    tmp_path: Path, sources: list[str], output: str, more: dict[str, Any], report: str, expected: str
) -> None:
    for name in ("in.mp4", "b.mp4", "there.html"):
        (tmp_path / name).touch()
    (tmp_path / "films").mkdir()
    shutil.copy(tmp_path / "in.mp4", tmp_path / "films" / "a.mp4")
    paths = tuple(Path(name) if name == "-" else tmp_path / name for name in sources)
    trace = {"trace": tmp_path / more["trace"]} if "trace" in more else {}
    options = RunOptions(paths, output if output == "-" else str(tmp_path / output), **{**more, **trace})
    with pytest.raises(SwiftVRError, match=expected):
        check_report(options, tmp_path / report)
