"""Files on a node: shared ones are checked, and what processes leave behind is swept up."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from swiftvr_trt import Bundle, MachineError
from swiftvr_trt.runtime.media.playlists import files_of_playlist
from swiftvr_trt.runtime.restore.cluster.parcels import Goods, NodeFolder, digest_of, goods_of
from tests.conftest import BundleFactory


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object store whose references are the objects."""
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(put=lambda block: block, get=lambda block: block))


def shipped(path: Path, *beside: Path) -> Goods:
    return goods_of(path, ship=True, beside=beside)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_shared_file_is_used_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    path.write_bytes(b"film")
    folder = NodeFolder(tmp_path)
    assert folder.fetch(goods_of(path, ship=False)) == path
    folder.close()


def test_another_file_of_the_same_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    path.write_bytes(b"film")
    goods = goods_of(path, ship=False)
    path.write_bytes(b"other")
    folder = NodeFolder(tmp_path)
    with pytest.raises(MachineError, match="is another file there; expected the same file on every node"):
        folder.fetch(goods)
    path.unlink()
    with pytest.raises(MachineError, match="cannot be read there"):
        folder.fetch(goods)
    folder.close()


def test_a_bundle_is_told_apart_by_its_manifest(mini_bundle: BundleFactory) -> None:
    first, second = mini_bundle(clip_len=4), mini_bundle(clip_len=8)
    assert isinstance(first, Bundle)
    assert digest_of(first.path) != digest_of(second.path)


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not(tmp_path: Path) -> None:
    living = NodeFolder(tmp_path)
    root = living.private.parent
    for name in ("process-dead", "goods-dead"):
        (root / name).mkdir()
        (root / name / "film").write_bytes(b"film")
    other = NodeFolder(tmp_path)
    if os.name == "posix":
        assert sorted(path for path in root.iterdir() if path.is_dir()) == sorted([living.private, other.private])
    living.close()
    assert other.private.exists()
    other.close()


@pytest.mark.skipif(os.name != "posix", reason="Windows counts handles")
def test_what_is_fetched_again_takes_no_more_descriptors(tmp_path: Path) -> None:
    folder, goods = NodeFolder(tmp_path), Goods("/films/film.mp4", "d" * 64, {})
    content = folder.private.parent / f"goods-{goods.key}" / "content" / "film.mp4"
    content.parent.mkdir(parents=True)
    content.write_bytes(b"film")
    assert folder.fetch(goods) == content
    gc.collect()
    taken = psutil.Process().num_fds()
    for _ in range(20):
        folder.fetch(goods)
    assert psutil.Process().num_fds() < taken + 20  # others of this process may open and close some, too
    folder.close()


@pytest.mark.usefixtures("store")
@pytest.mark.skipif(os.name != "posix", reason="Windows cannot say who uses a folder")
def test_a_node_keeps_one_shipped_input_for_each_process_and_every_bundle(tmp_path: Path) -> None:
    films = [shipped(write(tmp_path / f"{number}.mp4", b"film %d" % number)) for number in range(4)]
    bundles = [shipped(write(tmp_path / name / "manifest.json", name.encode()).parent) for name in ("b1", "b2")]
    first, second = NodeFolder(tmp_path), NodeFolder(tmp_path)

    def kept() -> list[str]:
        return sorted(path.name for path in first.private.parent.glob("goods-*/content/*"))

    for number, film in enumerate(films):
        path = first.fetch_input(film)
        assert path.read_bytes() == b"film %d" % number
        first.fetch(bundles[number % 2])
        assert [name for name in kept() if name.endswith(".mp4")] == [path.name]
    second.fetch_input(films[3])
    first.fetch_input(films[0])
    assert kept() == ["0.mp4", "3.mp4", "b1", "b2"]
    second.fetch_input(films[0])
    assert first.fetch_input(films[0]).read_bytes() == b"film 0"
    assert kept() == ["0.mp4", "b1", "b2"]
    first.close()
    second.close()
    assert kept() == []


@pytest.mark.usefixtures("store")
def test_a_playlist_travels_with_the_files_that_it_names(tmp_path: Path) -> None:
    playlist = write(tmp_path / "tape.m3u8", b"#EXTM3U\nparts/1.ts\n2.ts\n#EXT-X-ENDLIST\n")
    parts = [write(tmp_path / name, name.encode()) for name in ("parts/1.ts", "2.ts")]
    goods = shipped(playlist, *parts, parts[0])
    folder = NodeFolder(tmp_path)
    found = folder.fetch_input(goods)
    assert files_of_playlist(found, True) == (found.parent / "parts/1.ts", found.parent / "2.ts")
    assert [file.read_bytes() for file in files_of_playlist(found, True)] == [b"parts/1.ts", b"2.ts"]
    write(parts[1], b"another")
    assert shipped(playlist, *parts).key != goods.key
    folder.close()


@pytest.mark.usefixtures("store")
def test_equal_films_with_different_names_lie_apart(tmp_path: Path) -> None:
    films = [write(tmp_path / name, b"film") for name in ("a.mp4", "b.mp4")]
    folder = NodeFolder(tmp_path)
    assert [folder.fetch(shipped(film)).name for film in films] == ["a.mp4", "b.mp4"]
    folder.close()
