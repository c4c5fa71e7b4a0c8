"""Release a version: changelog section, sdist and wheel, `twine check`, commit and tag.

    python scripts/release.py 0.2.0 --dry-run     everything but the commit and the tag
    python scripts/release.py 0.2.0               then: git push --follow-tags; twine upload dist/*

The work is done in a temporary clone. This checkout changes only if all of it succeeds.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
_UNRELEASED = "## [Unreleased]\n"


class ReleaseError(Exception):
    """The release cannot be made; one line that says why."""


def dated_changelog(text: str, version: str, day: datetime.date) -> str:
    """The changelog with its unreleased section under this version, and an empty unreleased one above it."""
    notes = section(text, "Unreleased")
    if not notes:
        raise ReleaseError("CHANGELOG.md has nothing under [Unreleased], expected what users notice: write it first")
    if f"## [{version}]" in text:
        raise ReleaseError(f"CHANGELOG.md already has a section [{version}], expected a new version")
    return text.replace(_UNRELEASED, f"{_UNRELEASED}\n## [{version}] - {day.isoformat()}\n", 1)


def section(text: str, name: str) -> str:
    """The notes of one version, without its heading; empty if there are none."""
    found = re.search(rf"^## \[{re.escape(name)}\][^\n]*\n(.*?)(?=^## \[|\Z)", text, re.M | re.S)
    return found[1].strip() if found else ""


def with_version(pyproject: str, version: str) -> str:
    """pyproject.toml with another version. Raises `ReleaseError` if it is malformed, or not there exactly once."""
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"the version is {version!r}, expected three numbers such as 0.2.0, or 0.2.0rc1")
    changed, count = re.subn(r'^version = "[^"]*"$', f'version = "{version}"', pyproject, flags=re.M)
    if count != 1:
        raise ReleaseError(f"pyproject.toml has {count} lines `version = ...`, expected one")
    return changed


def release(root: Path, version: str, day: datetime.date, *, dry_run: bool) -> str:
    """Make the release of the repository at `root`. Returns its notes. Raises `ReleaseError`."""
    if _git(root, "status", "--porcelain"):
        raise ReleaseError("the checkout has changes that are not committed: commit or stash them")
    if _git(root, "tag", "--list", f"v{version}"):
        raise ReleaseError(f"the tag v{version} exists already: choose another version")
    with tempfile.TemporaryDirectory(prefix="swiftvr-release-") as folder:
        clone = Path(folder) / "clone"
        _run(root, "git", "clone", "--quiet", root, clone)
        pyproject, changelog = clone / "pyproject.toml", clone / "CHANGELOG.md"
        pyproject.write_text(with_version(pyproject.read_text(encoding="utf-8"), version), encoding="utf-8")
        dated = dated_changelog(changelog.read_text(encoding="utf-8"), version, day)
        changelog.write_text(dated, encoding="utf-8")
        # Without isolation it takes this environment's setuptools, which the extra `dev` brings, and no network.
        _run(clone, sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", ".")
        files = sorted((clone / "dist").iterdir())
        _run(clone, sys.executable, "-m", "twine", "check", "--strict", *files)
        if not dry_run:
            _commit(root, clone, version)
            shutil.copytree(clone / "dist", root / "dist", dirs_exist_ok=True)
    return section(dated, version)


def _commit(root: Path, clone: Path, version: str) -> None:
    """Commit and tag in the clone, with the name of this checkout's user, and bring both here."""
    for key in ("user.name", "user.email"):
        _git(clone, "config", key, _git(root, "config", key))
    _git(clone, "commit", "--quiet", "--all", "--message", f"Version {version}")
    _git(clone, "tag", "--annotate", f"v{version}", "--message", f"Version {version}")
    _git(root, "pull", "--quiet", "--ff-only", "--tags", str(clone), "HEAD")


def _git(place: Path, *arguments: str) -> str:
    return _run(place, "git", *arguments)


def _run(place: Path, *line: str | Path) -> str:
    plain = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(line, cwd=place, env=plain, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise ReleaseError(f"{' '.join(map(str, line))} failed: {''.join(last)}")
    return done.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Release a version: changelog, sdist, wheel, checks, commit and tag.")
    parser.add_argument("version", help="e.g. 0.2.0")
    parser.add_argument("--dry-run", action="store_true", help="build and check, but commit and tag nothing")
    given = parser.parse_args(arguments)
    try:
        notes = release(ROOT, given.version, datetime.datetime.now(datetime.UTC).date(), dry_run=given.dry_run)
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(notes)
    print(f"\nversion {given.version} is ready{' (dry run: nothing was changed)' if given.dry_run else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
