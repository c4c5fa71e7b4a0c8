"""Outputs appear complete or not at all, whatever goes wrong."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from swiftvr_trt.errors import MediaError, MisuseError, NameTakenError, OutputError
from swiftvr_trt.runtime.media import Picture, SinkOptions, SourceInfo, Stamp, open_sink, open_source
from swiftvr_trt.runtime.media.files import PartFile, output_error

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


@pytest.mark.parametrize(
    ("made", "options"),
    [("a file", SinkOptions()), ("a folder", SinkOptions()), ("a folder", SinkOptions(overwrite=True))],
)
def test_an_output_whose_name_is_taken_meanwhile_is_kept_beside_it(
    clip: Path, tmp_path: Path, made: str, options: SinkOptions
) -> None:
    output = tmp_path / "out.mp4"
    (tmp_path / "out (2).mp4").write_text("precious, too")
    with open_source(clip) as source, sink_of_same_size(output, source.info, options) as sink:
        for item in source:
            sink.write(item)
        if made == "a file":
            output.write_text("precious")
        else:
            output.mkdir()
        with pytest.raises(NameTakenError, match=r"created by somebody else.*out \(3\)\.mp4") as error:
            sink.commit()
    assert one_line(error)
    assert output.is_dir() or output.read_text() == "precious"
    assert (tmp_path / "out (2).mp4").read_text() == "precious, too"
    assert error.value.kept_as == tmp_path / "out (3).mp4"
    assert len(read(error.value.kept_as)[0]) == 30
    assert names(tmp_path) == ["in.mp4", "out (2).mp4", "out (3).mp4", "out.mp4"]


def test_no_name_is_replaced_where_files_have_no_links(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with open_source(clip) as source, sink_of_same_size(tmp_path / "out.mp4", source.info) as sink:
        for item in source:
            sink.write(item)
        (tmp_path / "out.mp4").write_text("precious")
        with pytest.raises(NameTakenError):
            sink.commit()
    assert (tmp_path / "out.mp4").read_text() == "precious"
    assert names(tmp_path) == ["in.mp4", "out (2).mp4", "out.mp4"]


@pytest.mark.parametrize("made", ["a file", "a full folder"])
@pytest.mark.parametrize("existed", [False, True])
def test_a_folder_whose_name_is_taken_meanwhile_is_kept(tmp_path: Path, made: str, existed: bool) -> None:
    output = tmp_path / "out"
    if existed:
        if made == "a file":
            pytest.skip("a folder that holds the unfinished one cannot become a file")
        output.mkdir()
    with (
        open_source(folder(tmp_path / "in", ["1.png", "2.png"])) as source,
        open_sink(output, source.info, 24, 16) as sink,
    ):
        for item in source:
            sink.write(item)
        if made == "a file":
            output.write_text("precious")
        else:
            output.mkdir(exist_ok=True)
            (output / "mine.txt").write_text("precious")
        with pytest.raises(NameTakenError) as error:
            sink.commit()
    kept = output / "out (2)" if existed else tmp_path / "out (2)"
    assert error.value.kept_as == kept
    assert names(kept) == ["1.png", "2.png"]
    assert (output if made == "a file" else output / "mine.txt").read_text() == "precious"
    assert names(tmp_path) == (["in", "out"] if existed else ["in", "out", "out (2)"])


@pytest.mark.parametrize("name", ["out.mp4", "frames", "one.png"])
def test_a_folder_that_vanishes_is_named(clip: Path, tmp_path: Path, name: str) -> None:
    place = tmp_path / "gone"
    place.mkdir()
    with open_source(clip) as source, open_sink(place / name, replace(source.info, frames=1), 32, 24) as sink:
        shutil.rmtree(place)

        def finish() -> None:
            sink.write(Picture(noise(0, 32, 24), Stamp(0, 0, 512, Fraction(1, 12800))))
            sink.commit()

        with pytest.raises(OutputError, match=r"folder .*gone has vanished") as error:
            finish()
    assert one_line(error)


@pytest.mark.parametrize(
    ("number", "remedy"), [("ENOSPC", "free some space"), ("EACCES", "another place"), ("EFBIG", "no larger files")]
)
def test_the_remedy_fits_the_reason(tmp_path: Path, number: str, remedy: str) -> None:
    code = getattr(errno, number)
    message = str(output_error(tmp_path / "out.mp4", OSError(code, os.strerror(code))))
    assert remedy in message
    assert ("space" in message) == (number == "ENOSPC")


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_an_output_that_is_a_link_stays_one(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "out.mp4"
    link.symlink_to(tmp_path / "disk" / "real.mp4")
    transcode(clip, link)
    assert link.is_symlink()
    assert names(tmp_path / "disk") == ["real.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_that_leads_nowhere_is_refused_first(clip: Path, tmp_path: Path) -> None:
    lost, loop = tmp_path / "lost.mp4", tmp_path / "loop.mp4"
    lost.symlink_to(tmp_path / "no" / "real.mp4")
    loop.symlink_to(loop)
    with pytest.raises(OutputError, match=r"the directory \S+no does not exist"):
        transcode(clip, lost)
    with pytest.raises(MediaError, match="a link that leads to itself"):
        transcode(clip, loop)


def test_a_folder_that_takes_no_files_is_said_so(tmp_path: Path) -> None:
    """As /proc."""
    error = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    assert "takes no new files; choose another place" in str(output_error(tmp_path / "x.mp4", error, creating=True))
    assert "somebody removed" in str(output_error(tmp_path / "x.mp4", error))


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


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.png", "shots/", "new/deep/out.mp4", "new/deep/shots/"])
def test_a_trial_leaves_no_trace_and_keeps_nothing(clip: Path, tmp_path: Path, name: str) -> None:
    with open_source(clip) as source:
        info = replace(source.info, frames=1)
        for item in source:
            if isinstance(item, Picture):
                break
        with open_sink(f"{tmp_path}/{name}", info, info.width, info.height, SinkOptions(trial=True)) as sink:
            assert names(tmp_path) == ["in.mp4"]
            if name.endswith(("mp4", "mkv")):
                sink.write(item)
                with pytest.raises(MisuseError, match="opened for a trial"):
                    sink.commit()
    assert names(tmp_path) == ["in.mp4"]


def test_a_trial_refuses_what_exists_and_what_cannot_be_written(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_text("precious")
    with open_source(clip) as source:
        info = source.info
        for name, error in (("out.mp4", MediaError), ("in.mp4/new/out.mp4", OutputError), ("./", MediaError)):
            with pytest.raises(error):
                open_sink(f"{tmp_path}/{name}", info, info.width, info.height, SinkOptions(trial=True))
    assert (tmp_path / "out.mp4").read_text() == "precious"


@pytest.mark.skipif(os.name != "posix" or ROOT, reason="root may write everywhere")
def test_a_trial_refuses_a_folder_that_cannot_be_written(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "sealed").mkdir(mode=0o500)
    with open_source(clip) as source, pytest.raises(OutputError, match="permission denied"):
        open_sink(tmp_path / "sealed" / "out.mp4", source.info, 32, 32, SinkOptions(trial=True))
