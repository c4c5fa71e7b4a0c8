"""The public names of the package, and what importing it costs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import swiftvr_trt

PUBLIC = [
    "Bundle",
    "BundleError",
    "Cancelled",
    "CheckpointError",
    "FrameForm",
    "LiveSession",
    "MachineError",
    "Manifest",
    "MediaError",
    "MissingPackageError",
    "MisuseError",
    "OutputError",
    "Planes",
    "Resolution",
    "Restorer",
    "Session",
    "StageError",
    "Surface",
    "SwiftVRError",
    "YuvColour",
    "__version__",
    "pixel_format",
    "restore_file",
    "vapoursynth",
]
HEAVY = ("torch", "onnx", "onnxruntime", "av", "rich", "tensorrt", "tensorrt_rtx", "polygraphy", "cuda")
OURS = ("swiftvr_trt.engines.compile", "swiftvr_trt.engines.report", "swiftvr_trt.export", "swiftvr_trt.cli")


def test_the_public_names_are_a_contract() -> None:
    assert swiftvr_trt.__all__ == PUBLIC
    assert all(hasattr(swiftvr_trt, name) for name in PUBLIC)


@pytest.mark.parametrize(("given", "kept"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
def test_libraries_send_nothing_about_their_users_unless_these_want_it(given: dict[str, str], kept: str) -> None:
    code = (
        "import os, sys, swiftvr_trt\n"
        "assert not {'onnxruntime', 'huggingface_hub'} & set(sys.modules)\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    )
    clean = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    done = subprocess.run([sys.executable, "-c", code], env={**clean, **given}, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == ([kept, "1"], "")


@pytest.mark.parametrize("module", ["swiftvr_trt", "swiftvr_trt.runtime"])
def test_importing_loads_no_compiler_no_inspector_and_no_framework(module: str) -> None:
    code = f"import sys, {module}\nprint(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert module in loaded
    assert [name for name in loaded if name in HEAVY or name.startswith(OURS)] == []
