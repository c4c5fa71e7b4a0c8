"""Which Pythons are found, and what is said where there are too few."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts import try_pythons
from scripts.try_pythons import SUPPORTED, find_pythons, megabytes


def test_this_python_is_found_once_and_others_by_their_version(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\necho 3.6\n", encoding="utf-8")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    for script in (old, broken):
        script.chmod(0o755)
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert find_pythons(iter([old, broken, Path(sys.executable), Path("/nowhere/python")])) == {
        here: Path(sys.executable)
    }


def test_one_python_is_too_few(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(try_pythons, "find_pythons", lambda: {"3.11": Path(sys.executable)})
    assert try_pythons.main() == 1
    line = capsys.readouterr().err
    assert (
        line
        == f"found Python 3.11, expected at least two of {', '.join(SUPPORTED)}: install another, e.g. with pyenv\n"
    )


def test_a_package_counts_with_its_libraries_and_pip_does_not_count(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.12" / "site-packages"
    sizes = {"ours": 2, "ours-1.dist-info": 1, "av": 3, "av.libs": 4, "numpy": 5, "numpy-2.4.dist-info": 1, "avalon": 1}
    for name, size in (sizes | {"pip": 9, "pip-23.2.dist-info": 9, "setuptools": 9, "pkg_resources": 9}).items():
        (packages / name).mkdir(parents=True)
        (packages / name / "file").write_bytes(bytes(size * 1_000_000))
    assert megabytes(tmp_path) == {"av": 7, "numpy": 6, "rest": 4}
