"""The CUDA device on the emulated driver. The checks are in `cuda_checks.py`; they run in a process of their own.

A process that has loaded the emulated driver keeps it, and other tests are about machines without one.
"""

from __future__ import annotations

import ast
import os
import platform
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from swiftvr_trt import Restorer

from ..conftest import BundleFactory
from .clips import CLIP_LEN, CLIPS, OUT, clip
from .fake_trt import write_engine_bundle

CHECKS = Path(__file__).with_name("cuda_checks.py")
NAMES = [
    node.name
    for node in ast.parse(CHECKS.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]
pytest.importorskip("cuda.core")
pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or shutil.which("gcc") is None, reason="the emulated driver needs Linux and gcc"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, mini_bundle: BundleFactory) -> ET.Element:
    """What came of all checks, run once, on engines made from a bundle and on what the CPU makes of the clips."""
    place = tmp_path_factory.mktemp("emulated")
    graphs = mini_bundle(OUT[1], OUT[0], CLIP_LEN)
    write_engine_bundle(place / "engines", graphs)
    with Restorer.open(graphs, threads=1) as restorer:
        np.savez(place / "expected.npz", **{key: list(restorer.restore(clip(key))) for key in CLIPS})
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-o",
        "python_functions=check_*",
        "-p",
        "no:cacheprovider",
        "--noconftest",
    ]
    command += [str(CHECKS), f"--junitxml={place / 'report.xml'}"]
    environment = {**os.environ, "SWIFTVR_EMULATED": str(place)}
    root = CHECKS.parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=900, check=False)
    assert (place / "report.xml").exists(), done.stdout + done.stderr
    return ET.parse(place / "report.xml").getroot()


@pytest.mark.parametrize("name", NAMES)
def test_on_the_emulated_driver(report: ET.Element, name: str) -> None:
    cases = [case for case in report.iter("testcase") if (case.get("name") or "").split("[")[0] == name]
    assert cases, f"{name} did not run"
    failures = [f"{c.get('name')}: {f.text}" for c in cases for f in (*c.findall("failure"), *c.findall("error"))]
    assert not failures, "\n".join(failures)
    assert not [case for case in cases if case.findall("skipped")]
