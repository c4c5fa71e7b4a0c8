"""The lowest versions are those of pyproject.toml, and a requirement without one is refused."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest

from scripts.lowest_versions import PYPROJECT, lowest, requirements_of

PROJECT = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]


def test_a_lower_bound_becomes_an_exact_version() -> None:
    given = ["av>=18.0,<20", "tensorrt>=11.1; sys_platform != 'darwin'", "onnx-ir >= 0.1"]
    assert lowest(given) == ["av==18.0", "tensorrt==11.1", "onnx-ir==0.1"]


@pytest.mark.parametrize("requirement", ["numpy", "numpy<3", "numpy==2.0"])
def test_a_requirement_without_a_lower_bound_is_refused(requirement: str) -> None:
    with pytest.raises(ValueError, match="no lower bound"):
        lowest([requirement])


def test_an_unknown_extra_is_refused() -> None:
    with pytest.raises(ValueError, match="no extra is called 'gpus'"):
        requirements_of(PROJECT, ["cpu", "gpus"])


def test_every_requirement_for_users_has_a_lower_bound() -> None:
    """Also of the extras that CI cannot install on every machine."""
    extras = [extra for extra in PROJECT["optional-dependencies"] if extra != "dev"]
    assert lowest(requirements_of(PROJECT, extras))


def test_the_script_prints_constraints() -> None:
    script = PYPROJECT.parent / "scripts" / "lowest_versions.py"
    said = subprocess.run([sys.executable, script, "cpu"], capture_output=True, text=True, check=True).stdout.split()
    assert len(said) == len(set(said)) == len(PROJECT["dependencies"]) + 1
    assert all("==" in line for line in said)
    bad = subprocess.run([sys.executable, script, "gpus"], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stdout) == (2, "")
