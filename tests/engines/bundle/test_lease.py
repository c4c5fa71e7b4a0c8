"""A lease marks a bundle as used and as in use, whatever the permissions of its place."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swiftvr_trt.engines.bundle.lease import (
    LOCK,
    USED,
    FolderLease,
    Lease,
    is_abandoned,
    is_in_use,
    is_locked,
    last_used,
    mark_used,
)
from swiftvr_trt.engines.bundle.manifest import MANIFEST
from tests.engines.fakes import names_in, write_fake_bundle

ROOT = Path(__file__).parents[3]
needs_locks = pytest.mark.skipif(os.name == "nt", reason="Windows refuses to rename a directory with an open file")


@needs_locks
def test_a_bundle_is_in_use_until_the_last_lease_is_closed(tmp_path: Path) -> None:
    bundle = write_fake_bundle(tmp_path / "bundle").path
    assert not is_in_use(bundle)
    first, second = Lease(bundle), Lease(bundle)
    first.close()
    first.close()
    assert is_in_use(bundle)
    second.close()
    assert not is_in_use(bundle)


@needs_locks
def test_a_lease_ends_with_its_process_even_if_that_is_killed(tmp_path: Path) -> None:
    bundle = write_fake_bundle(tmp_path / "bundle").path
    script = (
        "import sys, time; from pathlib import Path; from swiftvr_trt.engines.bundle.lease import Lease; "
        "lease = Lease(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, bundle], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert is_in_use(bundle)
        process.kill()
        process.wait()
        assert not is_in_use(bundle)


def test_the_last_use_is_recorded_next_to_a_bundle_of_the_cache_only(tmp_path: Path) -> None:
    cached, other = (write_fake_bundle(tmp_path / name / "b").path for name in ("cache", "other"))
    cached.with_name(f"b{LOCK}").touch()
    built = (cached / MANIFEST).stat().st_mtime
    for path in (cached, other):
        os.utime(path / MANIFEST, (built - 100, built - 100))
        with Lease(path):
            pass
    assert last_used(cached) == pytest.approx(time.time(), abs=30)
    assert last_used(other) == pytest.approx(built - 100)
    assert names_in(cached.parent) == ["b", f"b{LOCK}", f"b{USED}"]
    assert names_in(other.parent) == ["b"]


def test_what_cannot_be_marked_or_read_is_no_error(tmp_path: Path) -> None:
    with Lease(tmp_path / "missing"):
        pass
    mark_used(tmp_path / "missing")
    assert last_used(tmp_path / "missing") == 0.0
    assert not is_in_use(tmp_path / "missing")
    assert not is_locked(tmp_path)


def test_a_folder_is_abandoned_once_its_lease_ends(tmp_path: Path) -> None:
    lease = FolderLease(tmp_path)
    assert not is_abandoned(tmp_path)
    lease.close()
    lease.close()
    assert is_abandoned(tmp_path) == (os.name != "nt")
