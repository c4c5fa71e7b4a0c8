"""Runs in pieces: interrupted anywhere and resumed, the output is that of a run without interruption."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt import Bundle, BundleError, MachineError, MediaError, OutputError
from swiftvr_trt.runtime.media.base import SinkOptions, SourceInfo
from swiftvr_trt.runtime.media.index import VideoIndex, index_video
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.restore import pipeline
from swiftvr_trt.runtime.restore.pace import Pace
from swiftvr_trt.runtime.restore.pipeline import Progress
from swiftvr_trt.runtime.restore.segments import reading, resumable, room
from swiftvr_trt.runtime.restore.segments.grid import Grid
from swiftvr_trt.runtime.restore.segments.join import join_pieces
from swiftvr_trt.runtime.restore.segments.piece import segments_folder
from swiftvr_trt.runtime.restore.segments.store import tidy
from tests.conftest import BundleFactory
from tests.runtime.media.test_captions import captions_of, make_captioned
from tests.runtime.media.test_holding import make_sound

from .lab import Interruption, content, interrupt_after, restore, without, write_clip


@dataclass(frozen=True)
class Lab:
    """A bundle, a video, and what its output holds without interruption."""

    bundle: Bundle
    source: Path
    expected: dict[str, list[Any]]


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_the_output_is_what_a_link_to_nothing_leads_to(tmp_path: Path, mini_bundle: BundleFactory) -> None:
    output = tmp_path / "out.mkv"
    output.symlink_to(tmp_path / "real.mkv")
    assert restore(write_clip(tmp_path / "in.mp4", 8), output, mini_bundle(clip_len=4)).taken is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mkv", "real.mkv"]
    assert output.is_symlink()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_run_that_goes_on_makes_the_same_file(tmp_path: Path, mini_bundle: BundleFactory, suffix: str) -> None:
    bundle, source = mini_bundle(clip_len=4), write_clip(tmp_path / "in.mp4", 100)
    whole, output = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    done = restore(source, whole, bundle)
    assert (done.restored, done.kept) == (100, 0)
    expected = content(whole)
    assert len(expected["pictures"]) == 100
    assert len(expected["sound"]) > 90
    said: list[str] = []
    for frames in (10, 30, 60):
        with pytest.raises(Interruption):
            restore(source, output, bundle, on_progress=interrupt_after(frames), say=said.append)
        assert not output.exists()
    again = restore(source, output, bundle, say=said.append)
    assert again.kept >= 50
    assert again.kept + again.restored == 100
    assert content(output) == expected
    assert list(tmp_path.glob("*.segments")) == []


def test_a_run_that_goes_on_with_joined_recordings_makes_the_same_file(
    tmp_path: Path, mini_bundle: BundleFactory
) -> None:
    bundle, one, source = mini_bundle(clip_len=4), write_clip(tmp_path / "one.ts", 24), tmp_path / "in.ts"
    source.write_bytes(one.read_bytes() * 2)
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    restore(source, whole, bundle)
    expected = content(whole)
    assert len(expected["pictures"]) == 48
    assert len(expected["sound"]) == 2 * len(content(one)["sound"])
    assert abs(float(expected["sound"][-1][0]) - 48 / 25) < 0.1
    with pytest.raises(Interruption):
        restore(source, output, bundle, on_progress=interrupt_after(30))
    assert restore(source, output, bundle).kept
    assert content(output) == expected


@pytest.mark.parametrize(("vf", "frames"), [("fps=50", 80), ("tmix=frames=3", 40), ("framestep=2,hflip", 20)])
def test_filters_that_remember_go_on_as_if_nothing_had_happened(
    tmp_path: Path, mini_bundle: BundleFactory, vf: str, frames: int
) -> None:
    bundle, source, output = mini_bundle(clip_len=4), write_clip(tmp_path / "in.mp4", 40), tmp_path / "out.mp4"
    reading = SourceOptions(vf=vf)
    restore(source, tmp_path / "whole.mp4", bundle, reading=reading, chunks=1)
    said: list[str] = []
    folder = finished_pieces(Lab(bundle, source, {}), output, reading=reading, chunks=1)
    for mark in sorted(folder.glob("0*.json"))[-2:]:
        mark.unlink()
    with pytest.raises(MediaError, match="the way to read the input was"):
        restore(source, output, bundle, chunks=1)
    done = restore(source, output, bundle, reading=reading, chunks=1, say=said.append)
    assert 0 < done.kept < frames == done.kept + done.restored  # the chunk before a gap does not count twice
    assert content(output) == content(tmp_path / "whole.mp4")
    assert len(content(output)["pictures"]) == frames
    assert any("since its frames go through filters" in line for line in said)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, mini_bundle: BundleFactory) -> Lab:
    """A clip of 60 frames, and its output from a run without interruption, in pieces of 8 frames."""
    folder, bundle = tmp_path_factory.mktemp("lab"), mini_bundle(clip_len=4)
    source, whole = write_clip(folder / "in.mp4", 60), folder / "whole.mp4"
    restore(source, whole, bundle)
    return Lab(bundle, source, content(whole))


def finished_pieces(lab: Lab, output: Path, remove: tuple[int, ...] = (), **options: Any) -> Path:
    """All pieces of an output whose last step was interrupted, without some of them. Returns their folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resumable, "join_pieces", interrupted)
        with pytest.raises(Interruption):
            restore(lab.source, output, lab.bundle, **options)
    folder = segments_folder(output)
    for piece in remove:
        (folder / f"{piece:05}.json").unlink(missing_ok=True)
    return folder


def interrupted(*_: object) -> None:
    raise Interruption


@pytest.mark.parametrize("gone", [(), (0,), (3,), (0, 2, 5), (6,), (0, 1, 2, 3, 4, 5, 6)])
def test_any_missing_pieces_are_restored_again(tmp_path: Path, lab: Lab, gone: tuple[int, ...]) -> None:
    output = tmp_path / "out.mp4"
    folder = finished_pieces(lab, output, gone)
    kept = len(list(folder.glob("0*.json")))
    said: list[str] = []
    done = restore(lab.source, output, lab.bundle, say=said.append)
    assert content(output) == lab.expected
    assert done.kept + done.restored == 60
    assert (done.restored == 0) == (not gone)
    assert (f"going on after an interruption: {done.kept} frames are kept from before" in said) == (kept > 0)


def test_a_video_without_an_index_is_read_from_its_beginning(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, said = tmp_path / "out.mp4", list[str]()
    finished_pieces(lab, output, (2, 5))
    monkeypatch.setattr(reading, "index_video", lambda _info: "its clock jumps back")
    restore(lab.source, output, lab.bundle, say=said.append)
    assert content(output) == lab.expected
    assert any("read from its beginning to the place, since its clock jumps back" in line for line in said)


def test_a_wrong_index_is_noticed_and_not_used(tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    output, said = tmp_path / "out.mp4", list[str]()
    finished_pieces(lab, output, (5,))

    def wrong(info: SourceInfo) -> VideoIndex | str:
        index = index_video(info)
        assert isinstance(index, VideoIndex)
        return replace(index, times=(*index.times[:50], *(time + 1 for time in index.times[50:])))

    monkeypatch.setattr(reading, "index_video", wrong)
    restore(lab.source, output, lab.bundle, say=said.append)
    assert content(output) == lab.expected
    assert any("the video is read in order instead" in line for line in said)


@pytest.mark.parametrize("frames", range(29, 36))
def test_every_length_around_a_border_of_pieces(tmp_path: Path, lab: Lab, frames: int) -> None:
    """A piece begins at frame 29: streams of 29 to 32 frames end in one of so few frames that it has no chunk."""
    source = write_clip(tmp_path / "in.mp4", frames, sound=False)
    restore(source, tmp_path / "whole.mp4", lab.bundle)
    expected = content(tmp_path / "whole.mp4")
    assert len(expected["pictures"]) == frames
    short = Lab(lab.bundle, source, expected)
    last = Grid(lab.bundle.manifest, 2).count(frames) - 1
    for gone in ((last,), (last - 1,), (last - 1, last)):
        output = tmp_path / f"out{len(gone)}{gone[0]}.mp4"
        finished_pieces(short, output, gone)
        restore(source, output, lab.bundle)
        assert content(output) == expected, gone


@pytest.mark.parametrize(
    ("lost", "gone"),
    [
        (range(5, 6), (6, 7)),  # too early to be among the frames from which the state is rebuilt
        (range(5, 6), (5,)),
        (range(45, 46), (3, 4)),
        (range(64, 120), (2, 3)),
    ],
)
def test_a_damaged_video_that_goes_on_makes_the_same_file(
    tmp_path: Path, lab: Lab, lost: range, gone: tuple[int, ...]
) -> None:
    """Its index promises frames that the decoder does not give, which shifts the numbers of all that follow."""
    source = without(write_clip(tmp_path / "intact.mp4", 120), lost, tmp_path / "in.mp4")
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    shortfall = restore(source, whole, lab.bundle, chunks=4).shortfall
    assert shortfall
    assert len(content(whole)["pictures"]) <= 120 - len(lost)
    finished_pieces(replace(lab, source=source), output, gone, chunks=4)
    done = restore(source, output, lab.bundle, chunks=4)
    assert content(output) == content(whole)
    assert done.shortfall == shortfall


AGAIN = [(True, ""), (False, " without --no-resume")]
"""What goes on with the pieces is not what would start over again."""


@pytest.mark.parametrize(("resume", "without"), AGAIN)
def test_an_interruption_says_what_is_kept(tmp_path: Path, lab: Lab, resume: bool, without: str) -> None:
    said: list[str] = []
    output, stop = tmp_path / "out.mp4", interrupt_after(30)
    with pytest.raises(Interruption):
        restore(lab.source, output, lab.bundle, on_progress=stop, say=said.append, resume=resume)
    assert said[-1].endswith(f"the same command{without} goes on from there")
    assert "frames are kept in" in said[-1]


@pytest.mark.parametrize(("resume", "without"), AGAIN)
def test_no_room_to_join_is_said_and_nothing_is_lost(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch, resume: bool, without: str
) -> None:
    output = tmp_path / "out.mp4"
    with monkeypatch.context() as patch:
        patch.setattr(room, "free_bytes", lambda _folder: 1000)
        with pytest.raises(OutputError, match=f"free: free some space and run the same command again{without}, which"):
            restore(lab.source, output, lab.bundle, resume=resume)
    done = restore(lab.source, output, lab.bundle)
    assert (done.restored, done.kept) == (0, 60)
    assert content(output) == lab.expected


@pytest.mark.parametrize("gone", [(), (2,)])
def test_pieces_of_another_encoder_are_not_joined(tmp_path: Path, lab: Lab, gone: tuple[int, ...]) -> None:
    """As where another machine has encoded some, or NVENC some of them only."""
    output = tmp_path / "out.mp4"
    folder = finished_pieces(lab, output, gone)
    mark = folder / "00001.json"
    mark.write_text(mark.read_text().replace('"libx264"', '"h264_nvenc"'))
    with pytest.raises(MachineError, match=r"encoded by h264_nvenc do not join those by libx264: .* --no-resume"):
        restore(lab.source, output, lab.bundle)
    assert (output.exists(), len(list(folder.glob("0*.json")))) == (False, 8 - len(gone))
    assert restore(lab.source, output, lab.bundle, resume=False).restored == 60


def test_another_input_under_the_same_name_is_refused(tmp_path: Path, lab: Lab) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(lab.source.read_bytes())
    finished_pieces(replace(lab, source=source), tmp_path / "out.mp4")
    write_clip(source, 61)
    with pytest.raises(MediaError, match=r"the input was .*, now"):
        restore(source, tmp_path / "out.mp4", lab.bundle)
    done = restore(source, tmp_path / "out.mp4", lab.bundle, resume=False)
    assert (done.restored, done.kept) == (61, 0)


def test_pieces_whose_output_is_complete_are_tidied(tmp_path: Path, lab: Lab) -> None:
    """A run that is killed between its last two steps leaves both."""
    output = tmp_path / "out.mp4"
    folder = finished_pieces(lab, output)
    tidy(output, keep_pieces=False)
    assert folder.exists()  # there is no output yet
    restore(lab.source, tmp_path / "whole.mp4", lab.bundle)
    output.write_bytes((tmp_path / "whole.mp4").read_bytes())
    tidy(output)
    assert folder.exists()
    tidy(output, keep_pieces=False)
    assert not folder.exists()


@pytest.mark.parametrize("other", ["older", "shorter", "no video", "not all pieces"])
def test_pieces_are_kept_beside_an_output_of_another_run(tmp_path: Path, lab: Lab, other: str) -> None:
    output = tmp_path / "out.mp4"
    folder = finished_pieces(lab, output, (6,) if other == "not all pieces" else ())
    if other == "no video":
        output.write_text("precious")
    else:
        source = write_clip(tmp_path / "in.mp4", 59) if other == "shorter" else lab.source
        restore(source, tmp_path / "whole.mp4", lab.bundle)
        output.write_bytes((tmp_path / "whole.mp4").read_bytes())
    if other == "older":
        os.utime(output, (0, 0))
    tidy(output, keep_pieces=False)
    assert folder.exists()


@pytest.mark.parametrize("when", ["during the run", "while joining"])
def test_a_name_that_is_taken_meanwhile_costs_nothing(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    output = tmp_path / "out.mp4"

    def take(*_: object) -> None:
        if not output.exists():
            output.write_text("precious")

    def join_late(*arguments: Any) -> None:
        take()
        join_pieces(*arguments)

    if when == "while joining":
        monkeypatch.setattr(resumable, "join_pieces", join_late)
    done = restore(lab.source, output, lab.bundle, on_progress=take if when == "during the run" else lambda _now: None)
    assert done.taken is not None
    assert done.taken.kept_as == tmp_path / "out (2).mp4"
    assert content(done.taken.kept_as) == lab.expected
    assert output.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out (2).mp4", "out.mp4"]


def test_a_folder_that_vanishes_is_named_and_nothing_is_promised(tmp_path: Path, lab: Lab) -> None:
    place, said = tmp_path / "gone", list[str]()
    place.mkdir()

    def vanish(now: Progress) -> None:
        if now.written > 20 and place.exists():
            place.rename(tmp_path / "elsewhere")

    with pytest.raises(OutputError, match=r"the folder .*gone has vanished"):
        restore(lab.source, place / "out.mp4", lab.bundle, on_progress=vanish, say=said.append)
    assert not any("kept" in line for line in said)


def test_the_time_to_go_counts_what_is_missing(tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    output, totals = tmp_path / "out.mp4", list[int | None]()
    finished_pieces(lab, output, (6,))

    class Recorded(Pace):
        def __init__(self, total: int | None, now: float) -> None:
            totals.append(total)
            super().__init__(total, now)

    monkeypatch.setattr(pipeline, "Pace", Recorded)
    done = restore(lab.source, output, lab.bundle)
    assert totals == [done.restored]


def test_a_bundle_that_does_not_say_its_reach_restores_and_cannot_go_on(tmp_path: Path, lab: Lab) -> None:
    """One of an early version: only a resume needs to know how far its stages remember."""
    manifest = lab.bundle.manifest
    early = replace(manifest, stages=tuple(replace(stage, reach=None) for stage in manifest.stages))
    bundle = replace(lab.bundle, manifest=early)
    restore(lab.source, tmp_path / "out.mp4", bundle)
    assert content(tmp_path / "out.mp4") == lab.expected
    finished_pieces(replace(lab, bundle=bundle), tmp_path / "again.mp4", (6,))
    with pytest.raises(BundleError, match=r"does not say how far stage encode remembers.*rebuild it"):
        restore(lab.source, tmp_path / "again.mp4", bundle)


def test_closed_captions_are_the_same_after_an_interruption(tmp_path: Path, mini_bundle: BundleFactory) -> None:
    bundle, source = mini_bundle(clip_len=4), make_captioned(tmp_path / "in.ts", 60, size=(32, 24))
    restore(source, tmp_path / "whole.mp4", bundle)
    with pytest.raises(Interruption):
        restore(source, tmp_path / "out.mp4", bundle, on_progress=interrupt_after(30))
    assert restore(source, tmp_path / "out.mp4", bundle).kept > 0
    assert captions_of(tmp_path / "out.mp4") == captions_of(tmp_path / "whole.mp4") == captions_of(source)
    assert sum(each is not None for each in captions_of(source)) == 30


def test_lost_captions_are_counted_over_all_runs(tmp_path: Path, mini_bundle: BundleFactory) -> None:
    bundle, source = mini_bundle(clip_len=4), make_captioned(tmp_path / "in.ts", 60, size=(32, 24))
    lossless = SinkOptions(codec="ffv1")
    with pytest.raises(Interruption):
        restore(source, tmp_path / "out.mkv", bundle, on_progress=interrupt_after(30), sink=lossless)
    done = restore(source, tmp_path / "out.mkv", bundle, sink=lossless)
    assert done.kept > 0
    assert ["of 30 frames are lost" in line for line in done.lost] == [True]


def test_sound_that_changes_its_format_is_the_same_after_an_interruption(
    tmp_path: Path, mini_bundle: BundleFactory
) -> None:
    bundle, source = mini_bundle(clip_len=4), make_sound(tmp_path / "in.mkv", "flac", seconds=2.4)
    done = restore(source, tmp_path / "whole.mov", bundle)
    assert ["becomes alac" in note for note in done.notes] == [True]
    with pytest.raises(Interruption):
        restore(source, tmp_path / "out.mov", bundle, on_progress=interrupt_after(30))
    assert restore(source, tmp_path / "out.mov", bundle).kept > 0
    assert content(tmp_path / "out.mov") == content(tmp_path / "whole.mov")
    assert len(content(tmp_path / "out.mov")["sound"]) > 20
