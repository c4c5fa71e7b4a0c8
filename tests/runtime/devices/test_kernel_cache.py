"""Compiled kernels: found again for the same GPU, driver, library and engines only."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from swiftvr_trt import Bundle
from swiftvr_trt.runtime.devices import kernel_cache
from swiftvr_trt.runtime.devices.kernel_cache import MAX_FILES, SUFFIX, KernelCache
from tests.engines.fakes import names_in, write_fake_bundle

KERNELS = b"compiled kernels"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_fake_bundle(tmp_path / "shelf" / "bundle")


def cache(
    bundle: Bundle, tmp_path: Path, gpu: str = "RTX", driver: str = "580.65.6", library: str = "1.7"
) -> KernelCache:
    return KernelCache.of(bundle, gpu, driver, library, root=tmp_path / "user")


def test_stored_kernels_are_found_next_to_the_bundle(bundle: Bundle, tmp_path: Path) -> None:
    assert cache(bundle, tmp_path).load() is None
    path = cache(bundle, tmp_path).store(KERNELS)
    assert path is not None
    assert path.parent == bundle.path.parent
    assert cache(bundle, tmp_path).load() == KERNELS
    assert Bundle.open(bundle.path) == bundle  # next to it, not in it: a bundle lists all its files
    assert names_in(path.parent) == sorted(["bundle", path.name])


def test_a_file_is_written_only_if_the_kernels_have_changed(bundle: Bundle, tmp_path: Path) -> None:
    assert cache(bundle, tmp_path).store(KERNELS)
    assert cache(bundle, tmp_path).store(KERNELS) is None
    assert cache(bundle, tmp_path).store(b"") is None
    assert cache(bundle, tmp_path).store(KERNELS + b"!")
    assert cache(bundle, tmp_path).load() == KERNELS + b"!"


@pytest.mark.parametrize("other", [{"gpu": "GTX"}, {"driver": "590.1"}, {"library": "1.8"}])
def test_another_machine_finds_nothing(bundle: Bundle, tmp_path: Path, other: dict[str, str]) -> None:
    cache(bundle, tmp_path).store(KERNELS)
    assert cache(bundle, tmp_path, **other).load() is None


def test_other_engines_find_nothing(bundle: Bundle, tmp_path: Path) -> None:
    cache(bundle, tmp_path).store(KERNELS)
    rebuilt = write_fake_bundle(bundle.path, content=b"other weights")
    assert cache(rebuilt, tmp_path).load() is None


@pytest.mark.parametrize("damage", [b"", b"x", b"swiftvr kernels 1\n"])
def test_a_damaged_file_is_ignored_and_replaced(bundle: Bundle, tmp_path: Path, damage: bytes) -> None:
    path = cache(bundle, tmp_path).store(KERNELS)
    assert path is not None
    path.write_bytes(damage)
    assert cache(bundle, tmp_path).load() is None
    assert cache(bundle, tmp_path).store(KERNELS) == path
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert cache(bundle, tmp_path).load() is None


def test_next_to_a_read_only_directory_the_users_cache_is_used(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def refusing(source: Path, target: Path) -> None:
        if target.parent == bundle.path.parent:
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    path = cache(bundle, tmp_path).store(KERNELS)
    assert path is not None
    assert path.parent == tmp_path / "user" / "kernels"
    assert cache(bundle, tmp_path).load() == KERNELS
    assert names_in(bundle.path.parent) == ["bundle"]


def test_it_is_not_an_error_if_nothing_can_be_written(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert cache(bundle, tmp_path).store(KERNELS) is None
    assert names_in(bundle.path.parent) == ["bundle"]


def test_an_interrupted_write_leaves_nothing(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache(bundle, tmp_path).store(KERNELS)
    assert names_in(bundle.path.parent) == ["bundle"]


def test_partial_files_of_killed_processes_are_removed_after_an_hour(bundle: Bundle, tmp_path: Path) -> None:
    path = cache(bundle, tmp_path).store(KERNELS)
    assert path is not None
    shelf, ago = path.parent, time.time() - 3700
    old, young, foreign = (shelf / name for name in (f"{path.name}.123", f"{path.name}.124", f"b.abc{SUFFIX}.123"))
    notes = shelf / f"{path.name}.txt"
    for left in (old, young, foreign, notes):
        left.write_bytes(b"half")
        os.utime(left, None if left is young else (ago, ago))
    assert cache(bundle, tmp_path).store(KERNELS) is None  # even if there is nothing to write
    assert names_in(shelf) == sorted(["bundle", path.name, young.name, foreign.name, notes.name])


def test_large_files_and_files_beyond_the_limit_are_not_kept(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle.path.parent / f"bundle-2.abc{SUFFIX}").write_bytes(b"of another bundle")
    for number in range(MAX_FILES + 3):
        path = cache(bundle, tmp_path, driver=str(number)).store(KERNELS)
        assert path is not None
        os.utime(path, (number, number))
    left = [name for name in names_in(bundle.path.parent) if name.endswith(SUFFIX)]
    assert len(left) == MAX_FILES + 1
    assert cache(bundle, tmp_path, driver=str(MAX_FILES + 2)).load() == KERNELS
    assert cache(bundle, tmp_path, driver="0").load() is None
    monkeypatch.setattr(kernel_cache, "MAX_BYTES", 10)
    assert cache(bundle, tmp_path, driver="large").store(KERNELS) is None
    assert cache(bundle, tmp_path, driver=str(MAX_FILES + 2)).load() is None
