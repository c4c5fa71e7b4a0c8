"""`restore_files`: what `swiftvr-run` does, called from Python."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import pytest

from swiftvr_trt import Bundle, BundleError, MachineError, MisuseError, OutputError, SwiftVRError, leaving
from swiftvr_trt.runtime.devices import compatible
from swiftvr_trt.runtime.devices.driver import Driver
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.restore import batch, bundle_request
from swiftvr_trt.runtime.restore import run as module
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.cluster import on_cluster
from swiftvr_trt.runtime.restore.cluster.address import ClusterOptions
from swiftvr_trt.runtime.restore.cluster.on_cluster import ClusterRun
from swiftvr_trt.runtime.restore.restorer import OpenOptions
from swiftvr_trt.runtime.restore.run import RunOptions, restore_files
from tests.clips import video_pts, write_clip
from tests.conftest import BundleFactory
from tests.runtime.devices.fake_trt import write_engine_bundle

from .fleet_lab import RecordingDisplay


class Notes(RecordingDisplay):
    """A display that also remembers the progress it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.progress: list[tuple[str, int, int | None]] = []
        self.finished: list[str] = []

    def update(self, name: str, done: int, total: int | None, remaining: float | None) -> None:
        super().update(name, done, total, remaining)
        assert remaining is None or remaining >= 0
        self.progress.append((name, done, total))

    def finish(self, name: str) -> None:
        super().finish(name)
        self.finished.append(name)


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "in.mp4", frames=9)


def options_for(bundle: Bundle, source: Path, output: Path | str, **changes: Any) -> RunOptions:
    return RunOptions((source,), str(output), request=BundleRequest(bundle=bundle.path), threads=1, **changes)


@pytest.mark.parametrize(
    ("sources", "changes", "message"),
    [
        (1, {"suffix": ".mkv"}, "--suffix is for several INPUTs"),
        (2, {"trace": Path("t.json")}, "--trace is for one INPUT"),
        (1, {"devices": "0", "device": "cuda"}, "--device and --devices were both given"),
        (1, {"devices": "0", "trace": Path("t.json")}, "--trace and --devices were both given"),
        (1, {"ship": True}, "--ship was given without --cluster"),
        (1, {"cluster": "head"}, "--cluster is 'head', expected auto, local"),
        (1, {"cluster": "auto", "device": "cuda:1"}, "Ray chooses the GPU"),
        (1, {"cluster": "auto", "scene_cut": "reset"}, "--scene-cut reset and --cluster were both given"),
        (2, {"cluster": "auto", "devices": "0,1", "hwaccel": "auto"}, "--devices, --hwaccel and --cluster were both"),
    ],
)
def test_options_that_exclude_each_other_are_refused_at_once(
    sources: int, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(MisuseError, match=message):
        RunOptions((Path("a.mp4"),) * sources, "out", **changes)


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_a_folder_of_videos_does_not_go_into_a_pipe(tmp_path: Path, output: str) -> None:
    (tmp_path / "a.mp4").write_text("")
    with pytest.raises(MisuseError, match="OUTPUT is standard output, expected a folder with a file for each"):
        restore_files(RunOptions((tmp_path,), output), Notes())


def test_one_video_is_not_divided_if_scenes_reset_the_network() -> None:
    RunOptions((Path("a.mp4"),), "folder/", devices="cpu,cpu", scene_cut="reset")
    with pytest.raises(
        MisuseError, match="--devices was given with --scene-cut reset, which restores a video in order"
    ):
        RunOptions((Path("a.mp4"),), "out.mp4", devices="cpu,cpu", scene_cut="reset")


@pytest.mark.parametrize(
    ("sources", "devices", "into_folder"), [(1, None, False), (1, "0", True), (2, None, True), (2, "0,1", True)]
)
def test_several_sources_or_devices_go_into_a_folder(sources: int, devices: str | None, into_folder: bool) -> None:
    assert RunOptions((Path("a.mp4"),) * sources, "out", devices=devices).into_folder is into_folder
    cluster = None if devices is None else "auto"
    assert RunOptions((Path("a.mp4"),) * sources, "out", cluster=cluster).into_folder is into_folder


def test_one_file_is_restored_in_this_process(
    bundle: Bundle, clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "swiftvr_trt")
    notes, out, trace = Notes(), tmp_path / "out.mp4", tmp_path / "trace.json"
    restore_files(options_for(bundle, clip, out, trace=trace), notes)
    assert video_pts(out) == video_pts(clip)
    model = f"model:  {bundle.path}, restores to {bundle.manifest.recipe.resolution}"
    assert notes.lines[:-1] == ["input:  56x34, 25 frames/s, 9 frames", model]
    assert notes.lines[-1].startswith(f"output: {out}, 9 frames")
    assert f"bundle: {bundle.path} ({bundle.manifest.recipe.describe()})" in caplog.messages
    assert any(line.startswith("input: h264") for line in caplog.messages)
    assert notes.progress[-1] == ("", 9, 9)
    assert notes.files == [(str(clip), str(out))]
    assert [(result.status, result.frames) for result in notes.results] == [("done", 9)]
    assert [event for event in json.loads(trace.read_text()) if event.get("name") == "dit_edge"]


def test_images_take_the_rate_that_is_asked_for(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "frames", tmp_path / "out.mkv"
    restore_files(options_for(bundle, clip, folder), Notes())
    restore_files(options_for(bundle, folder, out, rate=Fraction(10)), Notes())
    assert video_pts(out) == [Fraction(index, 10) for index in range(9)]


def test_a_batch_names_the_files_that_failed_and_leaves_no_empty_folder(bundle: Bundle, tmp_path: Path) -> None:
    sources = tuple(tmp_path / name for name in ("a.mp4", "b.mp4"))
    for source in sources:
        source.write_bytes(b"no video at all" * 100)
    options = replace(options_for(bundle, sources[0], tmp_path / "out"), sources=sources)
    with pytest.raises(MachineError, match=rf"^2 of 2 files failed: {sources[0]}, {sources[1]}$"):
        restore_files(options, Notes())
    assert not (tmp_path / "out").exists()


def test_a_batch_on_one_device_restores_the_others(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.mp4"
    rubbish.write_bytes(b"no video at all" * 100)
    options = replace(options_for(bundle, clip, tmp_path / "out"), sources=(rubbish, clip), suffix=".mkv")
    notes = Notes()
    with pytest.raises(MachineError, match=rf"^1 of 2 files failed, the others are complete: {rubbish}$"):
        restore_files(options, notes)
    assert len(video_pts(tmp_path / "out" / "in.mkv")) == 9
    assert "in.mp4" in notes.finished
    assert {Path(result.source).name: (result.status, result.frames) for result in notes.results} == {
        "in.mp4": ("done", 9),
        "rubbish.mp4": ("failed", None),
    }


def test_engines_for_the_cpu_are_refused_before_they_are_built(clip: Path, tmp_path: Path) -> None:
    request = BundleRequest(checkpoint=tmp_path / "none", target="rtx4090", precision="fp16")
    options = RunOptions((clip,), str(tmp_path / "out.mp4"), request=request, device="cpu")
    with pytest.raises(BundleError, match="holds engines for target rtx4090"):
        restore_files(options, Notes())


def test_engines_for_another_gpu_are_refused_before_they_are_built(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_request, "require_driver", lambda: None)
    monkeypatch.setattr(compatible, "find_driver", lambda _gpu: Driver("13.0", "8.6"))
    request = BundleRequest(checkpoint=tmp_path / "none", target="rtx4090", precision="fp16")
    with pytest.raises(MisuseError, match=r"cuda has 8\.6: take --target rtx3090"):
        restore_files(RunOptions((clip,), str(tmp_path / "out.mp4"), request=request), Notes())


@pytest.mark.parametrize(
    ("trace", "error", "message"),
    [
        ("in.mp4", MisuseError, "is INPUT: give the trace a name of its own"),
        ("out.mp4", MisuseError, "is OUTPUT: give the trace a name of its own"),
        ("folder", MisuseError, "is a directory, expected the name of a file"),
        ("there.json", MisuseError, "already exists: choose another name"),
        ("none/t.json", OutputError, "none"),
    ],
)
def test_a_trace_that_would_overwrite_something_is_refused_first(
    bundle: Bundle, tmp_path: Path, trace: str, error: type[SwiftVRError], message: str
) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("in.mp4", "there.json"):
        (tmp_path / name).write_bytes(b"precious")
    options = options_for(bundle, tmp_path / "in.mp4", tmp_path / "out.mp4", trace=tmp_path / trace)
    with pytest.raises(error, match=message):
        restore_files(options, Notes())
    assert (tmp_path / "there.json").read_bytes() == b"precious"


def test_an_existing_trace_is_overwritten_if_that_is_allowed(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    trace.write_bytes(b"old")
    sink = SinkOptions(overwrite=True)
    restore_files(options_for(bundle, clip, tmp_path / "out.mp4", trace=trace, sink=sink), Notes())
    assert json.loads(trace.read_text())


@pytest.mark.parametrize(
    ("overwrite", "resume", "said"),
    [
        (False, True, "the same command with --skip-existing restores the other files"),
        (False, False, "the same command with --skip-existing instead of --no-resume restores the other files"),
        (True, True, ""),
    ],
)
def test_an_interrupted_batch_says_how_to_continue(  # many parameters: fixtures
    bundle: Bundle,
    clips: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overwrite: bool,
    resume: bool,
    said: str,
) -> None:
    """`-y` excludes `--skip-existing`, so nothing is said there."""
    heard: list[object] = []

    def fleet(*_: object) -> list[object]:
        heard.append(leaving._held.advice)
        return []

    monkeypatch.setattr(module, "run_fleet", fleet)
    request, sink = BundleRequest(bundle=bundle.path), SinkOptions(overwrite=overwrite)
    run = RunOptions(tuple(clips), f"{tmp_path}/out", request=request, sink=sink, resume=resume)
    restore_files(run, RecordingDisplay())
    assert heard == [said]


def test_devices_share_one_video(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    display = Notes()
    restore_files(options_for(bundle, clip, tmp_path / "out.mp4", devices="cpu,cpu"), display)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert video_pts(tmp_path / "out.mp4") == video_pts(clip)
    assert [result.status for result in display.results] == ["done"]


def test_devices_do_not_share_images(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(b"")
    with pytest.raises(SwiftVRError):
        restore_files(options_for(bundle, tmp_path / "in.png", tmp_path / "out.png", devices="cpu,cpu"), Notes())


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize(
    ("engines", "device", "gpu"), [(True, None, True), (False, None, False), (False, "cuda", True)]
)
def test_a_cluster_is_asked_for_what_the_bundle_runs_on_once_that_is_found(  # many parameters: fixtures and the case
    bundle: Bundle, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    engines: bool, device: str | None, gpu: bool, sources: int,
) -> None:  # fmt: skip
    """What suits this machine decides if nobody names a bundle. It may be engines."""
    found = write_engine_bundle(tmp_path / "engines", bundle) if engines else bundle
    inputs = [clip, Path(shutil.copy(clip, tmp_path / "b.mp4"))][:sources]
    done: list[object] = []

    def find(*_arguments: object) -> Bundle:
        done.append("found")
        return found

    def connect(_cluster: ClusterOptions, _opening: OpenOptions, *, gpu: bool, **_display: object) -> NoReturn:
        done.append(gpu)
        raise MachineError("connected")

    monkeypatch.setattr(batch, "find_and_name_bundle", find)
    monkeypatch.setattr(ClusterRun, "connect", connect)
    output = tmp_path / ("out.mp4" if sources == 1 else "out")
    options = RunOptions(tuple(inputs), str(output), cluster="auto", device=device, threads=1)
    with pytest.raises(MachineError, match=r"^connected$"):
        restore_files(options, Notes())
    assert done == ["found", gpu]


def test_a_cluster_that_cannot_be_used_is_told_before_a_bundle_is_built(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_cluster, "find_spec", lambda _package: None)
    monkeypatch.setattr(batch, "find_and_name_bundle", None)
    for sources, output in (((clip,), "out.mp4"), ((clip, tmp_path / "b.mp4"), "out")):
        shutil.copy(clip, tmp_path / "b.mp4")
        with pytest.raises(MachineError, match="--cluster needs the package 'ray'"):
            restore_files(RunOptions(sources, str(tmp_path / output), cluster="auto"), Notes())
