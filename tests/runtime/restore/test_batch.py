"""Several inputs into one folder: what cannot work is refused before anything begins."""

from __future__ import annotations

import os
import shutil
from fractions import Fraction
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, MediaError, MisuseError, OutputError, Restorer
from swiftvr_trt.errors import NoBundleError
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.restore.batch import (
    assign_bundles,
    open_once,
    outdated,
    output_folder,
    output_folders,
    plan_jobs,
    refuse_existing,
    set_finished_aside,
)
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.inputs import Input
from swiftvr_trt.runtime.restore.job import Failure, Job, restore_job
from swiftvr_trt.runtime.restore.segments.store import Store
from tests.cli.test_run import assert_one_error_line, run

from .fleet_lab import RecordingDisplay, names


def named(*paths: Path) -> list[Input]:
    return [Input.named(path) for path in paths]


def test_each_file_keeps_its_name(clips: list[Path], tmp_path: Path) -> None:
    (tmp_path / "shots.d").mkdir()
    jobs = plan_jobs(named(clips[0], tmp_path / "shots.d"), str(tmp_path / "out"), suffix=".mkv")
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
        ([clips[0]], tmp_path / "file", plain, MisuseError, "is a file"),
        ([clips[0]], tmp_path / "new.mp4", plain, MisuseError, "looks like a file"),
        ([clips[0]], tmp_path / "no" / "out", plain, OutputError, "does not exist"),
        ([clips[0]], clips[0].parent, replacing, MediaError, "is the input"),
    ):
        with pytest.raises(kind, match=words) as error:
            plan_jobs(named(*sources), str(folder), sink=sink)
        assert "\n" not in str(error.value)
    with pytest.raises(MediaError, match=r"1 of 4 outputs already exist, e.g. .*b.mp4; .* with --skip-existing"):
        refuse_existing(plan_jobs(named(*clips), str(out), sink=plain))
    refuse_existing(plan_jobs(named(*clips), str(out), sink=replacing))


def test_a_rate_is_for_pictures(clips: list[Path], tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    jobs = plan_jobs(named(clips[0], tmp_path / "frames"), str(tmp_path / "out"), rate=Fraction(10))
    assert [job.rate for job in jobs] == [None, Fraction(10)]
    with pytest.raises(MisuseError, match="--rate is for folders of images"):
        plan_jobs(named(clips[0]), str(tmp_path / "out"), rate=Fraction(10))


def test_names_that_differ_in_their_suffix_collide_before_the_work(tmp_path: Path) -> None:
    found = named(tmp_path / "a.avi", tmp_path / "a.mp4")
    assert len(plan_jobs(found, str(tmp_path / "out"))) == 2
    with pytest.raises(MisuseError, match=r"a\.avi and .*a\.mp4 would both become .*a\.mkv; rename one"):
        plan_jobs(found, str(tmp_path / "out"), suffix=".mkv")


def test_what_is_finished_is_set_aside(tmp_path: Path) -> None:
    frames, out = tmp_path / "frames", tmp_path / "out"
    for path in (frames / "1.png", frames / "2.png", out / "a.mkv", out / "frames" / "1.png", out / ".b.x.part.mkv"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    for name in ("a.avi", "b.avi"):
        (tmp_path / name).write_text("")
    jobs = plan_jobs(named(tmp_path / "a.avi", tmp_path / "b.avi", frames), str(out), suffix=".mkv")
    to_do, finished = set_finished_aside(jobs)
    assert ([job.name for job in to_do], [job.name for job in finished]) == (["b.avi", "frames"], ["a.avi"])
    (out / "frames" / "2.png").write_text("")
    assert [job.name for job in set_finished_aside(jobs)[1]] == ["a.avi", "frames"]
    os.utime(tmp_path / "a.avi", (1000, 1000))
    assert outdated([jobs[0]]) == []
    os.utime(out / "a.mkv", (0, 0))
    assert outdated([jobs[0]]) == [jobs[0]]


def test_the_folders_of_a_tree_are_created_and_those_that_stay_empty_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "kept").mkdir(parents=True)
    jobs = [Job(Path("x"), str(out / place)) for place in ("a/b/1.mp4", "a/2.mp4", "c/d/3.mp4", "kept/4.mp4")]
    with output_folders(str(out), jobs):
        assert all(Path(job.output).parent.is_dir() for job in jobs)
        (out / "a" / "b" / "1.mp4").write_text("")
    assert sorted(path.name for path in out.rglob("*")) == ["1.mp4", "a", "b", "kept"]


@pytest.mark.parametrize("suffix", ["mkv", ".", "", "./x"])
def test_a_suffix_is_a_dot_and_a_name(clips: list[Path], tmp_path: Path, suffix: str) -> None:
    with pytest.raises(MisuseError, match="suffix"):
        plan_jobs(named(*clips), str(tmp_path / "out"), suffix=suffix)


def test_an_output_folder_that_stays_empty_is_removed(tmp_path: Path) -> None:
    with output_folder(str(tmp_path / "empty")):
        assert (tmp_path / "empty").is_dir()
    with output_folder(str(tmp_path / "filled")):
        (tmp_path / "filled" / "x").write_text("")
    assert names(tmp_path) == ["filled"]


def test_what_a_link_leads_to_is_created_and_removed_again(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with output_folders(str(tmp_path / "link"), [Job(Path("x"), str(tmp_path / "link" / "a" / "1.mp4"))]):
        assert (tmp_path / "folder" / "a").is_dir()
    assert names(tmp_path) == ["link"]


def test_inputs_that_cannot_be_opened_are_known_before_a_bundle_is_built(tmp_path: Path) -> None:
    (tmp_path / "rubbish.mp4").write_bytes(b"no video " * 500)
    jobs = plan_jobs(named(tmp_path / "rubbish.mp4"), str(tmp_path), suffix=".mkv")
    assigned, failures = assign_bundles(jobs, BundleRequest(cache=tmp_path / "cache"), RecordingDisplay())
    assert assigned == []
    assert [type(failure) for failure in failures] == [Failure]
    assert not (tmp_path / "cache").exists()


def test_pieces_that_an_output_holds_are_removed_before_it_is_refused(
    bundle: Bundle, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run was killed once its output had its name. On several devices and on a cluster, this is how it is noticed."""
    request = BundleRequest(bundle=bundle.path)
    (job,) = plan_jobs(named(clips[0]), str(tmp_path), suffix=".mkv")
    with monkeypatch.context() as killed:
        killed.setattr(Store, "remove", Store.close)
        restore_job(job, request, lambda _size: Restorer.open(bundle, threads=1), RecordingDisplay())
    assert names(tmp_path) == ["a.mkv", "a.mkv.segments"]
    with pytest.raises(MediaError, match=r"a\.mkv already exists"):
        open_once(job, request)
    assert names(tmp_path) == ["a.mkv"]


def test_a_batch_without_any_bundle_is_one_mistake(clips: list[Path], tmp_path: Path) -> None:
    """What is said about a single file helps here, too. If anything else went wrong, the failures are listed."""
    request = BundleRequest(cache=tmp_path / "cache")
    jobs = plan_jobs(named(*clips[:2]), str(tmp_path), suffix=".mkv")
    with pytest.raises(NoBundleError):
        assign_bundles(jobs, request, RecordingDisplay())
    (tmp_path / "rubbish.mp4").write_bytes(b"no video " * 500)
    jobs += plan_jobs(named(tmp_path / "rubbish.mp4"), str(tmp_path), suffix=".mkv")
    assigned, failures = assign_bundles(jobs, request, RecordingDisplay())
    assert (assigned, len(failures)) == ([], 3)


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


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("a.avi", "b.MOD", "c.dv", "d.wmv", "e.mpg"), ("a.mkv", "b.mkv", "c.mkv", "d.mkv", "e.mkv")),
        (("a.mp4", "b.mov", "c.mkv", "d.ts"), ("a.mp4", "b.mov", "c.mkv", "d.ts")),
        (("a.avi", "a.mkv", "a.wmv"), ("a.avi.mkv", "a.mkv", "a.wmv.mkv")),
    ],
)
def test_old_containers_become_matroska(tmp_path: Path, names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    jobs = plan_jobs([Input.named(tmp_path / name) for name in names], str(tmp_path / "out"))
    assert tuple(Path(job.output).name for job in jobs) == expected
    assert [job.title for job in jobs] == list(names)
