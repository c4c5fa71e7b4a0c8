"""`swiftvr-run --dry-run`: a few lines for people, an event for programs, and nothing on disk."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt import Bundle
from swiftvr_trt.cli import console
from swiftvr_trt.cli.dry_run import NOT_KNOWN, best_seconds, plan_event, plan_lines
from swiftvr_trt.cli.run import command
from swiftvr_trt.engines.bundle.files import read_manifest
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.runtime.media import OutputForm
from swiftvr_trt.runtime.restore.dry_run import DiskNeed, FilePlan, MemoryNeed
from swiftvr_trt.runtime.restore.expected_bundle import BundleToBuild
from swiftvr_trt.runtime.stream.tiles import Tiling
from tests.clips import write_clip
from tests.conftest import BundleFactory
from tests.engines.fakes import RECIPE

from .program import Said

FORM = OutputForm(
    "mp4", "libx264", "yuv420p", 18, ("audio stream 1 (aac)",), left_out=(("subtitle stream 2", "no room"),)
)


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *line: object) -> Said:
    monkeypatch.setattr(sys, "argv", ["swiftvr-run", *map(str, line)])
    with pytest.raises(SystemExit) as caught:
        console.run(command, "swiftvr-run")
    out, err = capsys.readouterr()
    return Said(caught.value.code, out, err)


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle()


def plan(bundle: Bundle | BundleToBuild, **changes: Any) -> FilePlan:
    fields: dict[str, Any] = {
        "name": "",
        "source": "in.mp4",
        "output": "out.mp4",
        "description": "h264 yuv420p 56x34",
        "form": FORM,
        "size": Resolution(112, 68),
        "frames": 250,
        "bundle": bundle,
        "memory": MemoryNeed(2 * 10**9, None, 8 * 10**9),
        "disk": DiskNeed(10**6, 10**7, 2, 10**10),
        "device": "cpu",
        "tiling": Tiling.whole(Resolution(112, 68)),
    }
    return FilePlan(**{**fields, **changes})


TO_BUILD = BundleToBuild(RECIPE, "hf:a/b", download="20.00 GB from hf:a/b")
LINES: list[tuple[dict[str, Any], dict[str, float], str]] = [
    ({}, {}, "  output:    mp4, libx264 yuv420p 112x68, about 250 frames"),
    ({"frames": None}, {}, "  output:    mp4, libx264 yuv420p 112x68"),
    ({}, {}, "  copied:    audio stream 1 (aac)"),
    ({}, {}, "  left out:  subtitle stream 2: no room"),
    ({}, {}, f"  time:      {NOT_KNOWN}"),
    ({}, {"RTX 5090": 61.0}, "  time:      at best 1:01 on an RTX 5090 (projected, not measured)"),
    ({}, {}, "  memory:    at least 2.00 GB, the rest depends on ONNX Runtime; 8.00 GB are free"),
    ({"memory": None, "bundle": TO_BUILD}, {}, "  memory:    not known before the bundle is built"),
    (
        {"memory": MemoryNeed(10**9, 9 * 10**9, None)},
        {},
        "  memory:    at least 9.00 GB on the GPU and 1.00 GB of RAM",
    ),
    ({}, {}, "  disk:      1.0 MB to 10.0 MB (rough), twice that while the pieces are joined; 10.00 GB are free"),
    (
        {"disk": DiskNeed(None, None, 1, 10**10)},
        {},
        "  disk:      not known, since the number of frames is not; 10.00 GB are free",
    ),
    ({"device": None}, {}, "  device:    whichever is free"),
    ({"tiling": Tiling(Resolution(112, 68), Resolution(64, 68), 16)}, {}, "  tiles:     3 of 64x68"),
    ({"kept_frames": 750}, {}, "  unfinished run: 750 frames are kept, and the run goes on from there"),
    (
        {"kept_frames": 750, "resume": False},
        {},
        "  unfinished run: 750 frames are kept, and would be restored again (--no-resume)",
    ),
    ({"bundle": TO_BUILD}, {}, f"  bundle:    to be built first from hf:a/b ({RECIPE.describe()})"),
    ({"bundle": TO_BUILD}, {}, "  download:  20.00 GB from hf:a/b"),
    ({"bundle": TO_BUILD}, {}, "  build:     what it takes is not known before the download"),
]


@pytest.mark.parametrize(("changes", "seconds", "line"), LINES)
def test_lines(bundle: Bundle, changes: dict[str, Any], seconds: dict[str, float], line: str) -> None:
    changes.setdefault("bundle", bundle)
    assert line in list(plan_lines(plan(**changes), seconds))


def test_a_cluster_has_the_bundle_and_no_line_about_memory(bundle: Bundle) -> None:
    assert not [line for line in plan_lines(plan(bundle, memory=None, device=None), {}) if "memory:" in line]


def test_the_event_has_the_documented_fields(bundle: Bundle) -> None:
    document = Path(__file__).parents[2] / "docs" / "json-lines.md"
    table = document.read_text(encoding="utf-8").partition("## With `--dry-run`")[2]
    event = plan_event(plan(bundle), {})
    assert all(f"`{name}`" in table for name in event)
    assert json.loads(json.dumps(event)) == {
        **event,
        "disk_bytes": [10**6, 10**7],
        "disk_peak_bytes": [2 * 10**6, 2 * 10**7],
    }
    assert plan_event(plan(TO_BUILD), {"A": 1.26})["projected_s"] == {"A": 1.3}


def test_graphs_have_no_projected_time(bundle: Bundle) -> None:
    assert best_seconds(plan(bundle), "cpu") == {}
    assert best_seconds(plan(TO_BUILD), "cpu") == {}


def test_a_dry_run_prints_and_writes_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "in.mp4")
    line = [clip, tmp_path / "out.mp4", "--bundle", bundle.path, "--dry-run"]
    said = call(monkeypatch, capsys, *line)
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[0] == f"{clip} -> {tmp_path / 'out.mp4'}"
    assert said.out.splitlines()[-1] == "dry run: nothing was written"
    said = call(monkeypatch, capsys, *line, "-q")
    assert (said.code, said.out, said.err) == (0, "", "")
    said = call(monkeypatch, capsys, *line, "--json")
    events = [json.loads(text) for text in said.out.splitlines()]
    assert [event["event"] for event in events] == ["start", "plan", "end"]
    assert events[1]["bundle"]["recipe"] == read_manifest(bundle.path).recipe.describe()
    said = call(monkeypatch, capsys, tmp_path, f"{tmp_path}{os.sep}out{os.sep}", *line[2:])
    assert said.code == 0
    assert list(tmp_path.iterdir()) == [clip]
