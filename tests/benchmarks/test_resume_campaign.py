"""The campaign in small, and that it notices what it is there to notice."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import resume_campaign
from benchmarks.resume_campaign import (
    KILLS,
    Material,
    Whole,
    campaign,
    can_mount,
    content,
    differences,
    finish,
    kill_once,
)
from tests.clips import write_clip
from tests.conftest import BundleFactory

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("whole") / "o.mkv", frames=20)


@pytest.fixture
def place(tmp_path: Path, whole_file: Path) -> Path:
    place = tmp_path / "trial"
    place.mkdir()
    shutil.copy(whole_file, place / "o.mkv")
    return place


def test_the_same_file_is_no_fault(whole_file: Path, place: Path) -> None:
    whole = Whole(content(whole_file), 1.0, whole_file.stat().st_size)
    assert list(differences(whole, place)) == []


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda place: (place / "o.mkv").unlink(), "there is no output"),
        (lambda place: write_clip(place / "o.mkv", frames=21), "21 pictures, expected 20"),
        (lambda place: write_clip(place / "o.mkv", frames=20, rate=24), "they differ from 0 on"),
        (lambda place: (place / "o.mkv.segments").mkdir(), "o.mkv.segments is left"),
        (lambda place: (place / ".o.00000000.part.mkv").touch(), ".o.00000000.part.mkv is left"),
    ],
    ids=["no output", "a frame more", "other stamps", "pieces", "part"],
)
def test_differences_are_noticed(whole_file: Path, place: Path, spoil: Callable[[Path], object], fault: str) -> None:
    whole = Whole(content(whole_file), 1.0, whole_file.stat().st_size)
    spoil(place)
    assert any(fault in found for found in differences(whole, place)), list(differences(whole, place))


def test_a_second_run_that_fails_is_noticed(monkeypatch: pytest.MonkeyPatch, whole_file: Path, place: Path) -> None:
    whole = Whole(content(whole_file), 1.0, whole_file.stat().st_size)
    (place / "o.mkv").unlink()
    monkeypatch.setattr(resume_campaign, "_PROGRAM", "1 / 0  # {seconds}")
    faults = list(finish(Material(place, whole_file, 1.0), whole, place))
    assert any("exit code 1" in fault for fault in faults)
    assert any("a traceback" in fault for fault in faults)


@pytest.mark.alone
@pytest.mark.slow
def test_no_interruption_costs_anything(
    mini_bundle: BundleFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kill of each kind, a signal, a damaged piece and, where that can be had, a full disk."""
    material = Material(mini_bundle(64, 64, 8).path, write_clip(tmp_path / "a.mkv", frames=150), 1.0)
    counts = {"kill": len(KILLS), "interrupt": 1, "damage": 1, "full disk": int(can_mount())}
    assert campaign(material, tmp_path / "trials", 11, counts) == [], capsys.readouterr().out


def test_where_a_kill_hit_comes_before_the_faults(
    monkeypatch: pytest.MonkeyPatch, whole_file: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(resume_campaign, "_PROGRAM", "pass  # {seconds}")
    whole = Whole(content(whole_file), 0.01, whole_file.stat().st_size)
    found = list(kill_once(Material(tmp_path, whole_file, 1.0), whole, KILLS[0], tmp_path / "t", random.Random(1)))
    assert found[0] == "it was done"
    assert "there is no output" in found[1:]
