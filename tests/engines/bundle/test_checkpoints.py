"""A checkpoint is named by its directory, by `demo`, or by its repository on the hub; a path wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftvr_trt import CheckpointError
from swiftvr_trt.engines.bundle.checkpoints import (
    DEMO_DIRECTORY,
    PUBLISHED,
    REAE,
    HubRepository,
    find_checkpoint,
)


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_directory_is_a_checkpoint(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path) == find_checkpoint(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["demo", Path("demo")], ids=repr)
def test_demo_is_the_model_that_comes_with_the_package(name: str | Path) -> None:
    assert find_checkpoint(name) == DEMO_DIRECTORY
    assert (DEMO_DIRECTORY / REAE).is_file()


@pytest.mark.parametrize("name", ["demo", "hf:a", "SwiftVR"])
def test_a_directory_of_that_name_wins(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / REAE).touch()
    assert find_checkpoint(name) == Path(name)


def test_a_folder_that_only_hides_the_demonstration_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "clip.mp4").touch()
    with pytest.raises(CheckpointError, match="the folder demo here holds no checkpoint, and hides"):
        find_checkpoint("demo")


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("hf:H-oliday/SwiftVR", PUBLISHED),
        (Path("hf:H-oliday/SwiftVR"), PUBLISHED),
        ("hf:a.b/c_d@v1.0", HubRepository("a.b/c_d", "v1.0")),
        ("hf:a/b@refs/pr/1", HubRepository("a/b", "refs/pr/1")),
    ],
    ids=str,
)
def test_a_repository_on_the_hub(name: str | Path, repository: HubRepository) -> None:
    assert find_checkpoint(name) == repository
    assert str(repository) == str(name)


@pytest.mark.parametrize("name", ["hf:", "hf:a", "hf:a/b/c", "hf:a/b@", "hf:a/b@x@y", "hf:a/b@x y", "hf:../..//x"])
def test_what_is_no_repository(name: str) -> None:
    with pytest.raises(CheckpointError, match="expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION"):
        find_checkpoint(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nothing", "or demo for the demonstration model"),
        ("Demo", "or demo for the demonstration model"),
        ("demo/nothing", "or demo for the demonstration model"),
        ("H-oliday/SwiftVR", "type hf:H-oliday/SwiftVR"),
        ("https://huggingface.co/a/b", "type hf:a/b"),
        ("https://huggingface.co/a/b.git", "type hf:a/b"),
        ("hf://a/b", "type hf:a/b"),
    ],
)
def test_other_names_are_refused_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(name)
    assert str(caught.value).startswith(f"{name}: no such directory; ")
    assert hint in str(caught.value)


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "demo").touch()
    with pytest.raises(CheckpointError, match=r"^demo is a file, expected the directory of a SwiftVR checkpoint"):
        find_checkpoint("demo")
