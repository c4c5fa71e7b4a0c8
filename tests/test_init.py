"""The public names of the package, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import swiftvr_trt

PUBLIC = [
    "Bundle",
    "BundleError",
    "Cancelled",
    "CheckpointError",
    "MachineError",
    "Manifest",
    "MediaError",
    "MissingPackageError",
    "MisuseError",
    "OutputError",
    "Resolution",
    "Restorer",
    "Session",
    "StageError",
    "SwiftVRError",
    "__version__",
]
HEAVY = ("torch", "onnx", "onnxruntime", "av", "rich", "tensorrt", "tensorrt_rtx", "polygraphy", "cuda")
OURS = ("swiftvr_trt.engines.compile", "swiftvr_trt.engines.report", "swiftvr_trt.export", "swiftvr_trt.cli")


def test_the_public_names_are_a_contract() -> None:
    assert swiftvr_trt.__all__ == PUBLIC
    assert all(hasattr(swiftvr_trt, name) for name in PUBLIC)


@pytest.mark.parametrize("module", ["swiftvr_trt", "swiftvr_trt.runtime"])
def test_importing_loads_no_compiler_no_inspector_and_no_framework(module: str) -> None:
    code = f"import sys, {module}\nprint(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert module in loaded
    assert [name for name in loaded if name in HEAVY or name.startswith(OURS)] == []
