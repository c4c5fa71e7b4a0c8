"""A dry run says what the run would do, refuses what the run refuses, and leaves no trace."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from swiftvr_trt import Bundle, BundleError, SwiftVRError
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.graph import vet_graph
from swiftvr_trt.engines.bundle.lease import is_locked
from swiftvr_trt.engines.bundle.manifest import NETWORK_STAGES
from swiftvr_trt.runtime.devices import gpu
from swiftvr_trt.runtime.media import SinkOptions, open_source
from swiftvr_trt.runtime.media.trim import Trim
from swiftvr_trt.runtime.restore import dry_run
from swiftvr_trt.runtime.restore import run as module
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.dry_run import FilePlan, plan_files
from swiftvr_trt.runtime.restore.expected_bundle import BundleToBuild
from swiftvr_trt.runtime.restore.preview import Preview
from swiftvr_trt.runtime.restore.run import RunOptions, restore_files
from swiftvr_trt.runtime.restore.segments.piece import segments_folder
from swiftvr_trt.runtime.stream.frames import RGB16
from swiftvr_trt.runtime.stream.tiles import Tiling
from swiftvr_trt.text import format_bytes
from tests.clips import write_clip
from tests.runtime.media.images import folder

from .fleet_lab import RecordingDisplay
from .segments.test_store import add, opened, with_pieces


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a clip."""
    monkeypatch.chdir(tmp_path)
    write_clip(Path("in.mp4"))
    return tmp_path


def options(bundle: Bundle, source: str = "in.mp4", output: str = "out.mp4", **changes: Any) -> RunOptions:
    changes.setdefault("request", BundleRequest(bundle=bundle.path))
    return RunOptions((Path(source),), output, threads=1, **changes)


def plans(run: RunOptions, display: RecordingDisplay | None = None) -> list[FilePlan]:
    return list(plan_files(run, display or RecordingDisplay()))


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*")}


def test_what_is_planned_is_what_the_run_does(bundle: Bundle, place: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = snapshot(place)
    (plan,) = plans(options(bundle))
    assert snapshot(place) == before
    display = RecordingDisplay()
    with caplog.at_level("INFO", "swiftvr_trt"):
        restore_files(options(bundle), display)
    assert f"input: {plan.description}" in caplog.messages
    assert display.lines[0] == "input:  56x34, 25 frames/s, 0:01 long"
    assert isinstance(plan.bundle, Bundle)
    assert plan.bundle.path == bundle.path
    assert (plan.name, plan.device, plan.kept_frames, plan.frames) == ("", "cpu", 0, 30)
    assert plan.memory is not None
    assert plan.memory.gpu is None
    assert plan.memory.ram > sum(entry.size for entry in bundle.manifest.files)
    with av.open("out.mp4") as written:
        stream = written.streams.video[0].codec_context
        assert (plan.form.container, plan.form.codec, plan.form.pix_fmt) == ("mp4", "libx264", stream.pix_fmt)
        assert str(plan.size) == f"{stream.width}x{stream.height}"
        kinds = [each.type for each in written.streams]
    assert len(plan.form.copied) == kinds.count("audio") == 1
    assert plan.disk.low is not None
    assert plan.disk.high is not None
    assert plan.disk.low < Path("out.mp4").stat().st_size < plan.disk.high + 20_000


def make_existing_output(_bundle: Bundle) -> None:
    Path("out.mp4").write_bytes(b"precious")


def make_text(_bundle: Bundle) -> None:
    Path("in.mp4").write_text("no video")


def make_other_pieces(_bundle: Bundle) -> None:
    with_pieces(Path("out.mp4"))


def make_foreign_folder(_bundle: Bundle) -> None:
    Path("out.mp4.segments").mkdir()
    Path("out.mp4.segments", "diary.txt").write_text("mine")


def make_damaged_bundle(bundle: Bundle) -> None:
    shutil.copytree(bundle.path, "damaged")
    weights = Path("damaged", bundle.manifest.files[0].name)
    weights.write_bytes(weights.read_bytes()[:-1])


def nothing(_bundle: Bundle) -> None: ...


def make_image(_bundle: Bundle) -> None:
    folder(Path("images"), ["in.png"])


REFUSED: dict[str, tuple[Callable[[Bundle], None], dict[str, Any]]] = {
    "there is no input": (nothing, {"source": "none.mp4"}),
    "the input is no video": (make_text, {}),
    "the output exists": (make_existing_output, {}),
    "the output is the input": (nothing, {"output": "in.mp4", "sink": SinkOptions(overwrite=True)}),
    "there is no folder": (nothing, {"output": "none/out.mp4"}),
    "the folder is a file": (nothing, {"output": "in.mp4/out.mp4"}),
    "the suffix is unknown": (nothing, {"output": "out.xyz"}),
    "the encoder is unknown": (nothing, {"sink": SinkOptions(codec="nonsense")}),
    "the quality is out of range": (nothing, {"sink": SinkOptions(crf=60)}),
    "an image takes no codec": (nothing, {"output": "shots/", "sink": SinkOptions(crf=20)}),
    "one image for many frames": (nothing, {"output": "out.png"}),
    "no bundle is in the cache": (nothing, {"request": BundleRequest(cache=Path("cache"))}),
    "there is no bundle": (nothing, {"request": BundleRequest(bundle=Path("none"))}),
    "the bundle is damaged": (make_damaged_bundle, {"request": BundleRequest(bundle=Path("damaged"))}),
    "there is no checkpoint": (nothing, {"request": BundleRequest(checkpoint="none", cache=Path("cache"))}),
    "the checkpoint is none": (nothing, {"request": BundleRequest(checkpoint=".", cache=Path("cache"))}),
    "the clip length is odd": (
        nothing,
        {"request": BundleRequest(checkpoint="demo", clip_len=5, cache=Path("cache"))},
    ),
    "the cache is a file": (nothing, {"request": BundleRequest(checkpoint="demo", cache=Path("in.mp4"))}),
    "there is no GPU": (nothing, {"device": "cuda"}),
    "nothing answers at the cluster": (nothing, {"cluster": "localhost:1"}),
    "devices share no image": (make_image, {"source": "images/in.png", "output": "out.png", "devices": "cpu,cpu"}),
    "the trace is the input": (nothing, {"trace": Path("in.mp4")}),
    "the preview begins behind the end": (nothing, {"preview": Preview(Fraction(1), Fraction(100))}),
    "pieces of another run": (make_other_pieces, {}),
    "the folder of pieces is somebody else's": (make_foreign_folder, {}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_run_refuses_is_refused_in_the_same_words(bundle: Bundle, place: Path, case: str) -> None:
    prepare, changes = REFUSED[case]
    prepare(bundle)
    run = options(bundle, **changes)
    before, display = snapshot(place), RecordingDisplay()
    with pytest.raises(SwiftVRError) as planned:
        plans(run, display)
    assert snapshot(place) == before
    with pytest.raises(SwiftVRError) as happened:
        restore_files(run, RecordingDisplay())
    assert planned.value.exit_code == happened.value.exit_code
    if case != "the cache is a file":  # the process that builds stumbles over its lock
        assert type(planned.value) is type(happened.value)
        assert str(planned.value) == str(happened.value)
    assert [result.status for result in display.results] in ([], ["failed"])


def test_a_batch_says_which_files_would_fail(bundle: Bundle, place: Path) -> None:
    tapes = place / "tapes"
    (tapes / "1987").mkdir(parents=True)
    for name in ("a.mp4", "1987/b.mkv"):
        write_clip(tapes / name)
    (tapes / "c.mp4").write_text("no video")
    before, display = snapshot(place), RecordingDisplay()
    found: list[FilePlan] = []

    def collect(run: RunOptions) -> None:
        for plan in plan_files(run, display):
            found.append(plan)  # what came before the error is kept

    run = options(bundle, "tapes", "restored", suffix=".webm", recursive=True)
    with pytest.raises(SwiftVRError, match=r"1 of 3 files would fail: .*c\.mp4"):
        collect(run)
    assert snapshot(place) == before
    assert sorted((plan.name, plan.output) for plan in found) == [
        ("1987/b.mkv", str(Path("restored", "1987", "b.webm"))),
        ("a.mp4", str(Path("restored", "a.webm"))),
    ]
    assert {plan.form.codec for plan in found} == {"libvpx-vp9"}
    assert all(plan.form.converted == (("audio stream 1 (aac)", "opus"),) for plan in found)
    assert [(result.source, result.status) for result in display.results] == [(str(Path("tapes", "c.mp4")), "failed")]


def test_a_batch_on_several_devices_names_none(bundle: Bundle, place: Path) -> None:
    (plan,) = plans(options(bundle, output="restored", devices="cpu,cpu"))
    assert (plan.device, plan.output) == (None, str(Path("restored", "in.mp4")))
    assert not (place / "restored").exists()


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("output", ["restored", "out.mp4"])
def test_the_devices_that_were_named_count(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    """Not the one that the bundle is for, which this machine lacks."""
    monkeypatch.setattr(gpu, "has_driver", lambda: False)
    graphs = tmp_path / "graphs"
    shutil.copytree(bundle.path, graphs)
    manifest = json.loads((graphs / "manifest.json").read_text())
    manifest["recipe"]["target"] = "cuda"
    (graphs / "manifest.json").write_text(json.dumps(manifest))
    run = options(bundle, output=output, request=BundleRequest(bundle=graphs))
    with pytest.raises(SwiftVRError, match="no NVIDIA driver was found"):
        plans(run)
    (plan,) = plans(replace(run, devices="cpu,cpu"))
    assert plan.device is None
    assert plan.memory is not None
    assert plan.memory.gpu is None


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("output", ["restored", "out.mp4"])
def test_a_cluster_has_the_gpus_that_this_machine_lacks(
    engines: Bundle, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda: False)
    monkeypatch.setattr(module, "check_cluster", lambda _cluster: None)
    run = options(engines, output=output, cluster="ray://far.away:10001")
    (plan,) = plans(run)
    assert (plan.device, plan.memory) == (None, None)
    with pytest.raises(BundleError, match="the device is the CPU, but the bundle holds engines"):
        plans(replace(run, device="cpu"))


def test_outputs_that_are_there_are_skipped(bundle: Bundle, place: Path) -> None:
    (place / "out.mp4").write_bytes(b"done")
    display = RecordingDisplay()
    assert plans(options(bundle, skip_existing=True), display) == []
    assert [result.status for result in display.results] == ["skipped"]


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("more", [{}, {"skip_existing": True}, {"sink": SinkOptions(overwrite=True)}])
@pytest.mark.parametrize("batch", [True, False])
def test_what_a_killed_run_left_stays(
    bundle: Bundle, place: Path, batch: bool, more: dict[str, Any], held: bool
) -> None:
    """held: the output holds all pieces, else it was never begun and the folder of pieces is of no use."""
    written = place / "out" / "in.mp4" if batch else place / "out.mp4"
    written.parent.mkdir(exist_ok=True)
    if held:
        with opened(written) as store:
            add(store, 0, last=True)
        write_clip(written, frames=1)
    else:
        segments_folder(written).mkdir()
        segments_folder(written).joinpath("00000.piece").write_bytes(b"half")
    before = snapshot(place)
    with suppress(SwiftVRError):  # the output exists, or the pieces are of another run
        plans(options(bundle, output="out" if batch else "out.mp4", devices="cpu,cpu" if batch else None, **more))
    assert snapshot(place) == before


@pytest.mark.usefixtures("place")
def test_a_preview_is_twice_as_wide_and_silent(bundle: Bundle) -> None:
    (plan,) = plans(options(bundle, preview=Preview(Fraction(2, 5))))
    recipe = bundle.manifest.recipe
    assert (plan.size.width, plan.size.height) == (2 * recipe.width, recipe.height)
    assert (plan.frames, plan.form.copied) == (10, ())
    assert plan.disk.copies == 1


@pytest.mark.usefixtures("place")
def test_a_part_of_the_input_has_fewer_frames(bundle: Bundle) -> None:
    (plan,) = plans(options(bundle, trim=Trim(frames=7)))
    assert plan.frames == 7


def test_images_hold_no_sound(bundle: Bundle, place: Path) -> None:
    (plan,) = plans(options(bundle, output="shots/"))
    assert (plan.form.container, plan.form.codec) == ("images", "png")
    assert [reason for _, reason in plan.form.left_out] == ["images cannot hold it"]
    (plan,) = plans(options(bundle, output="shots/", sink=SinkOptions(audio=False)))
    assert [reason for _, reason in plan.form.left_out] == ["as asked for"]
    assert not (place / "shots").exists()


def test_a_bundle_that_is_missing_would_be_built(mini_checkpoint: Path, bundle: Bundle, place: Path) -> None:
    request = BundleRequest(checkpoint=mini_checkpoint, cache=place / "cache", clip_len=4)
    before = snapshot(place)
    (plan,) = plans(options(bundle, request=request))
    assert snapshot(place) == before
    assert isinstance(plan.bundle, BundleToBuild)
    assert plan.memory is None
    assert (plan.bundle.download, plan.bundle.recipe.clip_len) == (None, 4)
    assert plan.bundle.estimate is not None
    assert "of memory" in plan.bundle.estimate


def test_what_an_interrupted_run_kept_counts(bundle: Bundle, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"the input": "one", "the quality (crf)": "18"}
    monkeypatch.setattr(dry_run, "identity_of", lambda *_: settings)
    with_pieces(Path("out.mp4"))
    before = snapshot(place)
    (plan,) = plans(options(bundle))
    assert (plan.kept_frames, plan.resume) == (3, True)
    (plan,) = plans(options(bundle, resume=False))
    assert (plan.kept_frames, plan.resume) == (3, False)
    assert snapshot(place) == before
    assert not is_locked(Path("out.mp4.segments", "lock"))


@pytest.mark.usefixtures("place")
def test_a_full_disk_and_short_memory_are_warned_about(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "available_memory", lambda: 1000)
    monkeypatch.setattr(dry_run, "free_bytes", lambda _folder: 1000)
    display = RecordingDisplay()
    (plan,) = plans(options(bundle), display)
    assert plan.disk.free == 1000
    assert any("of memory, 0.0 MB are free" in warning for warning in display.warnings)
    assert any("free some space" in warning for warning in display.warnings)


def test_engines_are_planned_for_the_card_that_was_named(engines: Bundle) -> None:
    clip = write_clip(engines.path.parent / "clip.mp4")
    with open_source(clip) as source:
        need = dry_run._memory(engines, source.info, Tiling.whole(engines.manifest.recipe.resolution), "cuda:0")
    assert need.gpu is not None
    assert need.gpu > need.ram > 0


def test_graphs_on_a_gpu_are_planned_with_their_weights(bundle: Bundle) -> None:
    """Those of the transformer twice: ONNX Runtime has a session for each of its stages."""
    clip = write_clip(bundle.path.parent / "clip.mp4")
    with open_source(clip) as source:
        need = dry_run._memory(bundle, source.info, Tiling.whole(bundle.manifest.recipe.resolution), "cuda:0")
    files = {file.name: file.size for file in bundle.manifest.files}
    weights = sum(vet_graph(bundle.stage_path(name), files).weight_bytes for name in NETWORK_STAGES)
    assert need.gpu is not None
    assert need.gpu > weights > files["weights.bin"]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_a_gpu_that_is_too_small_for_all_tiles_is_warned_about(
    engines: Bundle, place: Path, monkeypatch: pytest.MonkeyPatch, wide: bool, overlap: bool
) -> None:
    """The card has room for one tile, but not for all of them."""
    tile = engines.manifest.recipe.resolution
    tiling = Tiling(Resolution(2 * tile.width, 2 * tile.height), tile, 2)
    with open_source(place / "in.mp4") as source:
        info = replace(source.info, form=RGB16) if wide else source.info
    need = dry_run._memory(engines, info, tiling, "cuda:0", overlap=overlap)
    assert need.gpu is not None
    card = SimpleNamespace(memory_bytes=need.gpu - 1)
    monkeypatch.setattr(dry_run, "find_card", lambda _target: card)
    planner = dry_run._Planner(options(engines, overlap=overlap), RecordingDisplay(), ("cuda:0",))
    disk = dry_run.DiskNeed(None, None, 0, 0)
    (said,) = planner._shortages(engines, info, tiling, replace(need, free=None), disk)
    assert f"needs {format_bytes(need.gpu)} for" in said
    assert f"frames in {len(tiling.tiles)} streams or tiles" in said
    assert said.endswith("for tiles, choose a smaller output")
    card.memory_bytes = need.gpu
    assert list(planner._shortages(engines, info, tiling, replace(need, free=None), disk)) == []
