"""A release changes the changelog and the version, and nothing at all if one of its steps fails."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest

from scripts.release import ReleaseError, dated_changelog, release, section, with_version

DAY = datetime.date(2027, 1, 2)
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n\n## [0.1.0] - 2026-01-01\n\n- The first.\n"
PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "toy"
version = "0.1.0"
description = "A toy"
readme = "README.md"
"""


def git(place: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=place, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A repository of a package that builds in seconds."""
    root = tmp_path / "toy"
    root.mkdir()
    for name, text in (
        ("pyproject.toml", PYPROJECT),
        ("CHANGELOG.md", CHANGELOG),
        ("README.md", "# Toy\n\nA toy.\n"),
        ("toy.py", ""),
        (".gitignore", "dist/\n"),
    ):
        (root / name).write_text(text, encoding="utf-8")
    git(root, "init", "--quiet", "--initial-branch", "main")
    git(root, "config", "user.name", "Somebody")
    git(root, "config", "user.email", "somebody@example.org")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Begin")
    return root


def test_the_unreleased_section_gets_the_version_and_the_day() -> None:
    dated = dated_changelog(CHANGELOG, "0.2.0", DAY)
    assert "## [Unreleased]\n\n## [0.2.0] - 2027-01-02\n\n### Added\n\n- A thing.\n\n## [0.1.0]" in dated
    assert section(dated, "0.2.0") == "### Added\n\n- A thing."
    assert section(dated, "Unreleased") == ""
    assert section(dated, "0.1.0") == "- The first."


def test_a_changelog_without_news_is_refused() -> None:
    with pytest.raises(ReleaseError, match="nothing under"):
        dated_changelog(dated_changelog(CHANGELOG, "0.2.0", DAY), "0.3.0", DAY)
    with pytest.raises(ReleaseError, match=r"already has a section \[0\.1\.0\]"):
        dated_changelog(CHANGELOG, "0.1.0", DAY)


@pytest.mark.parametrize("version", ["0.2", "v0.2.0", "0.2.0-rc1", "", "0.2.0\n"])
def test_a_version_that_is_none_is_refused(version: str) -> None:
    with pytest.raises(ReleaseError, match="expected three numbers"):
        with_version(PYPROJECT, version)


def test_exactly_one_version_is_changed() -> None:
    assert 'version = "0.2.0rc1"' in with_version(PYPROJECT, "0.2.0rc1")
    with pytest.raises(ReleaseError, match="has 0 lines"):
        with_version("[project]\n", "0.2.0")


@pytest.mark.slow
def test_a_dry_run_builds_and_changes_nothing(toy: Path) -> None:
    before = git(toy, "rev-parse", "HEAD")
    assert release(toy, "0.2.0", DAY, dry_run=True) == "### Added\n\n- A thing."
    assert (git(toy, "rev-parse", "HEAD"), git(toy, "tag"), git(toy, "status", "--porcelain")) == (before, "", "")
    assert not (toy / "dist").exists()


@pytest.mark.slow
def test_a_release_is_a_commit_a_tag_and_two_files(toy: Path) -> None:
    release(toy, "0.2.0", DAY, dry_run=False)
    assert git(toy, "log", "-1", "--format=%an: %s") == "Somebody: Version 0.2.0"
    assert git(toy, "rev-parse", "v0.2.0^{commit}") == git(toy, "rev-parse", "HEAD")
    assert 'version = "0.2.0"' in (toy / "pyproject.toml").read_text(encoding="utf-8")
    assert {file.name for file in (toy / "dist").iterdir()} == {"toy-0.2.0.tar.gz", "toy-0.2.0-py3-none-any.whl"}
    with pytest.raises(ReleaseError, match=r"the tag v0\.2\.0 exists"):
        release(toy, "0.2.0", DAY, dry_run=True)


def test_changes_that_are_not_committed_stop_a_release(toy: Path) -> None:
    (toy / "toy.py").write_text("changed = True\n", encoding="utf-8")
    with pytest.raises(ReleaseError, match="not committed"):
        release(toy, "0.2.0", DAY, dry_run=True)


@pytest.mark.slow
def test_a_build_that_fails_changes_nothing(toy: Path) -> None:
    (toy / "README.md").unlink()
    git(toy, "commit", "--quiet", "--all", "--message", "Forget the README")
    before = git(toy, "rev-parse", "HEAD")
    with pytest.raises(ReleaseError, match=r"twine check .* failed: .*WARNING"):
        release(toy, "0.2.0", DAY, dry_run=False)
    assert (git(toy, "rev-parse", "HEAD"), git(toy, "tag"), git(toy, "status", "--porcelain")) == (before, "", "")
