"""Several inputs into one folder: what cannot work is refused before anything begins."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, MediaError, MisuseError, OutputError
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.restore.batch import assign_bundles, output_folder, plan_jobs
from swiftvr_trt.runtime.restore.job import Failure
from swiftvr_trt.runtime.restore.selection import BundleRequest
from tests.cli.test_run import assert_one_error_line, run

from .fleet_lab import RecordingDisplay, names


def test_each_file_keeps_its_name(clips: list[Path], tmp_path: Path) -> None:
    (tmp_path / "shots.d").mkdir()
    jobs = plan_jobs([clips[0], tmp_path / "shots.d"], str(tmp_path / "out"), suffix=".mkv")
    assert [Path(job.output).name for job in jobs] == ["a.mkv", "shots.d"]
    assert not (tmp_path / "out").exists()


def test_jobs_that_cannot_work_are_refused_at_once(clips: list[Path], tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    twin.mkdir()
    shutil.copy(clips[0], twin / "A.mp4")
    (tmp_path / "file").write_text("")
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.mp4").write_text("precious")
    plain, replacing = SinkOptions(), SinkOptions(overwrite=True)
    for sources, folder, sink, kind, words in (
        ([clips[0], twin / "A.mp4"], out, plain, MisuseError, "would both become"),
        ([clips[0], clips[0]], out, plain, MisuseError, "was given twice"),
        ([clips[0], tmp_path / "none.mp4"], out, plain, MediaError, "none.mp4 does not exist"),
        ([clips[0]], tmp_path / "file", plain, MisuseError, "is a file"),
        ([clips[0]], tmp_path / "new.mp4", plain, MisuseError, "looks like a file"),
        ([clips[0]], tmp_path / "no" / "out", plain, OutputError, "does not exist"),
        ([clips[0]], clips[0].parent, replacing, MediaError, "is the input"),
        ([clips[1]], out, plain, MediaError, "1 of 1 outputs already exist"),
    ):
        with pytest.raises(kind, match=words) as error:
            plan_jobs(sources, str(folder), sink=sink)
        assert "\n" not in str(error.value)
    assert len(plan_jobs(clips, str(out), sink=replacing)) == 4


@pytest.mark.parametrize("suffix", ["mkv", ".", "", "./x"])
def test_a_suffix_is_a_dot_and_a_name(clips: list[Path], tmp_path: Path, suffix: str) -> None:
    with pytest.raises(MisuseError, match="suffix"):
        plan_jobs(clips, str(tmp_path / "out"), suffix=suffix)


def test_an_output_folder_that_stays_empty_is_removed(tmp_path: Path) -> None:
    with output_folder(str(tmp_path / "empty")):
        assert (tmp_path / "empty").is_dir()
    with output_folder(str(tmp_path / "filled")):
        (tmp_path / "filled" / "x").write_text("")
    assert names(tmp_path) == ["filled"]


def test_inputs_that_cannot_be_opened_are_known_before_a_bundle_is_built(tmp_path: Path) -> None:
    (tmp_path / "rubbish.mp4").write_bytes(b"no video " * 500)
    jobs = plan_jobs([tmp_path / "rubbish.mp4"], str(tmp_path), suffix=".mkv")
    assigned, failures = assign_bundles(jobs, BundleRequest(cache=tmp_path / "cache"), RecordingDisplay().say)
    assert assigned == []
    assert [type(failure) for failure in failures] == [Failure]
    assert not (tmp_path / "cache").exists()


def test_the_command_line_lists_what_failed(bundle: Bundle, clips: list[Path], tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.mp4"
    rubbish.write_bytes(b"no video " * 500)
    out = tmp_path / "out"
    outcome = run(clips[0], rubbish, clips[1], out, "--bundle", bundle.path, "--devices", "cpu,cpu", "--threads", 1)
    assert_one_error_line(outcome, 1, "1 of 3 files failed", str(rubbish))
    assert names(out) == ["a.mp4", "b.mp4"]
    again = run(*clips[:3], out, "--bundle", bundle.path, "--threads", 1, "--quiet", "-y")
    assert (again.returncode, again.stderr) == (0, "")
    assert names(out) == ["a.mp4", "b.mp4", "c.mp4"]


def test_misuse_of_several_files_ends_in_one_line(bundle: Bundle, clips: list[Path], tmp_path: Path) -> None:
    out, good = tmp_path / "out", ("--bundle", bundle.path)
    for arguments, words in (
        ((clips[0], clips[0], out, *good), ("was given twice",)),
        ((clips[0], clips[1], out, "--bundle", tmp_path / "none"), ("no such directory",)),
        ((clips[0], clips[1], out, *good, "--devices", "tpu"), ("tpu",)),
        ((clips[0], clips[1], out, *good, "--devices", "cpu", "--device", "cpu"), ("--device",)),
        ((clips[0], clips[1], out, *good, "--trace", "t.json"), ("--trace",)),
        ((clips[0], tmp_path / "o.mp4", *good, "--suffix", ".mkv"), ("--suffix",)),
        ((clips[0], clips[1], out, *good, "--suffix", "mkv"), ("--suffix",)),
    ):
        assert_one_error_line(run(*arguments), 2, *words)
    assert names(tmp_path) == []
