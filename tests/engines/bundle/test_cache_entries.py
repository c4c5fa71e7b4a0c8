"""What is listed and removed is ours, nothing else, and never what a process builds or uses."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt.engines.bundle.cache import BundleCache, try_lock
from swiftvr_trt.engines.bundle.cache_entries import (
    CacheEntry,
    EntryKind,
    PruneRules,
    entries_of,
    remove_entry,
    to_remove,
)
from swiftvr_trt.engines.bundle.lease import LOCK, USED, Lease
from swiftvr_trt.engines.bundle.manifest import FORMAT, MANIFEST, Recipe
from tests.engines.fakes import RECIPE, WEIGHTS, names_in, write_fake_bundle

NOW = 1_000_000.0


def build(cache: BundleCache, recipe: Recipe = RECIPE, used: float | None = None) -> Path:
    path = cache.get_or_build(recipe, lambda place: write_fake_bundle(place, recipe))[0].path
    if used is not None:
        os.utime(path / MANIFEST, (used, used))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> BundleCache:
    return BundleCache(tmp_path / "cache")


def test_an_empty_cache_has_no_entries(cache: BundleCache) -> None:
    assert entries_of(cache) == ()


def test_bundles_are_listed_with_size_and_last_use_the_latest_first(cache: BundleCache) -> None:
    old, new = build(cache, used=NOW - 10), build(cache, replace(RECIPE, width=200), used=NOW)
    entries = entries_of(cache)
    assert [(entry.path, entry.kind, entry.used) for entry in entries] == [
        (new, EntryKind.BUNDLE, NOW),
        (old, EntryKind.BUNDLE, NOW - 10),
    ]
    assert all(entry.nbytes == sum(f.stat().st_size for f in entry.path.iterdir()) for entry in entries)
    assert [entry.manifest.recipe.width for entry in entries if entry.manifest] == [200, 100]


def test_finding_a_bundle_counts_as_a_use(cache: BundleCache) -> None:
    build(cache, used=NOW)
    build(cache)
    (entry,) = entries_of(cache)
    assert entry.used > NOW


@pytest.mark.parametrize("damage", ["truncated", "no manifest", "manifest is garbage", "a later format"])
def test_a_broken_bundle_is_told_from_a_whole_one(cache: BundleCache, damage: str) -> None:
    path = build(cache)
    if damage == "truncated":
        (path / WEIGHTS).write_bytes(b"w")
    elif damage == "no manifest":
        (path / MANIFEST).unlink()
    elif damage == "manifest is garbage":
        (path / MANIFEST).write_bytes(b"\0garbage")
    else:
        text = (path / MANIFEST).read_text()
        (path / MANIFEST).write_text(text.replace(f'"format": {FORMAT}', '"format": 99'))
        assert (path / MANIFEST).read_text() != text
    (entry,) = entries_of(cache)
    assert (entry.kind, entry.manifest) == (EntryKind.BROKEN, None)
    assert to_remove([entry], PruneRules(), NOW) == (entry,)


def test_what_a_killed_build_left_is_found_and_removed(cache: BundleCache) -> None:
    path = build(cache)
    left = path.with_name(f"{path.name}.partial-0123abcd")
    left.mkdir()
    (left / "encode.onnx").write_bytes(b"half")
    chosen = to_remove(entries_of(cache), PruneRules(), NOW)
    assert [(entry.path, entry.kind, entry.bundle) for entry in chosen] == [(left, EntryKind.LEFTOVER, path)]
    assert remove_entry(chosen[0])
    assert not left.exists()
    assert path.exists()


def test_nothing_foreign_is_listed(cache: BundleCache, tmp_path: Path) -> None:
    path = build(cache)
    (cache.bundles / "holidays").mkdir()
    (cache.bundles / "holidays" / "beach.jpg").write_bytes(b"x")
    (cache.bundles / "holidays.partial-0123abcd").mkdir()
    (cache.bundles / "notes.txt").write_text("mine")
    elsewhere = write_fake_bundle(tmp_path / "elsewhere").path
    (cache.bundles / "link").symlink_to(elsewhere, target_is_directory=True)
    assert [entry.path for entry in entries_of(cache)] == [path]
    for entry in to_remove(entries_of(cache), PruneRules(everything=True), NOW):
        assert remove_entry(entry)
    assert elsewhere.exists()
    assert {"holidays", "holidays.partial-0123abcd", "notes.txt", "link"} <= set(names_in(cache.bundles))
    assert not path.exists()
    assert not path.with_name(path.name + USED).exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows tells by refusing the rename")
def test_a_bundle_in_use_is_busy_and_stays(cache: BundleCache) -> None:
    path = build(cache)
    with Lease(path):
        (entry,) = entries_of(cache)
        assert entry.busy
        assert not remove_entry(entry)
        assert path.exists()
    (entry,) = entries_of(cache)
    assert not entry.busy
    assert remove_entry(entry)
    assert remove_entry(entry)  # another process was faster: nothing to do


def test_a_build_under_way_stays(cache: BundleCache) -> None:
    path = build(cache)
    left = path.with_name(f"{path.name}.partial-0123abcd")
    left.mkdir()
    lock = try_lock(path.with_name(path.name + LOCK))
    assert lock is not None
    with lock:
        entries = entries_of(cache)
        assert len(entries) == 2
        assert os.name == "nt" or all(entry.busy for entry in entries)
        assert not any(remove_entry(entry) for entry in entries)
    assert path.exists()
    assert left.exists()


ENTRIES = st.lists(
    st.builds(
        CacheEntry,
        path=st.uuids().map(lambda number: Path(str(number))),
        kind=st.sampled_from(EntryKind),
        nbytes=st.integers(0, 100),
        used=st.integers(0, 1000).map(float),
    ),
    max_size=8,
)


@given(ENTRIES, st.integers(0, 1000), st.integers(0, 400))
def test_the_rules_remove_the_old_and_keep_the_size(entries: list[CacheEntry], age: int, limit: int) -> None:
    bundles = {entry for entry in entries if entry.kind is EntryKind.BUNDLE}
    others = set(entries) - bundles
    assert set(to_remove(entries, PruneRules(), 1000.0)) == others
    assert set(to_remove(entries, PruneRules(everything=True), 1000.0)) == set(entries)
    old = set(to_remove(entries, PruneRules(older_than_s=age), 1000.0))
    assert old - others == {entry for entry in bundles if 1000 - entry.used > age}
    kept = bundles - set(to_remove(entries, PruneRules(max_bytes=limit), 1000.0))
    assert sum(entry.nbytes for entry in kept) <= limit
    assert (kept == bundles) is (sum(entry.nbytes for entry in bundles) <= limit)
