"""Tests on a real GPU, and the program that runs them and reports.

`start.py` needs only Python: it installs everything and starts `runner.py`, which runs `test_gpu.py` and
`test_video.py` here, measures speed with `benchmarks/gpu_speed.py` and writes the report (`report.py`). The other test
modules test these programs and run without a GPU.
"""

from swiftvr_trt.engines.bundle.targets import PRECISIONS, TARGETS

_COMPILED = frozenset(precision for target in TARGETS if target.compiled for precision in target.precisions)
ROUTES = ("graphs-fp32", "graphs-fp16", *(f"engines-{each}" for each in PRECISIONS if each in _COMPILED))
"""Ways to run on a GPU: graphs on ONNX Runtime, or engines in one precision: all that a target takes."""
REHEARSED = ("graphs-fp32", "engines-fp16")
"""Those that a rehearsal goes through: one that the CPU can run, and one that it cannot."""
