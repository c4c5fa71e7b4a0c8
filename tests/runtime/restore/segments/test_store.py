"""The folder of pieces: what is kept, what is refused, and what is never touched."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt import MediaError
from swiftvr_trt.runtime.media.picture_encoder import EncodedPicture
from swiftvr_trt.runtime.restore.segments.piece import Mark, segments_folder
from swiftvr_trt.runtime.restore.segments.store import Store, tidy
from swiftvr_trt.runtime.restore.segments.task import input_digest

SETTINGS = {"the input": "one", "the quality (crf)": "18"}


def opened(output: Path, *, resume: bool = True, said: list[str] | None = None, **changes: str) -> Store:
    changed = {key.replace("_", " "): value for key, value in changes.items()}
    return Store.open(output, {**SETTINGS, **changed}, resume=resume, say=(said if said is not None else []).append)


def add(store: Store, piece: int, *, last: bool = False) -> None:
    writer = store.writer(piece)
    writer.write(EncodedPicture(b"picture", 40 * piece, 40 * piece, 40, True))
    mark = Mark(piece, 1, 1, writer.size, writer.finish(), "1/1000", 40 * piece, last, "libx264")
    store.finish(piece, mark)


def with_pieces(output: Path, count: int = 3) -> None:
    with opened(output) as store:
        for piece in range(count):
            add(store, piece)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.mp4"


def test_pieces_are_kept_and_found_again(output: Path) -> None:
    with_pieces(output)
    with opened(output) as store:
        assert sorted(store.marks) == [0, 1, 2]
        assert store.last is None
        assert [packet.pts for packet in store.packets(2)] == [80]
        add(store, 3, last=True)
    with opened(output) as store:
        assert store.last == 3
        store.remove()
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("pieces", "kept", "misled"),
    [
        ([(0, 9, None), (1, 19, 9), (2, 29, 19)], [0, 1, 2], False),
        ([(0, 9, None), (1, 20, None), (2, 29, 19), (3, 39, 29)], [0, 1], True),
        ([(0, 9, None), (2, 29, 19), (3, 39, 29)], [0, 2, 3], False),  # nothing tells yet
        ([(0, 9, None), (1, 20, None), (2, 29, 19), (3, 40, None)], [0, 1, 3], True),
        ([(0, 10, None), (1, 20, None), (2, 30, None)], [0, 1, 2], False),
    ],
    ids=["all by the index", "read in order, then by the index", "a gap", "in order again", "read in order"],
)
def test_pieces_found_by_a_wrong_index_are_dropped(
    output: Path, pieces: list[tuple[int, int, int | None]], kept: list[int], misled: bool
) -> None:
    with opened(output) as store:
        for piece, clock, follows in pieces:
            add(store, piece)
            store.marks[piece] = replace(store.marks[piece], clock=clock, follows=follows)
        missing = store.missing(4)
        assert (sorted(store.marks), store.misled) == (kept, misled)
        assert sorted(int(path.stem) for path in store.folder.glob("0*.piece")) == kept
        assert (missing[0].stop is None) == misled


def test_nothing_stays_if_no_piece_was_finished(output: Path) -> None:
    with opened(output) as store:
        store.writer(0).discard()
    assert list(output.parent.iterdir()) == []


def test_other_settings_are_refused_and_named(output: Path) -> None:
    with_pieces(output)
    with pytest.raises(MediaError, match=r"the input was one, now two: repeat that run .* --no-resume"):
        opened(output, the_input="two")
    with pytest.raises(MediaError, match="the device was not recorded, now cpu"):
        opened(output, the_device="cpu")
    with opened(output) as store:
        assert len(store.marks) == 3  # nothing was lost


def test_starting_over_removes_the_pieces(output: Path) -> None:
    with_pieces(output)
    with opened(output, resume=False, the_input="two") as store:
        assert store.marks == {}
        assert sorted(path.name for path in store.folder.iterdir()) == ["job.json", "lock"]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "mark", "mark is no file"])
def test_a_damaged_piece_is_dropped_and_said(output: Path, damage: str) -> None:
    with_pieces(output)
    piece, mark = segments_folder(output) / "00001.piece", segments_folder(output) / "00001.json"
    data = bytearray(piece.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
        piece.write_bytes(data)
    elif damage == "cut":
        piece.write_bytes(data[:-1])
    elif damage == "gone":
        piece.unlink()
    elif damage == "mark":
        mark.write_text(json.dumps({**json.loads(mark.read_text()), "frames": -1}))
    else:
        mark.write_bytes(b"\xff")
    said: list[str] = []
    with opened(output, said=said) as store:
        assert sorted(store.marks) == [0, 2]
    assert len(said) == 1
    assert said[0].startswith("piece 1: ")
    assert said[0].endswith("the piece is restored again")


def test_a_piece_without_its_mark_does_not_count(output: Path) -> None:
    with_pieces(output)
    (segments_folder(output) / "00002.json").unlink()
    with opened(output) as store:
        assert sorted(store.marks) == [0, 1]


def test_pieces_behind_the_last_one_are_dropped(output: Path) -> None:
    with opened(output) as store:
        add(store, 2)
        add(store, 1, last=True)
    with opened(output) as store:
        assert sorted(store.marks) == [1]


def test_two_processes_do_not_work_on_one_output(output: Path) -> None:
    with opened(output), pytest.raises(MediaError, match=r"another process is writing .*out\.mp4"):
        opened(output)


def test_a_folder_of_somebody_else_is_left_alone(output: Path) -> None:
    folder = segments_folder(output)
    folder.mkdir()
    (folder / "diary.txt").write_text("dear diary")
    for resume in (True, False):
        with pytest.raises(MediaError, match=r"holds 'diary\.txt', which is not a piece"):
            opened(output, resume=resume)
    tidy(output)
    assert [path.name for path in folder.iterdir()] == ["diary.txt"]


def test_a_file_that_came_among_the_pieces_is_named_and_stays(output: Path) -> None:
    """Nobody has to give up the pieces for it, and it does not keep them from being removed."""
    folder = segments_folder(output)
    with opened(output) as store:
        add(store, 0)
        (folder / "00000 copy").mkdir()
    with pytest.raises(MediaError, match=r"holds '00000 copy', .*: move it to another place, and the pieces stay"):
        opened(output)
    (folder / "00000 copy").rmdir()
    with opened(output) as store:
        assert len(store.marks) == 1
        for name in ("00000 copy", "00000.piece.part"):  # also one that has our name and cannot be removed
            (folder / name).mkdir()
        (folder / "diary.txt").write_text("dear diary")
        store.remove()
    assert sorted(path.name for path in folder.iterdir()) == ["00000 copy", "00000.piece.part", "diary.txt"]


LITTER = (".DS_Store", "._00000.piece", "._job.json", "Thumbs.db", "desktop.ini", ".directory", ".nfs0000c0ffee")


def test_what_file_managers_leave_does_not_matter(output: Path) -> None:
    with_pieces(output)
    folder = segments_folder(output)
    for name in LITTER:
        (folder / name).write_bytes(b"x")
    (folder / "@eaDir" / "00000.piece").mkdir(parents=True)
    (folder / "@eaDir" / "00000.piece" / "SYNO@.fileindexdb").write_bytes(b"x")
    with opened(output) as store:
        assert sorted(store.marks) == [0, 1, 2]
        store.remove()
    assert list(output.parent.iterdir()) == []


def test_a_file_in_the_folders_place_is_refused(output: Path) -> None:
    segments_folder(output).write_text("")
    with pytest.raises(MediaError, match="is not a folder, but the pieces of"):
        opened(output)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 1, "decides": {}}', '{"format": 2}', "[]", "\x00"])
def test_a_record_edited_by_hand_is_refused_in_one_line(output: Path, text: str) -> None:
    with_pieces(output)
    (segments_folder(output) / "job.json").write_text(text)
    with pytest.raises(MediaError, match=r"job\.json: .*") as error:
        opened(output)
    assert "\n" not in str(error.value)
    assert "--no-resume" in str(error.value)
    with opened(output, resume=False) as store:
        assert store.marks == {}


def test_what_a_killed_run_left_is_tidied_unless_it_finished_a_piece(output: Path) -> None:
    store = opened(output)
    store.writer(0).finish()  # without a mark
    tidy(output)  # the run is alive
    assert store.folder.exists()
    store._lock.release()  # as the system does when a process dies
    tidy(output)
    assert not store.folder.exists()
    with_pieces(output)
    tidy(output)
    assert store.folder.exists()


def test_a_link_is_followed_to_the_place_of_the_output(output: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    output.symlink_to(tmp_path / "disk" / "film.mp4")
    assert segments_folder(output) == (tmp_path / "disk" / "film.mp4.segments").resolve()


def test_the_digest_of_an_input_depends_on_its_content_and_size(tmp_path: Path) -> None:
    one = tmp_path / "one"
    seen = set()
    for data in (b"", b"a", b"b", b"aa", bytes(3 << 20), bytes((3 << 20) - 1) + b"a", bytes(1 << 20) + b"a"):
        one.write_bytes(data)
        seen.add(input_digest(one))
    assert len(seen) == 7


def test_a_large_input_is_sampled_from_end_to_end(tmp_path: Path) -> None:
    one = tmp_path / "one"
    with one.open("wb") as file:
        file.truncate(200 << 20)
    before = input_digest(one)
    for place in (0, 100 << 20, (200 << 20) - 1):
        with one.open("r+b") as file:
            file.seek(place // (1 << 20) * (1 << 20) + (place % (1 << 20)))
            file.write(b"x")
        assert input_digest(one) != before or place == 100 << 20
        before = input_digest(one)


def test_what_a_dead_run_left_beside_the_output_is_removed_at_once_and_nothing_else(output: Path) -> None:
    dead, other, named = (
        output.with_name(name) for name in (".out.00ff00ff.part.mp4", ".out.b.00ff00ff.part.mp4", ".out.mine.part.mp4")
    )
    for path in (dead, other, named):
        path.write_bytes(b"x")
    with opened(output):
        assert not dead.exists()
    assert sorted(output.parent.iterdir()) == sorted((other, named))


def test_a_piece_without_its_mark_takes_no_room(output: Path) -> None:
    with_pieces(output)
    (segments_folder(output) / "00001.json").unlink()
    with opened(output) as store:
        assert sorted(path.name for path in store.folder.glob("*.piece")) == ["00000.piece", "00002.piece"]


@pytest.mark.parametrize("gone", [(), ("00000.json",), ("00001.piece", "00002.json")])
def test_a_removal_that_was_interrupted_is_completed(output: Path, gone: tuple[str, ...]) -> None:
    """The record goes first: without it the pieces do not count."""
    with_pieces(output)
    for name in ("job.json", *gone):
        (segments_folder(output) / name).unlink()
    tidy(output)
    assert list(output.parent.iterdir()) == []
