"""A fake compiler that harms its process as a test asks, and jobs for it and for the real one."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from swiftvr_trt.engines.bundle.targets import RTX, TENSORRT_MODULES
from swiftvr_trt.engines.compile.compiler import CompileJob

real = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX")

_BASES = """
import os, signal, sys, threading, time
__version__ = "0"
class ILogger:
    def __init__(self): pass
"""


def job(onnx_file: Path, *lengths: int) -> CompileJob:
    profiles = tuple({"x": ((length, 16),) * 3} for length in lengths)
    return CompileJob(onnx_file, onnx_file.with_name("m.engine"), RTX, "SM120", profiles)


def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, builder: str) -> None:
    """Put a compiler in place whose Builder does what `builder` says."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "played.py").write_text(f"{_BASES}\ndef Builder(logger):\n    {builder}\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setitem(TENSORRT_MODULES, RTX, "played")


def report_often(site: Path) -> None:
    """Have the process report every 10 ms instead of every 20 s."""
    (site / "sitecustomize.py").write_text("import time\nslept = time.sleep\ntime.sleep = lambda _: slept(0.01)\n")
