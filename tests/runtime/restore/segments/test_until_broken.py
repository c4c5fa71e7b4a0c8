"""A video that cannot be read on in the middle: an error by default, an output with what there is if wanted."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from swiftvr_trt import Bundle
from swiftvr_trt.errors import MachineError, UnreadableInputError
from swiftvr_trt.runtime.media import pyav
from swiftvr_trt.runtime.media.trim import Trim
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.divided import look_at
from swiftvr_trt.runtime.restore.job import Job
from swiftvr_trt.runtime.restore.run import RunOptions, restore_files
from swiftvr_trt.runtime.restore.segments.piece import segments_folder
from tests.conftest import BundleFactory
from tests.runtime.restore.fleet_lab import RecordingDisplay

from .lab import content, restore, write_clip

FRAMES = 60
OPENS = "swiftvr_trt.runtime.media.contents.open_input"


@pytest.fixture(scope="module")
def tiny(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle(clip_len=4)


class BadDisk(io.FileIO):
    """A file one byte of which cannot be read. The disk is the only part that is not real."""

    def __init__(self, path: str, bad: int) -> None:
        super().__init__(path)
        self._bad = bad

    def read(self, size: int | None = -1) -> bytes:
        at = self.tell()
        if at == self._bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if at < self._bad:
            size = self._bad - at if size is None or size < 0 else min(size, self._bad - at)
        return super().read(size)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "in.mkv", FRAMES, sound=False, options={"bf": "0", "g": "12"})


BreakAt = Callable[[int], None]


@pytest.fixture
def break_at(source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BreakAt]:
    """Makes the middle of the packet of a frame of `source` unreadable."""
    with ExitStack() as opened:
        yield lambda frame: monkeypatch.setattr(OPENS, _opening(source, frame, opened))


def _opening(source: Path, frame: int, opened: ExitStack) -> Callable[..., Any]:
    with av.open(str(source)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][frame]
        assert packet.pos is not None
        bad = packet.pos + packet.size // 2

    def open_input(file: Any, *rest: Any) -> Any:
        if file != f"file:{source}":
            return pyav.open_input(file, *rest)
        disk = BadDisk(str(source), bad)
        opened.enter_context(disk)
        return pyav.open_input(disk, *rest)

    return open_input


@pytest.mark.parametrize(("first", "resume"), [(40, True), (33, False), (29, True)])
def test_the_run_ends_and_says_how_to_finish(  # many parameters: fixtures
    tmp_path: Path, tiny: Bundle, source: Path, break_at: BreakAt, first: int, resume: bool
) -> None:
    output = tmp_path / "out.mp4"
    break_at(first)
    with pytest.raises(UnreadableInputError) as error:
        restore(source, output, tiny, resume=resume)
    assert error.value.exit_code == 1
    line = str(error.value)
    assert "Input/output error" in line
    assert "frames are kept in" in line
    assert ("again without --no-resume once" in line) == (not resume)
    assert "--keep-going" in line
    assert not output.exists()
    assert segments_folder(output).exists()
    done = restore(source, output, tiny, keep_going=True)
    assert done.kept > 0
    assert done.shortfall is not None
    assert "Input/output error" in done.shortfall
    assert done.kept <= len(content(output)["pictures"]) <= first
    assert not segments_folder(output).exists()


@pytest.mark.parametrize(("name", "scene_cut"), [("out", "keep"), ("out.mkv", "reset")])
def test_a_run_without_pieces_keeps_what_it_restored(
    tmp_path: Path, tiny: Bundle, source: Path, break_at: BreakAt, name: str, scene_cut: str
) -> None:
    output = tmp_path / name
    break_at(40)
    request = BundleRequest(bundle=tiny.path)
    options = RunOptions((source,), str(output), request=request, threads=1, scene_cut=scene_cut)
    with pytest.raises(MachineError, match=r"Input/output error.*holds what could be restored"):
        restore_files(options, RecordingDisplay())
    found = len(content(output)["pictures"]) if output.is_file() else len(list(output.iterdir()))
    assert 30 < found <= 40


def test_a_run_without_pieces_that_restored_nothing_says_why(
    tmp_path: Path, tiny: Bundle, source: Path, break_at: BreakAt
) -> None:
    break_at(20)
    trim = Trim(start=Fraction(1))
    request = BundleRequest(bundle=tiny.path)
    options = RunOptions((source,), str(tmp_path / "out"), request=request, threads=1, trim=trim)
    with pytest.raises(UnreadableInputError, match="Input/output error"):
        restore_files(options, RecordingDisplay())
    assert not (tmp_path / "out").exists()


def test_the_run_goes_on_once_the_input_can_be_read(
    tmp_path: Path, tiny: Bundle, source: Path, break_at: BreakAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    restore(source, whole, tiny)
    break_at(40)
    with pytest.raises(UnreadableInputError):
        restore(source, output, tiny)
    monkeypatch.undo()
    done = restore(source, output, tiny)
    assert done.kept > 0
    assert (done.kept + done.restored, done.shortfall) == (FRAMES, None)
    assert content(output) == content(whole)


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_run_that_goes_on_gets_as_far_as_one_without_interruption(
    tmp_path: Path, tiny: Bundle, source: Path, break_at: BreakAt, keep_going: bool
) -> None:
    """It needs the index, and the index needs the whole file."""
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    break_at(40)
    restore(source, whole, tiny, keep_going=True)
    with pytest.raises(UnreadableInputError):
        restore(source, output, tiny)
    for mark in sorted(segments_folder(output).glob("0*.json"))[2:]:  # as if interrupted after two pieces
        mark.unlink()
    if not keep_going:
        with pytest.raises(UnreadableInputError, match=r"failed after 40 frames: Input/output error"):
            restore(source, output, tiny)
        assert len(list(segments_folder(output).glob("0*.json"))) > 2
    restore(source, output, tiny, keep_going=True)
    assert content(output) == content(whole)


def test_devices_leave_the_video_to_one_that_reads_it_in_order(tmp_path: Path, source: Path, break_at: BreakAt) -> None:
    break_at(40)
    video = look_at(Job(source, str(tmp_path / "out.mp4")))
    assert isinstance(video.index, str)
    assert "it cannot be read to its end (reading" in video.index


@pytest.mark.parametrize(("first", "chunks"), [(40, 2), (25, 8)], ids=["in a later piece", "in the first piece"])
def test_all_frames_before_the_break_are_in_the_output(  # many parameters: fixtures and the case
    tmp_path: Path, tiny: Bundle, source: Path, break_at: BreakAt, first: int, chunks: int
) -> None:
    output = tmp_path / "out.mp4"
    break_at(first)
    done = restore(source, output, tiny, keep_going=True, chunks=chunks)
    shown = len(content(output)["pictures"])
    assert first - 2 <= shown <= first  # FFmpeg's decoder keeps those that it is at work on
    assert (done.restored, done.kept) == (shown, 0)
    assert done.shortfall is not None
