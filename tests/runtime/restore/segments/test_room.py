"""Room on the disk: what is refused early, and what a full disk says."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, OutputError
from swiftvr_trt.runtime.media.base import SinkOptions
from swiftvr_trt.runtime.media.files import output_error
from swiftvr_trt.runtime.restore.segments import room
from swiftvr_trt.runtime.restore.segments.packets import PacketWriter
from swiftvr_trt.runtime.restore.segments.room import (
    check_room_to_join,
    full_disk,
    full_elsewhere,
    least_bytes,
    refuse_without_room,
)
from swiftvr_trt.runtime.restore.segments.store import Store
from tests.conftest import BundleFactory

from .lab import restore, write_clip
from .test_resumable import AGAIN


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "out.mp4", {"the input": "x"}, resume=True, say=lambda _line: None) as opened:
        yield opened


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda _folder: size)


def test_pieces_and_output_must_both_fit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2_000_000_000)
    refuse_without_room(store, 1_000_000_000)
    free(monkeypatch, 1_999_999_999)
    with pytest.raises(OutputError, match=r"needs at least 2\.00 GB .* 2\.00 GB are free: free some space or choose"):
        refuse_without_room(store, 1_000_000_000)
    check_room_to_join(store)


@pytest.mark.parametrize("codec", [None, "libx264", "libx265", "libsvtav1", "ffv1", "rawvideo"])
def test_the_least_size_is_below_that_of_a_quiet_video(tmp_path: Path, codec: str | None, tiny: Bundle) -> None:
    """A bound that a real output undercuts would refuse what fits."""
    source, output = write_clip(tmp_path / "in.mp4", 30, sound=False), tmp_path / "out.mkv"
    restore(source, output, tiny, sink=SinkOptions(codec=codec), chunks=10)
    size = tiny.manifest.recipe
    assert 0 < least_bytes(codec, size.width, size.height, 30) < output.stat().st_size


@pytest.fixture(scope="module")
def tiny(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle(clip_len=4)


def test_a_film_that_certainly_does_not_fit_is_refused_before_any_work(
    tmp_path: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 10)
    source = write_clip(tmp_path / "in.mp4", 60, sound=False)
    with pytest.raises(OutputError, match="needs at least"):
        restore(source, tmp_path / "out.mp4", tiny, on_progress=lambda _now: pytest.fail("work was done"))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(("resume", "without"), AGAIN)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_is_kept_and_what_to_do(  # many parameters: fixtures
    tmp_path: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch, number: int, resume: bool, without: str
) -> None:
    source, output, said = write_clip(tmp_path / "in.mp4", 60, sound=False), tmp_path / "out.mp4", list[str]()
    put, pieces = PacketWriter._put, 0

    def full_in_the_third_piece(self: PacketWriter, data: bytes) -> None:
        nonlocal pieces
        pieces += self.size == 0
        if pieces == 3:
            raise output_error(output, OSError(number, "No space left on device")) from OSError(number, "full")
        put(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(PacketWriter, "_put", full_in_the_third_piece)
        with pytest.raises(OutputError) as error:
            restore(source, output, tiny, say=said.append, resume=resume)
    line = str(error.value)
    assert "the disk is full" in line
    assert "frames are kept in" in line
    assert line.endswith(f"free some space and run the same command again{without}, which goes on from there")
    done = restore(source, output, tiny)
    assert done.kept > 0
    assert done.kept + done.restored == 60


def test_other_errors_are_not_called_a_full_disk(store: Store) -> None:
    for error in (OutputError("gone"), ValueError("x")):
        error.__cause__ = OSError(errno.EIO, "input/output error")
        assert full_disk(error, store, 5) is None


def test_a_full_disk_is_one_wherever_it_was_met(store: Store) -> None:
    found = full_disk(full_elsewhere("no space left"), store, 0)
    assert "the disk is full" in str(found)
