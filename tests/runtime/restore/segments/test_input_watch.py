"""An input that changes is noticed, and one that was only touched is not taken for another."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, MediaError
from swiftvr_trt.runtime.media.base import Colour, SinkOptions, SourceInfo
from swiftvr_trt.runtime.media.file_state import FileState, state_of
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.restore.segments import resumable
from swiftvr_trt.runtime.restore.segments import task as task_module
from swiftvr_trt.runtime.restore.segments.input_watch import InputChangedError, InputWatch, check_since_opening
from swiftvr_trt.runtime.restore.segments.piece import Mark, PieceFolder
from swiftvr_trt.runtime.restore.segments.task import KnownInput, PiecesTask, input_digest
from tests.conftest import BundleFactory

from .lab import content, restore, write_clip


@pytest.fixture
def task(tmp_path: Path) -> PiecesTask:
    """Its input is a playlist with one file."""
    (tmp_path / "part.mp4").write_bytes(b"video")
    (tmp_path / "in.ffconcat").write_text("ffconcat version 1.0\nfile part.mp4\n")
    reading = SourceOptions(allow_playlist=True)
    return PiecesTask(tmp_path / "in.ffconcat", tmp_path / "out.mp4", 64, 48, SinkOptions(), reading=reading)


def watch_of(task: PiecesTask) -> InputWatch:
    return InputWatch(task, KnownInput.of(task))


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"#more")


def replace_by_another(path: Path) -> None:
    """Of the same size, as by a program that writes beside the file and renames."""
    other = path.with_suffix(".new")
    other.write_bytes(b"audio")
    os.utime(other, ns=(0, 7))
    other.replace(path)


@pytest.mark.parametrize("change", [grow, replace_by_another])
@pytest.mark.parametrize("name", ["in.ffconcat", "part.mp4"])
def test_a_change_is_noticed_also_in_a_file_of_a_playlist(
    task: PiecesTask, tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    watch = watch_of(task)
    watch.check()
    change(tmp_path / name)
    with pytest.raises(InputChangedError, match=r"in\.ffconcat was changed while it was restored"):
        watch.check()


def test_a_touched_input_is_read_once_and_has_not_changed(
    task: PiecesTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, read = watch_of(task), list[Path]()

    def recorded(path: Path) -> str:
        read.append(path)
        return input_digest(path)

    monkeypatch.setattr(task_module, "input_digest", recorded)
    watch.check()
    assert not read
    os.utime(tmp_path / "part.mp4", ns=(0, 7))
    watch.check()
    watch.check()
    assert [path.name for path in read] == ["in.ffconcat", "part.mp4"]


def test_an_input_that_is_gone_has_not_changed(task: PiecesTask, tmp_path: Path) -> None:
    watch = watch_of(task)
    for name in ("part.mp4", "in.ffconcat"):
        (tmp_path / name).unlink()
        watch.check()


def test_another_process_knows_the_input_by_its_digest(task: PiecesTask, tmp_path: Path) -> None:
    known = KnownInput.of(task)
    assert KnownInput.from_dict(json.loads(json.dumps(asdict(known)))) == known
    elsewhere = KnownInput(known.digest, (None, (5, 7)))  # such as a copy on another node
    InputWatch(task, elsewhere).check()
    grow(tmp_path / "part.mp4")
    with pytest.raises(InputChangedError):
        InputWatch(task, elsewhere).check()


def info_with(path: Path, state: FileState | None) -> SourceInfo:
    return SourceInfo(path, 64, 48, 8, Fraction(25), Fraction(1, 25), Colour(), None, "", state=state)


def test_a_change_after_the_opening_is_noticed(task: PiecesTask) -> None:
    before = state_of(task.source)
    check_since_opening(info_with(task.source, before), KnownInput.of(task))
    check_since_opening(info_with(task.source, None), KnownInput.of(task))
    grow(task.source)
    with pytest.raises(InputChangedError, match="was changed after it was opened: run the same command again"):
        check_since_opening(info_with(task.source, before), KnownInput.of(task))


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle(clip_len=4)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_clip(tmp_path / "other.mp4", 30)
    return write_clip(tmp_path / "in.mp4", 60)


def exchange(source: Path) -> None:
    """Give the input's name to another video, and keep the input as `before.mp4`; or back again."""
    before, other = source.with_name("before.mp4"), source.with_name("other.mp4")
    came, goes = (before, other) if before.exists() else (other, before)
    source.rename(goes)
    came.rename(source)


@contextmanager
def once_two_pieces_are_kept(act: Callable[[], object]) -> Iterator[None]:
    """Act once, between the second piece and the third."""
    finish = PieceFolder.finish

    def finish_and_act(folder: PieceFolder, piece: int, mark: Mark) -> None:
        finish(folder, piece, mark)
        if len(folder.marks) == 2:
            act()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PieceFolder, "finish", finish_and_act)
        yield


def test_an_input_that_is_replaced_meanwhile_ends_the_run_and_loses_nothing(
    tmp_path: Path, source: Path, bundle: Bundle
) -> None:
    """Pictures of one video would get the sound of another."""
    output = tmp_path / "out.mp4"
    restore(source, tmp_path / "whole.mp4", bundle)
    with pytest.raises(InputChangedError) as failure, once_two_pieces_are_kept(lambda: exchange(source)):
        restore(source, output, bundle)
    said = str(failure.value)
    assert said.startswith(f"{source} was changed while it was restored; ")
    assert said.endswith(
        f" frames are kept in {output}.segments: put the earlier file back and run the same command again, or start "
        "over with --no-resume once it stays as it is"
    )
    assert not output.exists()
    with pytest.raises(MediaError, match=r"but the input was .*, now "):
        restore(source, output, bundle)
    exchange(source)
    done = restore(source, output, bundle)
    assert 16 <= done.kept <= 24
    assert done.kept + done.restored == 60
    assert content(output) == content(tmp_path / "whole.mp4")


@pytest.mark.parametrize("where", ["check_room_to_join", "reopen"])
def test_an_input_that_is_replaced_before_the_join_is_not_joined(
    tmp_path: Path, source: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    output, do = tmp_path / "out.mp4", getattr(resumable, where)

    def after_the_exchange(*given: object) -> object:
        exchange(source)
        return do(*given)

    with monkeypatch.context() as patch:
        patch.setattr(resumable, where, after_the_exchange)
        with pytest.raises(InputChangedError, match=r"; 60 frames are kept in .*: put the earlier file back"):
            restore(source, output, bundle)
    assert not output.exists()
    exchange(source)
    assert restore(source, output, bundle).kept == 60
    assert len(content(output)["pictures"]) == 60


def test_an_input_that_becomes_shorter_does_not_end_there(tmp_path: Path, source: Path, bundle: Bundle) -> None:
    """What was cut off would be missing although it is nowhere said; also with `--keep-going`."""
    data, output = source.read_bytes(), tmp_path / "out.mp4"

    def cut() -> None:
        source.write_bytes(data[: len(data) // 2])

    with pytest.raises(InputChangedError), once_two_pieces_are_kept(cut):
        restore(source, output, bundle, keep_going=True)
    source.write_bytes(data)
    done = restore(source, output, bundle, keep_going=True)
    assert done.kept + done.restored == 60
    assert done.shortfall is None


def test_an_input_that_is_only_touched_is_restored(tmp_path: Path, source: Path, bundle: Bundle) -> None:
    done = restore(source, tmp_path / "out.mp4", bundle, on_progress=lambda now: os.utime(source, ns=(0, now.written)))
    assert (done.restored, done.kept) == (60, 0)
    assert list(tmp_path.glob("*.segments")) == []
