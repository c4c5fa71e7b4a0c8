"""A bundle is built once, however many processes ask for it, and found again until it is damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, CheckpointError, OutputError, Resolution
from swiftvr_trt.engines.bundle import cache as module
from swiftvr_trt.engines.bundle.cache import BundleCache, default_root, open_to_others
from swiftvr_trt.engines.bundle.manifest import MANIFEST, Recipe
from tests.engines.fakes import RECIPE, WEIGHTS, names_in, write_fake_bundle

SCALED = replace(RECIPE, precision="fp8", calibration="ab" * 32)

ROOT = Path(__file__).parents[3]

_PRELUDE = """
import os, sys, time
from pathlib import Path
from swiftvr_trt.engines.bundle.cache import BundleCache
from tests.engines.fakes import RECIPE, write_fake_bundle
root = Path(sys.argv[1])
"""

ASK = """
def everyone_asks():
    with (root / "builds").open("a") as file:
        file.write("built\\n")
    while len(list(root.glob("asking-*"))) < 2:
        time.sleep(0.02)
    time.sleep(0.2)

(root / f"asking-{sys.argv[2]}").touch()
found, built = BundleCache(root).get_or_build(RECIPE, lambda path: write_fake_bundle(path, midway=everyone_asks))
print(built, found.path)
"""

HANG = """
def hang(*_):
    print("hanging", flush=True)
    time.sleep(60)

if sys.argv[2] == "before the rename":
    os.replace = hang
midway = hang if sys.argv[2] == "halfway" else lambda: None
BundleCache(root).get_or_build(RECIPE, lambda path: write_fake_bundle(path, midway=midway))
"""


def process(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PRELUDE + script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def never(path: Path) -> Bundle:
    raise AssertionError(f"{path} was to be built although it exists")


def test_two_processes_that_ask_at_the_same_time_build_once(tmp_path: Path) -> None:
    answers = [asking.communicate(timeout=60)[0].split() for asking in [process(ASK, tmp_path, k) for k in range(2)]]
    path = str(BundleCache(tmp_path).path(RECIPE))
    assert sorted(answers) == [["False", path], ["True", path]]
    assert (tmp_path / "builds").read_text() == "built\n"


@pytest.mark.parametrize("when", ["halfway", "before the rename"])
def test_a_killed_build_leaves_no_bundle_and_does_not_block_the_next(tmp_path: Path, when: str) -> None:
    cache = BundleCache(tmp_path)
    with process(HANG, tmp_path, when) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "hanging\n"
        builder.kill()
    assert any(".partial-" in name for name in names_in(cache.bundles))
    assert cache.find(RECIPE) is None
    assert cache.search() == []
    bundle, built = cache.get_or_build(RECIPE, write_fake_bundle)
    assert built
    assert [name for name in names_in(cache.bundles) if not name.endswith(".lock")] == [bundle.path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="files have no such owner")
@pytest.mark.parametrize("place", ["root", "bundles", "bundle", WEIGHTS, MANIFEST])
@pytest.mark.parametrize("how", ["everyone", "sticky", "another user", "group"])
def test_a_bundle_that_others_can_have_changed_is_told(tmp_path: Path, place: str, how: str) -> None:
    cache = BundleCache(tmp_path / "cache")
    path = cache.get_or_build(RECIPE, write_fake_bundle)[0].path
    assert open_to_others(cache.root, path) is None
    target = {"root": cache.root, "bundles": cache.bundles, "bundle": path}.get(place, path / place)
    if how == "another user":
        if os.getuid():
            pytest.skip("only root can give files away")
        os.chown(target, 12345, -1)
    else:
        target.chmod({"everyone": 0o777, "sticky": 0o1777, "group": 0o770}[how])
    harmless = how == "group" or (how == "sticky" and target.is_dir())
    assert (open_to_others(cache.root, path) is None) == harmless
    if not harmless:
        assert str(target) in str(open_to_others(cache.root, path))


def test_a_bundle_is_built_once_and_then_found(tmp_path: Path) -> None:
    cache = BundleCache(tmp_path)
    assert cache.find(RECIPE) is None
    first = cache.get_or_build(RECIPE, write_fake_bundle)
    assert first == (Bundle.open(cache.path(RECIPE)), True)
    assert cache.get_or_build(RECIPE, never) == (first[0], False)


@pytest.mark.parametrize("harm", ["byte", "file gone", "manifest gone", "manifest garbled", "another recipe"])
def test_a_damaged_bundle_is_built_again(tmp_path: Path, harm: str) -> None:
    cache = BundleCache(tmp_path)
    bundle, _ = cache.get_or_build(RECIPE, write_fake_bundle)
    weights, manifest = bundle.path / WEIGHTS, bundle.path / MANIFEST
    if harm == "byte":
        weights.write_bytes(b"Weights")
    elif harm == "another recipe":
        write_fake_bundle(bundle.path, replace(RECIPE, checkpoint=RECIPE.checkpoint[:16] + "f" * 48))
    elif harm == "manifest garbled":
        manifest.write_text("{")
    else:
        (weights if harm == "file gone" else manifest).unlink()
    assert cache.find(RECIPE) is None
    assert cache.get_or_build(RECIPE, write_fake_bundle) == (bundle, True)
    assert cache.find(RECIPE) == bundle


@pytest.mark.parametrize(
    "other",
    [
        replace(RECIPE, checkpoint="d1" * 32),
        replace(RECIPE, width=101),
        replace(RECIPE, height=61),
        replace(RECIPE, clip_len=12),
        replace(RECIPE, precision="fp16"),
        replace(RECIPE, target="onnx"),
        replace(RECIPE, parity=True),
        replace(RECIPE, without=("growth",)),
        replace(RECIPE, autoencoder="int8"),
    ],
)
def test_recipes_that_differ_in_any_field_have_different_paths(tmp_path: Path, other: Recipe) -> None:
    cache = BundleCache(tmp_path)
    assert cache.path(other) != cache.path(RECIPE)


def test_search_finds_the_newest_first_and_filters(tmp_path: Path) -> None:
    cache = BundleCache(tmp_path)
    assert cache.search() == []
    wide, other = replace(RECIPE, width=200), replace(RECIPE, checkpoint="d1" * 32)
    paths = []
    for age, recipe in ((200, RECIPE), (100, other), (300, wide)):
        paths.append(cache.get_or_build(recipe, lambda path, recipe=recipe: write_fake_bundle(path, recipe))[0].path)  # type: ignore[misc]
        os.utime(paths[-1] / MANIFEST, (1e9 - age, 1e9 - age))
    plain, foreign, broad = paths
    assert cache.search() == [foreign, plain, broad]
    assert cache.search(resolution=RECIPE.resolution) == [foreign, plain]
    assert cache.search(checkpoint=RECIPE.checkpoint) == [plain, broad]
    assert cache.search(resolution=wide.resolution, checkpoint=other.checkpoint) == []
    assert cache.search(resolution=Resolution(1, 1)) == []
    (plain / MANIFEST).write_text("{}")
    assert cache.search() == [foreign, broad]


@pytest.mark.parametrize(
    ("recipe", "before", "served"),
    [
        (RECIPE, "", True),
        (SCALED, "", False),
        (SCALED, '"form": 2', False),
        (SCALED, '"form": 99', False),
        (replace(RECIPE, autoencoder="int8"), '"form": 2', False),
    ],
    ids=["without scales", "early", "earlier", "of a later version", "scales in the decoder"],
)
def test_a_bundle_whose_graphs_this_version_builds_otherwise_is_not_served(
    tmp_path: Path, recipe: Recipe, before: str, served: bool
) -> None:
    cache = BundleCache(tmp_path)
    path = cache.get_or_build(recipe, lambda path: write_fake_bundle(path, recipe))[0].path
    assert cache.search() == [path]
    manifest = json.loads((path / MANIFEST).read_text())
    manifest.pop("form", None)
    (path / MANIFEST).write_text(json.dumps({**manifest, **json.loads(f"{{{before}}}")}))
    assert (cache.find(recipe) is not None) == served
    assert cache.search() == ([path] if served else [])
    assert cache.get_or_build(recipe, lambda path: write_fake_bundle(path, recipe))[1] != served
    assert cache.search() == [path]


def test_a_cache_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="the cache cannot be written"):
        BundleCache(tmp_path / "file").get_or_build(RECIPE, never)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The files of a checkpoint that its digest depends on, and one that it does not."""
    root = tmp_path / "checkpoint"
    (root / "transformer").mkdir(parents=True)
    for name in ("reae.safetensors", "transformer/a.safetensors", "transformer/config.json", "README.md"):
        (root / name).write_text(name)
    return root


def digest_anew(tmp_path: Path, checkpoint: Path) -> str:
    """The digest from an empty cache."""
    return BundleCache(tmp_path / f"cache-{len(list(tmp_path.iterdir()))}").checkpoint_digest(checkpoint)


@pytest.mark.parametrize("name", ["reae.safetensors", "transformer/a.safetensors", "transformer/config.json"])
@pytest.mark.parametrize("change", ["content", "gone", "renamed"])
def test_a_digest_changes_with_every_file_of_the_network(
    tmp_path: Path, checkpoint: Path, name: str, change: str
) -> None:
    cache = BundleCache(tmp_path / "cache")
    before = cache.checkpoint_digest(checkpoint)
    path = checkpoint / name
    if change == "content":
        path.write_text(name.upper())  # of the same length
        os.utime(path, ns=(0, 0))
    elif change == "gone":
        path.unlink()
    else:
        path.rename(path.with_name("b" + path.name))
    assert cache.checkpoint_digest(checkpoint) == digest_anew(tmp_path, checkpoint) != before


def test_a_digest_depends_on_content_alone(tmp_path: Path, checkpoint: Path) -> None:
    before = digest_anew(tmp_path, checkpoint)
    (checkpoint / "README.md").write_text("more")
    os.utime(checkpoint / "reae.safetensors", (0, 0))
    assert digest_anew(tmp_path, checkpoint.rename(tmp_path / "moved")) == before


def test_a_digest_is_remembered_and_the_files_are_not_read_again(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = BundleCache(tmp_path / "cache").checkpoint_digest(checkpoint)

    def unread(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(module, "sha256", unread)
    monkeypatch.chdir(checkpoint.parent)
    for same in (checkpoint, Path("checkpoint"), str(checkpoint / ".." / "checkpoint")):
        assert BundleCache(tmp_path / "cache").checkpoint_digest(same) == digest


@pytest.mark.parametrize("memory", ["", "[]", "{", '{"ROOT": 1}', '{"ROOT": {"stamp": null, "digest": "abc"}}'])
def test_a_garbled_file_of_digests_is_ignored(tmp_path: Path, checkpoint: Path, memory: str) -> None:
    cache = BundleCache(tmp_path / "cache")
    cache.root.mkdir()
    (cache.root / "digests.json").write_text(memory.replace("ROOT", str(checkpoint)))
    assert cache.checkpoint_digest(checkpoint) == digest_anew(tmp_path, checkpoint)
    assert json.loads((cache.root / "digests.json").read_text())[str(checkpoint)]["digest"]
    assert names_in(cache.root) == ["digests.json"]


def test_a_digest_needs_no_writable_cache(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        assert BundleCache(root).checkpoint_digest(checkpoint) == digest_anew(tmp_path, checkpoint)


@pytest.mark.parametrize(("name", "said"), [("nothing", "no such directory"), ("empty", "no safetensors files")])
def test_a_directory_without_tensors_has_no_digest(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=f"{name}: {said}"):
        BundleCache(tmp_path / "cache").checkpoint_digest(tmp_path / name)


@pytest.mark.parametrize("home", ["a file", "~", "unknown"])
def test_without_a_home_the_cache_is_temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str) -> None:
    """As in a container: a home that cannot be written, or none, where Python leaves the "~" as it is."""
    (tmp_path / "a file").touch()
    place = "~/.cache/swiftvr-trt" if home == "~" else str(tmp_path / home / ".cache" / "swiftvr-trt")

    def usual(*_: object, **__: object) -> str:
        if home == "unknown":
            raise RuntimeError("could not determine the home directory")
        return place

    monkeypatch.setattr("platformdirs.user_cache_dir", usual)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    root = default_root()
    assert root.parent == tmp_path / "temporary"
    assert root.name.startswith("swiftvr-trt-")
    assert not root.exists()


def test_a_home_that_can_be_written_has_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = tmp_path / "not" / "there" / "yet"
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(place))
    assert default_root() == place
    assert not (tmp_path / "not").exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has a temporary folder for each user")
def test_the_temporary_cache_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: "~/.cache")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("os.getuid", lambda: 4321)
    (tmp_path / "swiftvr-trt-4321").mkdir()  # made by whoever runs this test, who is not user 4321
    with pytest.raises(OutputError, match="belongs to another user"):
        default_root()


def _checkpoint(path: Path) -> Path:
    path.mkdir()
    (path / "reae.safetensors").write_bytes(b"weights")
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_digests_are_not_written_through_a_link(tmp_path: Path) -> None:
    checkpoint, victim, root = _checkpoint(tmp_path / "checkpoint"), tmp_path / "victim", tmp_path / "cache"
    victim.write_text("precious")
    root.mkdir()
    (root / "digests.json").symlink_to(victim)
    (root / f"digests.json.{os.getpid()}").symlink_to(victim)
    digest = BundleCache(root).checkpoint_digest(checkpoint)
    assert victim.read_text() == "precious"
    assert not (root / "digests.json").is_symlink()
    assert BundleCache(root).checkpoint_digest(checkpoint) == digest


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": ' * 9999, '{"a": NaN}'])
def test_a_damaged_list_of_digests_is_made_again(tmp_path: Path, text: str) -> None:
    checkpoint = _checkpoint(tmp_path / "checkpoint")
    cache = BundleCache(tmp_path / "cache")
    digest = cache.checkpoint_digest(checkpoint)
    (cache.root / "digests.json").write_text(text, encoding="utf-8")
    assert cache.checkpoint_digest(checkpoint) == digest
    assert digest in (cache.root / "digests.json").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="files have no such mode on Windows")
def test_a_list_of_digests_that_others_can_write_is_not_trusted(tmp_path: Path, checkpoint: Path) -> None:
    cache = BundleCache(tmp_path / "cache")
    digest = cache.checkpoint_digest(checkpoint)
    place = cache.root / "digests.json"
    forged = place.read_text().replace(digest, "0" * 64)
    place.write_text(forged)
    assert cache.checkpoint_digest(checkpoint) == "0" * 64
    place.write_text(forged)
    place.chmod(0o666)
    assert cache.checkpoint_digest(checkpoint) == digest
