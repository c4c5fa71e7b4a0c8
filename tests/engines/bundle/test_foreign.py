"""Checkpoints of other programs: their files are found, or one line says what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from swiftvr_trt import CheckpointError
from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.checkpoints import CONFIG, DEMO_DIRECTORY, PROMPT, REAE, TRANSFORMER, find_checkpoint
from swiftvr_trt.engines.bundle.foreign import (
    checkpoint_root,
    config_file,
    describe_file,
    index_of,
    is_lfs_pointer,
    transformer_file,
)

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 19999151168\n"
FILES = (CONFIG, TRANSFORMER, REAE, PROMPT)


def write(root: Path, *names: str, data: bytes = b"data") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write(tmp_path / "checkpoint", *FILES)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("depth", ["SwiftVR", "models--H-oliday--SwiftVR/snapshots/0123"])
def test_a_checkpoint_that_lies_deeper_is_found_and_is_the_same(tmp_path: Path, checkpoint: Path, depth: str) -> None:
    nested = tmp_path / "nested" / depth
    nested.parent.mkdir(parents=True)
    shutil.copytree(checkpoint, nested)
    given = tmp_path / "nested" / Path(depth).parts[0] if "/" in depth else tmp_path / "nested"
    found = find_checkpoint(given)
    assert found == nested
    cache = BundleCache(tmp_path / "cache")
    assert cache.checkpoint_digest(nested) == cache.checkpoint_digest(checkpoint), "so it has the same bundles"


def test_of_two_checkpoints_none_is_guessed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, *FILES)
    assert "holds several checkpoints, name one of them" in refusal(tmp_path)


def test_the_transformer_alone_names_its_directory(checkpoint: Path) -> None:
    assert refusal(checkpoint / "transformer").endswith(f"name the directory that holds it: {checkpoint}")


def test_a_checkpoint_without_its_folder(tmp_path: Path) -> None:
    root = write(tmp_path / "flat", "config.json", Path(TRANSFORMER).name, REAE, PROMPT)
    assert checkpoint_root(root) == root
    assert config_file(root) == root / "config.json"
    assert transformer_file(root) == root / Path(TRANSFORMER).name
    cache = BundleCache(tmp_path / "cache")
    before = cache.checkpoint_digest(root)
    write(root, "config.json", data=b"changed")
    assert cache.checkpoint_digest(root) != before, "the configuration counts"


@pytest.mark.parametrize("name", ["model.safetensors", "swiftvr_bf16.safetensors"])
def test_the_only_transformer_may_have_another_name(checkpoint: Path, name: str) -> None:
    (checkpoint / TRANSFORMER).rename(checkpoint / "transformer" / name)
    assert transformer_file(checkpoint) == checkpoint / "transformer" / name


def test_shards_may_have_another_name(checkpoint: Path) -> None:
    (checkpoint / TRANSFORMER).unlink()
    write(checkpoint / "transformer", "m.safetensors.index.json", "m-1.safetensors", "m-2.safetensors")
    assert index_of(transformer_file(checkpoint)) == checkpoint / "transformer" / "m.safetensors.index.json"


def test_the_published_name_wins_and_two_others_are_refused(checkpoint: Path) -> None:
    write(checkpoint / "transformer", "a.safetensors", "b.safetensors")
    assert transformer_file(checkpoint) == checkpoint / TRANSFORMER
    (checkpoint / TRANSFORMER).unlink()
    with pytest.raises(CheckpointError, match=r"several transformers \(a.safetensors, b.safetensors\); rename the one"):
        transformer_file(checkpoint)


@pytest.mark.parametrize("name", [TRANSFORMER, REAE, PROMPT])
def test_a_pointer_of_git_lfs(checkpoint: Path, name: str) -> None:
    write(checkpoint, name, data=POINTER)
    line = refusal(checkpoint)
    assert f"{checkpoint / name} is a Git LFS pointer of {len(POINTER)} bytes" in line
    assert f"`git lfs pull` in {(checkpoint / name).parent}" in line


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".pkl"])
def test_pickles_are_never_read(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, f"swiftvr{suffix}")
    for path in (tmp_path, tmp_path / f"swiftvr{suffix}"):
        assert "a pickle can run code; convert it to safetensors" in refusal(path)


def test_gguf_is_named(tmp_path: Path) -> None:
    write(tmp_path, "swiftvr-Q4_K_M.gguf")
    for path in (tmp_path, tmp_path / "swiftvr-Q4_K_M.gguf"):
        assert "GGUF files hold quantised weights" in refusal(path)


def test_a_single_file_says_where_it_belongs(tmp_path: Path) -> None:
    write(tmp_path, "swiftvr.safetensors", "pointer.safetensors", "notes.txt")
    assert f"put it into DIR as {TRANSFORMER}" in refusal(tmp_path / "swiftvr.safetensors")
    assert "expected the directory" in refusal(tmp_path / "notes.txt")
    write(tmp_path, "pointer.safetensors", data=POINTER)
    assert "Git LFS pointer" in describe_file(tmp_path / "pointer.safetensors")


def test_other_files_next_to_a_checkpoint_do_not_matter(checkpoint: Path) -> None:
    write(checkpoint, "optimizer.pt", "old.gguf", "transformer/notes.bin")
    assert find_checkpoint(checkpoint) == checkpoint


def test_the_demonstration_model_has_the_published_layout() -> None:
    assert checkpoint_root(DEMO_DIRECTORY) == DEMO_DIRECTORY
    assert not is_lfs_pointer(DEMO_DIRECTORY / REAE)
    assert not is_lfs_pointer(DEMO_DIRECTORY / "nothing")
