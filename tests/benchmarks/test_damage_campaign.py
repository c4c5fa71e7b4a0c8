"""The campaign in small, and that it notices what it is there to notice."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import damage_campaign
from benchmarks.damage_campaign import campaign, corrupted, ffmpeg_complains, run_once, write_originals
from swiftvr_trt.runtime.restore.job import Restored
from tests.conftest import BundleFactory


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_originals(tmp_path_factory.mktemp("originals"))


def test_a_number_and_a_seed_always_give_the_same_video(originals: list[Path]) -> None:
    assert corrupted(originals, 3, 5) == corrupted(originals, 3, 5)
    assert corrupted(originals, 3, 5) != corrupted(originals, 3, 6)
    assert all(corrupted(originals, number, 0)[1] != path.read_bytes() for number, path in enumerate(originals))


def test_silence_and_what_is_left_are_faults(
    monkeypatch: pytest.MonkeyPatch, originals: list[Path], tmp_path: Path
) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(originals[0].read_bytes()[:1500])
    assert ffmpeg_complains(source)

    def silent(_: Path, output: Path, **__: object) -> Restored:
        output.with_suffix(".part").touch()
        return Restored(output, 30, 1.0)

    monkeypatch.setattr(damage_campaign, "restore_file", silent)
    result = run_once(0, tmp_path, source, tmp_path / "out.mkv")
    assert result.faults == ["out.part is left", "FFmpeg complains, and we do not"]


def test_an_unexpected_exception_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, originals: list[Path], tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> Restored:
        raise KeyError("pts")

    monkeypatch.setattr(damage_campaign, "restore_file", fail)
    (tmp_path / "in.avi").write_bytes(originals[3].read_bytes())
    assert run_once(0, tmp_path, tmp_path / "in.avi", tmp_path / "out.mkv").faults == ["KeyError: 'pts'"]


def test_a_process_that_dies_is_a_fault_of_its_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(damage_campaign, "_CHILD", (sys.executable, "-c", "import sys; sys.exit('no luck')"))
    results = list(campaign(tmp_path, tmp_path, 2, seed=0))
    assert [(result.number, result.faults) for result in results] == [
        (number, ["the process ended with 1: no luck"]) for number in range(2)
    ]


@pytest.mark.slow
def test_a_small_campaign_finds_nothing(mini_bundle: BundleFactory, tmp_path: Path) -> None:
    results = list(campaign(mini_bundle().path, tmp_path, 12, seed=3))
    assert [result.number for result in results] == list(range(12))
    assert [fault for result in results for fault in result.faults] == []
