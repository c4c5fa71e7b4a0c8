"""Pictures restored in tiles: as many as went in, the same however a run goes, and of the memory that was said."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt import Bundle, MediaError, MisuseError, Restorer
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.runtime.devices.ort import graph_bytes
from swiftvr_trt.runtime.media import SinkOptions, open_source
from swiftvr_trt.runtime.restore import dry_run, run
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.dry_run import plan_files
from swiftvr_trt.runtime.restore.job import Job
from swiftvr_trt.runtime.restore.preview import Preview
from swiftvr_trt.runtime.restore.run import RunOptions, only_job, restore_files
from swiftvr_trt.runtime.restore.segments.piece import segments_folder
from swiftvr_trt.runtime.restore.tiled import TiledSession, tiled_bytes
from swiftvr_trt.runtime.stream import tiles
from swiftvr_trt.runtime.stream.buffers import used_stages
from swiftvr_trt.runtime.stream.plan import plan_memory
from swiftvr_trt.runtime.stream.tiles import Tiling
from tests.clips import write_clip
from tests.conftest import BundleFactory
from tests.runtime.media.videos import EVEN, frames_of, make_video
from tests.runtime.restore.fleet_lab import RecordingDisplay
from tests.runtime.restore.segments.lab import content

SIZE, TILE = Resolution(160, 132), Resolution(100, 132)
COUNT = 21
LOSSLESS = SinkOptions(crf=0, preset="ultrafast")
"""Pictures are then the same, however many pieces there are."""


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle()


@pytest.fixture(scope="module")
def restorer(bundle: Bundle) -> Iterator[Restorer]:
    with Restorer.open(bundle, threads=1) as opened:
        yield opened


def frames(count: int = COUNT) -> list[np.ndarray]:
    return [synthetic_frame(index, 66, 80) for index in range(count)]


def restored(restorer: Restorer, tiling: Tiling, count: int = COUNT) -> list[np.ndarray]:
    with TiledSession(restorer, tiling) as session:
        found = [picture for frame in frames(count) for picture in session.feed(frame)]
        return [*found, *session.flush()]


@pytest.mark.parametrize("count", [1, 5, COUNT])
def test_frames_in_are_frames_out(restorer: Restorer, count: int) -> None:
    pictures = restored(restorer, Tiling(SIZE, TILE, 40), count)
    assert [picture.shape for picture in pictures] == [(132, 160, 3)] * count
    assert {picture.dtype for picture in pictures} == {np.dtype(np.uint8)}


def test_a_tile_is_what_its_part_of_the_video_gives(restorer: Restorer) -> None:
    tiling = Tiling(SIZE, TILE, 40)
    pictures = restored(restorer, tiling)
    for number, (tile, weights) in enumerate(zip(tiling.tiles, tiling.weights, strict=True)):
        parts = (tuple(tiling.parts(frame))[number] for frame in frames())
        for picture, alone in zip(pictures, restorer.restore(parts), strict=True):
            inner = weights[..., 0] == 1
            assert (picture[tile.place][inner] == alone[inner]).all()


def test_a_stream_may_begin_in_the_middle(restorer: Restorer) -> None:
    tiling = Tiling(SIZE, TILE, 40)
    expected, cut = restored(restorer, tiling), restorer.cut(2)
    with TiledSession(restorer, tiling) as session:
        session.begin_at(cut, iter(frames()[cut.lead : cut.frame]))
        found = [picture for frame in frames()[cut.frame :] for picture in session.feed(frame)]
        found += session.flush()
    assert len(found) == COUNT - cut.emitted > 0
    assert all((one == other).all() for one, other in zip(found, expected[cut.emitted :], strict=True))


def test_a_session_may_be_used_again(restorer: Restorer) -> None:
    with TiledSession(restorer, Tiling(SIZE, TILE, 40)) as session:
        session.feed(frames()[0])
        session.reset()
        assert session.drain() == []
        assert sum(len(session.feed(frame)) for frame in frames()) + len(session.flush()) == COUNT


def test_much_larger_frames_are_shrunk_to_the_output(restorer: Restorer) -> None:
    with TiledSession(restorer, Tiling(SIZE, TILE, 40)) as session:
        assert session.fit(np.zeros((600, 800, 3), np.uint8)).shape == (132, 160, 3)
        assert session.fit(np.zeros((66, 80, 3), np.uint8)).shape == (66, 80, 3)


def test_memory_grows_with_the_tiles(bundle: Bundle) -> None:
    few, many = Tiling(Resolution(190, 132), TILE, 10), Tiling(Resolution(190, 264), TILE, 10)
    needed = [tiled_bytes(tiling, bundle.manifest, (height, 95)) for tiling, height in ((few, 66), (many, 132))]
    assert needed[1] / needed[0] == pytest.approx(len(many.tiles) / len(few.tiles), rel=0.05)


@pytest.fixture(scope="module", autouse=True)
def small_tiles() -> Iterator[None]:
    """Tiles may be as small as the bundle."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(tiles, "LEAST_SIDE", 16)
        monkeypatch.setattr(tiles, "Tiling", lambda size, tile: Tiling(size, tile, 40))
        yield


def options(bundle: Bundle, sources: Iterable[Path], output: Path | str, **changes: Any) -> RunOptions:
    changes.setdefault("request", BundleRequest(bundle=bundle.path, resolution=str(SIZE)))
    changes.setdefault("sink", LOSSLESS)
    return RunOptions(tuple(sources), str(output), tile="auto", threads=1, **changes)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [write_clip(folder / name, frames=count) for name, count in (("a.mp4", 30), ("b.mp4", 6))]


@pytest.fixture(scope="module")
def alone(bundle: Bundle, clips: list[Path]) -> list[dict[str, list[Any]]]:
    """What the outputs of all clips hold, each restored by itself; and that it was in tiles."""
    found = []
    for clip in clips:
        display, whole = RecordingDisplay(), clip.with_name(f"whole-{clip.name}")
        restore_files(options(bundle, [clip], whole), display)
        assert any("tiles:  3 of 100x132; their frames take at least " in line for line in display.lines)
        found.append(content(whole))
    return found


@pytest.mark.parametrize("output", ["out.mp4", "out.y4m"])
def test_a_video_is_restored_in_tiles(bundle: Bundle, tmp_path: Path, output: str) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=13)
    restore_files(options(bundle, [clip], tmp_path / output, sink=SinkOptions()), RecordingDisplay())
    with av.open(tmp_path / output) as container:
        assert [(frame.width, frame.height) for frame in container.decode(video=0)] == [(160, 132)] * 13


def test_an_output_that_is_one_tile_is_restored_as_without_tiles(bundle: Bundle, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=9)
    request = BundleRequest(bundle=bundle.path)
    restore_files(
        RunOptions((clip,), str(tmp_path / "plain.mp4"), request=request, sink=LOSSLESS, threads=1), RecordingDisplay()
    )
    display = RecordingDisplay()
    request = replace(request, resolution=str(TILE))
    restore_files(options(bundle, [clip], tmp_path / "tiled.mp4", request=request), display)
    assert not any("tiles:" in line for line in display.lines)
    assert content(tmp_path / "tiled.mp4") == content(tmp_path / "plain.mp4")


def test_a_batch_makes_the_same_files(
    bundle: Bundle, clips: list[Path], alone: list[dict[str, list[Any]]], tmp_path: Path
) -> None:
    display = RecordingDisplay()
    restore_files(options(bundle, clips, f"{tmp_path}/out/"), display)
    assert [content(tmp_path / "out" / clip.name) for clip in clips] == alone
    told = [line.partition(";")[0] for line in display.lines if "tiles:" in line]
    assert told == [f"{clip.name}: tiles:  3 of 100x132" for clip in clips]


def test_several_devices_go_on_with_what_one_began(
    bundle: Bundle,
    clips: list[Path],
    alone: list[dict[str, list[Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "out.mp4"
    monkeypatch.setattr(run, "only_job", lambda asked: replace(only_job(asked), piece_s=8 / 25))

    def interrupt(_name: str) -> None:
        if list(segments_folder(output).glob("0*.json")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_files(options(bundle, clips[:1], output), RecordingDisplay(interrupt))
    for mark in sorted(segments_folder(output).glob("0*.json"))[1:]:
        mark.unlink()
    whole = RunOptions((clips[0],), str(output), request=BundleRequest(bundle=bundle.path), sink=LOSSLESS)
    with pytest.raises(MediaError, match="the size of its tiles was 100x132, now none"):
        restore_files(whole, RecordingDisplay())
    display = RecordingDisplay()
    restore_files(options(bundle, clips[:1], output, devices="cpu,cpu"), display)
    assert any("going on after an interruption" in line for line in display.lines)
    assert sum("tiles:  3 of 100x132" in line for line in display.lines) == 1
    assert content(output) == alone[0]


def test_a_preview_is_in_tiles(bundle: Bundle, clips: list[Path], tmp_path: Path) -> None:
    display = RecordingDisplay()
    preview = Preview(Fraction(4, 25), Fraction(0))
    restore_files(options(bundle, clips[:1], tmp_path / "out.mkv", preview=preview), display)
    assert any("tiles:  3 of 100x132" in line for line in display.lines)
    with av.open(tmp_path / "out.mkv") as container:
        assert [frame.width for frame in container.decode(video=0)] == [2 * SIZE.width] * 4


@pytest.mark.parametrize("more", [{}, {"devices": "cpu,cpu"}])
def test_a_dry_run_says_the_tiles_and_their_memory(
    bundle: Bundle, clips: list[Path], tmp_path: Path, more: dict[str, str]
) -> None:
    plans = list(plan_files(options(bundle, clips, f"{tmp_path}/out/", **more), RecordingDisplay()))
    assert [len(plan.tiling.tiles) for plan in plans] == [3, 3]
    (needed,) = {plan.memory.ram for plan in plans if plan.memory is not None}
    weights = sum(entry.size for entry in bundle.manifest.files)
    assert needed == weights + tiled_bytes(Tiling(SIZE, TILE, 40), bundle.manifest, (34, 56))
    assert list(tmp_path.iterdir()) == []


def test_each_tile_has_its_buffers_on_a_gpu_and_they_share_the_rest(bundle: Bundle, clips: list[Path]) -> None:
    with open_source(clips[0]) as source:
        need = dry_run._memory(bundle, source.info, Tiling(SIZE, TILE, 40), "cuda:0")
    plan = plan_memory(bundle.manifest, 34, 100)  # 56 columns are no half of 160: parts are resized to tiles
    graphs = graph_bytes(bundle, used_stages(plan.buffers))
    assert need.gpu == graphs + plan.shared_bytes + 3 * plan.device.nbytes
    assert need.ram > 3 * plan.host.nbytes


def test_ten_bits_stay_so_in_tiles(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: set[np.dtype] = set()
    feed = TiledSession.feed

    def noted(session: TiledSession, frame: np.ndarray) -> list[np.ndarray]:
        taken.add(frame.dtype)
        return feed(session, frame)

    monkeypatch.setattr(TiledSession, "feed", noted)
    clip = make_video(tmp_path / "in.mkv", EVEN[:5], codec="ffv1", prepare=frames_of(56, 34, "yuv420p10le"))
    restore_files(options(bundle, [clip], tmp_path / "o.mkv", sink=SinkOptions(codec="ffv1")), RecordingDisplay())
    assert taken == {np.dtype(np.uint16)}
    with av.open(tmp_path / "o.mkv") as container:
        assert [frame.format.name for frame in container.decode(video=0)] == ["yuv420p10le"] * 5


def test_a_job_keeps_its_tiling_on_the_way_to_another_process(tmp_path: Path) -> None:
    job = Job(tmp_path / "in.mp4", "out.mp4", tile="auto", tiling=Tiling(SIZE, TILE, 40))
    assert Job.from_dict(json.loads(json.dumps(job.to_dict()))) == job


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"tile": "auto", "overlap": True}, "--tile and --overlap were both given"),
        ({"tile": "big"}, "--tile is 'big', expected auto, or WIDTHxHEIGHT"),
    ],
)
def test_what_tiles_cannot_do_is_refused_at_once(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    with pytest.raises(MisuseError, match=words):
        RunOptions((tmp_path / "a.mkv", tmp_path / "b.mkv"), f"{tmp_path}/out/", **more)
