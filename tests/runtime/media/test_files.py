"""Outputs appear complete or not at all, whatever goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from swiftvr_trt.errors import MediaError, OutputError
from swiftvr_trt.runtime.media import Picture, SinkOptions, SourceInfo, Stamp, open_sink, open_source
from swiftvr_trt.runtime.media.files import PartFile

from .images import copy, folder, image, pictures
from .videos import names, noise, one_line, read, sink_of_same_size, transcode

ROOT = os.name == "posix" and os.geteuid() == 0


def test_an_output_is_not_replaced_unless_asked(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises(MediaError, match="already exists"):
        transcode(clip, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_text() == "precious"
    transcode(clip, tmp_path / "out.mp4", options=SinkOptions(overwrite=True))
    assert len(read(tmp_path / "out.mp4")[0]) == 30
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


def test_an_output_that_appears_meanwhile_is_not_replaced(clip: Path, tmp_path: Path) -> None:
    with open_source(clip) as source, sink_of_same_size(tmp_path / "out.mp4", source.info) as sink:
        for item in source:
            sink.write(item)
        (tmp_path / "out.mp4").write_text("precious")
        with pytest.raises(MediaError, match="already exists"):
            sink.commit()
    assert (tmp_path / "out.mp4").read_text() == "precious"
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_an_output_that_is_a_link_stays_one(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "out.mp4"
    link.symlink_to(tmp_path / "disk" / "real.mp4")
    transcode(clip, link)
    assert link.is_symlink()
    assert names(tmp_path / "disk") == ["real.mp4"]


def test_a_missing_directory_is_an_output_error(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist") as error:
        transcode(clip, tmp_path / "no" / "out.mp4")
    assert one_line(error)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 KB that is really full when it is full."""
    if not ROOT or sys.platform != "linux":
        pytest.skip("mounting a small file system needs root on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this machine does not let us mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def feed(info: SourceInfo, path: Path, count: int, size: tuple[int, int]) -> None:
    with open_sink(path, info, *size, SinkOptions(crf=0) if path.suffix else None) as sink:
        for index in range(count):
            sink.write(Picture(noise(index, *size), Stamp(index, 512 * index, 512, Fraction(1, 12800))))
        sink.commit()


FULL: list[tuple[str, int, int]] = [("out.mp4", 60, 128), ("out.mkv", 60, 128), ("out.mp4", 2, 320), ("frames", 9, 320)]


@pytest.mark.parametrize(("name", "count", "width"), FULL)
def test_a_full_disk_is_an_output_error_and_leaves_nothing(
    clip: Path, small_disk: Path, name: str, count: int, width: int
) -> None:
    with open_source(clip) as source, pytest.raises(OutputError, match="no space left on device") as error:
        feed(source.info, small_disk / name, count, (width, 240))
    assert one_line(error)
    assert names(small_disk) == []


@pytest.mark.parametrize("room", [0, 100, 3_000, 90_000])
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_a_write_that_fails_anywhere_is_an_output_error(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, room: int
) -> None:
    """As above for machines without a small disk, and at the header, within the packets and at the end."""
    monkeypatch.setattr("swiftvr_trt.runtime.media.files._BUFFER", 64)
    written = 0

    def counted(write: Callable[[PartFile, bytes], int]) -> Callable[[PartFile, bytes], int]:
        def limited(self: PartFile, data: bytes) -> int:
            nonlocal written
            written += len(data)
            if written > room:
                raise OSError(28, "No space left on device")
            return write(self, data)

        return limited

    monkeypatch.setattr(PartFile, "_store", counted(PartFile._store))
    with open_source(clip) as source, pytest.raises(OutputError, match="no space left on device"):
        feed(source.info, tmp_path / name, 20, (128, 96))
    assert names(tmp_path) == ["in.mp4"]


@pytest.mark.skipif(ROOT or os.name != "posix", reason="root may write everywhere")
def test_a_directory_without_permission_is_an_output_error(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(OutputError, match="permission denied"):
        transcode(clip, tmp_path / "locked" / "out.mp4")


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["1.png", "2.png"])
    with open_source(path) as source, open_sink(tmp_path / "out", source.info, 24, 16) as sink:
        for item in source:
            sink.write(item)
            assert not (tmp_path / "out").exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in"]


def test_an_empty_output_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    copy(folder(tmp_path / "in", ["1.png"]), tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["1.png"]


def test_an_existing_folder_is_never_moved(tmp_path: Path) -> None:
    """Another disk may be mounted there: no folder outside can replace it or be renamed into it."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    before = (tmp_path / "disk").stat().st_ino
    with (
        open_source(folder(tmp_path / "in", ["1.png", "2.png"])) as source,
        open_sink(tmp_path / "out", source.info, 24, 16) as sink,
    ):
        for item in source:
            sink.write(item)
        assert [path.name[0] for path in (tmp_path / "disk").iterdir()] == ["."]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "in", "out"]
        sink.commit()
    assert (tmp_path / "disk").stat().st_ino == before
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["1.png", "2.png"]


def test_leftovers_of_killed_runs_are_removed(tmp_path: Path) -> None:
    left, living = tmp_path / ".out.0badcafe.part", tmp_path / ".out.00c0ffee.part"
    for path in (left, living):
        path.mkdir()
        (path / "1.png").write_bytes(b"half")
    os.utime(left, (0, 0))
    copy(folder(tmp_path / "in", ["1.png"]), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, "in", "out"]


def test_a_filled_output_folder_is_replaced_only_on_request(tmp_path: Path) -> None:
    before = folder(tmp_path / "in", ["1.png"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "1.png").write_text("old")
    (tmp_path / "out" / "keep.txt").write_text("mine")
    with pytest.raises(MediaError, match="is not empty"):
        copy(before, tmp_path / "out")
    assert (tmp_path / "out" / "1.png").read_text() == "old"
    copy(before, tmp_path / "out", SinkOptions(overwrite=True))
    assert np.array_equal(pictures(tmp_path / "out")[0].pixels, image(0))
    assert (tmp_path / "out" / "keep.txt").read_text() == "mine"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in", "out"]


def test_a_missing_parent_of_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        copy(folder(tmp_path / "in", ["1.png"]), tmp_path / "no" / "out")
