"""Opening checks everything. Writing leaves a complete bundle, or what was there before."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, BundleError, MisuseError, OutputError
from swiftvr_trt.engines.bundle import files as module
from swiftvr_trt.engines.bundle.files import BundleWriter, read_manifest, remove_partial
from swiftvr_trt.engines.bundle.manifest import MANIFEST, STAGES
from tests.engines.fakes import WEIGHTS, fake_manifest, names_in, write_fake_bundle


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def flip_a_byte(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def link_away(path: Path) -> None:
    """Replace a file by a link to the same content."""
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def become_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def test_what_was_written_opens(tmp_path: Path) -> None:
    written = write_fake_bundle(tmp_path / "bundle")
    opened = Bundle.open(str(tmp_path / "bundle"))
    assert opened == written
    assert opened.stage_path("dit").read_text() == "dit"
    assert names_in(tmp_path) == ["bundle"]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (Path.unlink, "missing, or not a plain file"),
        (become_directory, "missing, or not a plain file"),
        (link_away, "missing, or not a plain file"),
        (flip_a_byte, "its content has changed since it was built"),
        (lambda path: path.write_bytes(b""), "0 bytes, the manifest says 7"),
        (lambda path: path.write_bytes(b"weights and more"), "16 bytes, the manifest says 7"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, harm: Callable[[Path], object], said: str) -> None:
    weights = write_fake_bundle(tmp_path / "bundle").path / WEIGHTS
    harm(weights)
    assert refusal(tmp_path / "bundle").startswith(f"{weights}: {said}")


def test_a_file_that_the_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    write_fake_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "hidden.bin").write_bytes(b"weights without a digest")
    assert "hidden.bin: not part of the bundle" in refusal(tmp_path / "bundle")


def test_replacing_through_a_link_keeps_the_link_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_fake_bundle(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    write_fake_bundle(tmp_path / "link")
    assert names_in(tmp_path) == ["link", "real"]
    assert Bundle.open(tmp_path / "link").path.is_dir()
    assert (tmp_path / "link").is_symlink()


def test_an_unreadable_file_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_fake_bundle(tmp_path / "bundle")

    def denied(path: Path, _ended: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(module, "sha256", denied)
    assert "Permission denied" in refusal(bundle.path)


def test_an_interrupt_ends_the_check_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, or one damaged file, does not wait until gigabytes of other files are read."""
    pieces, digested = 100, 0

    class Slow:
        def update(self, _piece: bytes) -> None:
            nonlocal digested
            digested += 1
            time.sleep(0.05)

        def hexdigest(self) -> str:
            raise KeyboardInterrupt

    bundle = write_fake_bundle(tmp_path / "bundle", content=bytes(pieces << 20))
    monkeypatch.setattr("hashlib.sha256", Slow)
    with pytest.raises(KeyboardInterrupt):
        Bundle.open(bundle.path)
    assert 0 < digested < pieces / 2


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (Path.unlink, f"it has no {MANIFEST}"),
        (become_directory, "not a plain file"),
        (lambda path: path.write_bytes(b"{" + b" " * (1 << 20)), "so not a manifest"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not a text file"),
        (lambda path: path.write_text("{"), "not valid JSON"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, harm: Callable[[Path], object], said: str) -> None:
    harm(write_fake_bundle(tmp_path / "bundle").path / MANIFEST)
    assert said in refusal(tmp_path / "bundle")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_manifest_that_is_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MANIFEST)
    assert "not a plain file" in refusal(tmp_path)


def test_a_giant_manifest_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / MANIFEST).open("wb") as file:
        file.truncate(1 << 40)
    assert "so not a manifest" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_a_path_that_is_not_a_directory_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path / name).startswith(f"{tmp_path / name}: no such directory")


def test_a_manifest_is_read_without_its_files(tmp_path: Path) -> None:
    bundle = write_fake_bundle(tmp_path / "bundle")
    (bundle.path / WEIGHTS).unlink()
    assert read_manifest(bundle.path) == bundle.manifest


def test_a_newer_build_replaces_an_older_one(tmp_path: Path) -> None:
    write_fake_bundle(tmp_path / "bundle", content=b"old")
    write_fake_bundle(tmp_path / "bundle", content=b"new")
    assert (Bundle.open(tmp_path / "bundle").path / WEIGHTS).read_bytes() == b"new"
    assert names_in(tmp_path) == ["bundle"]


@pytest.mark.parametrize("error", [KeyError("bug"), KeyboardInterrupt()], ids=repr)
def test_a_build_that_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    old = write_fake_bundle(tmp_path / "bundle")

    def fail() -> None:
        raise error

    for name in ("bundle", "fresh"):
        with pytest.raises(type(error)):
            write_fake_bundle(tmp_path / name, content=b"new", midway=fail)
    assert names_in(tmp_path) == ["bundle"]
    assert Bundle.open(tmp_path / "bundle") == old


def test_leaving_without_a_commit_leaves_nothing(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "bundle") as writer:
        (writer.directory / "file").touch()
    assert names_in(tmp_path) == []


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("when", ["weights", "manifest"])
def test_a_full_disk_is_reported_in_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    if when == "manifest":
        monkeypatch.setattr(module, "sha256", full_disk)
    with pytest.raises(OutputError, match=r"bundle: the bundle could not be written \(No space left on device\)$"):
        write_fake_bundle(tmp_path / "bundle", midway=full_disk if when == "weights" else lambda: None)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_does_not_lose_the_older_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    old = write_fake_bundle(tmp_path / "bundle", content=b"old")
    calls, replace = [], os.replace

    def fragile(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == failing:
            raise PermissionError(errno.EACCES, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fragile)
    with pytest.raises(OutputError, match="Permission denied"):
        write_fake_bundle(tmp_path / "bundle", content=b"new")
    assert len(calls) >= failing
    assert names_in(tmp_path) == ["bundle"]
    assert Bundle.open(tmp_path / "bundle") == old


@pytest.mark.parametrize("manifest", [None, "", '{"name": "an extension", "version": "1"}', '["format"]'])
def test_a_directory_that_is_not_a_bundle_is_never_overwritten(tmp_path: Path, manifest: str | None) -> None:
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "holiday.jpg").touch()
    if manifest is not None:
        (precious / MANIFEST).write_text(manifest)
    before = names_in(precious)
    with pytest.raises(MisuseError, match="photos: already exists and is not a bundle"):
        write_fake_bundle(precious)
    assert names_in(precious) == before
    assert names_in(tmp_path) == ["photos"]


def test_a_directory_that_appears_during_the_build_is_not_overwritten(tmp_path: Path) -> None:
    place = tmp_path / "bundle"

    def appear() -> None:
        place.mkdir()
        (place / "holiday.jpg").touch()

    with pytest.raises(MisuseError, match="is not a bundle"):
        write_fake_bundle(place, midway=appear)
    assert names_in(place) == ["holiday.jpg"]


@pytest.mark.parametrize("dangling", [False, True])
def test_a_file_is_never_overwritten(tmp_path: Path, dangling: bool) -> None:
    place = tmp_path / "bundle"
    place.symlink_to(tmp_path / "nowhere") if dangling else place.touch()
    with pytest.raises(MisuseError, match="already exists and is a file"):
        write_fake_bundle(place)


@pytest.mark.parametrize("name", [".", "..", "/", "x/.."])
def test_a_bundle_needs_a_name_of_its_own(name: str) -> None:
    with pytest.raises(MisuseError, match="a name of its own"):
        BundleWriter(name)


def test_an_empty_directory_and_a_damaged_bundle_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (write_fake_bundle(tmp_path / "damaged").path / WEIGHTS).unlink()
    for name in ("empty", "damaged"):
        assert Bundle.open(write_fake_bundle(tmp_path / name).path).manifest.recipe == fake_manifest().recipe
    assert names_in(tmp_path) == ["damaged", "empty"]


def test_a_directory_that_cannot_be_replaced_is_refused_before_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As happens where a disk is mounted; only root could mount one here."""
    (tmp_path / "disk").mkdir()

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr("os.replace", busy)
    with pytest.raises(MisuseError, match=r"disk: .*cannot be replaced .*choose a new directory in it"):
        BundleWriter(tmp_path / "disk").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["disk"]


def test_a_directory_that_cannot_be_created_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot create the bundle's directory"):
        write_fake_bundle(tmp_path / "file" / "bundle")


def test_a_manifest_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    manifest = fake_manifest()
    with BundleWriter(tmp_path / "bundle") as writer, pytest.raises(BundleError, match=f"a list of 1 to {len(STAGES)}"):
        writer.commit(manifest.recipe, manifest.toolchain, ())
    assert names_in(tmp_path) == []


def test_removing_leftovers_of_killed_builds_touches_nothing_else(tmp_path: Path) -> None:
    bundle = write_fake_bundle(tmp_path / "a")
    for name in ("a.partial-0123abcd", "ab.partial-0123abcd"):
        shutil.copytree(bundle.path, tmp_path / name)
    remove_partial(tmp_path / "a")
    assert names_in(tmp_path) == ["a", "ab.partial-0123abcd"]


def test_the_next_build_of_a_name_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    """Neither what another build is filling, nor what belongs to another name."""
    for name in ("a[1].partial-0123abcd", "a1.partial-0123abcd", "a[1].partial-mine", "a[1].partial-00c0ffee"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.bin").touch()
        os.utime(tmp_path / name / "weights.bin", (0, 0))
        os.utime(tmp_path / name, (0, 0))
    hold = "import sys, pathlib; from swiftvr_trt.engines.bundle.lease import FolderLease as F; "
    hold += "lease = F(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    other = tmp_path / "a[1].partial-00c0ffee"
    command = [sys.executable, "-c", hold, str(other)]
    living = [] if os.name == "nt" else [other.name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline().strip() == b"held"
        write_fake_bundle(tmp_path / "a[1]")
        assert names_in(tmp_path) == sorted(["a1.partial-0123abcd", "a[1]", "a[1].partial-mine", *living])
        builder.kill()
    write_fake_bundle(tmp_path / "a[1]")
    assert names_in(tmp_path) == sorted(["a1.partial-0123abcd", "a[1]", "a[1].partial-mine"])
