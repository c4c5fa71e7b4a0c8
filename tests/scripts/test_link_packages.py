"""Packages that are linked into another environment are complete, and no others are there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.link_packages import link_packages, needed


@pytest.mark.parametrize(
    ("requirement", "some", "none"),
    [
        (
            "swiftvr-trt",
            {"swiftvr-trt", "av", "numpy", "click", "rich", "pygments"},
            {"onnxruntime", "torch", "pytest"},
        ),
        ("swiftvr-trt[cpu]", {"onnxruntime", "protobuf"}, {"torch", "onnx"}),
        ("swiftvr-trt[export]", {"torch", "sympy", "mpmath", "onnx-ir"}, {"onnxruntime", "ray"}),
        ("torch", {"torch", "markupsafe"}, {"av", "swiftvr-trt"}),
    ],
)
def test_what_a_requirement_leads_to(requirement: str, some: set[str], none: set[str]) -> None:
    found = needed(requirement)
    assert some <= found
    assert not none & found


def test_a_linked_package_is_installed_for_pip_and_python(tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    link_packages(environment, "rich")
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    check: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "check"]
    subprocess.run(check, check=True, stdout=subprocess.DEVNULL)
    code = "import rich.console, pygments, importlib.util as u; print(u.find_spec('numpy'), rich.__file__)"
    said = subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.startswith(f"None {environment}")
