"""Files on a node: shared ones are checked, and what processes leave behind is swept up."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import psutil
import pytest

from swiftvr_trt import Bundle, MachineError
from swiftvr_trt.runtime.restore.cluster.parcels import Goods, NodeFolder, digest_of, goods_of
from tests.conftest import BundleFactory


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
    content = folder.private.parent / f"goods-{goods.digest[:32]}" / "film.mp4"
    content.parent.mkdir()
    content.write_bytes(b"film")
    assert folder.fetch(goods) == content
    gc.collect()
    taken = psutil.Process().num_fds()
    for _ in range(20):
        folder.fetch(goods)
    assert psutil.Process().num_fds() < taken + 20  # others of this process may open and close some, too
    folder.close()
