"""Tests on a real GPU, and the program that runs them and reports.

`start.py` needs only Python: it installs everything and starts `runner.py`, which runs `test_gpu.py` and
`test_video.py` here, measures speed with `benchmarks/gpu_speed.py` and writes the report (`report.py`). The other test
modules test these programs and run without a GPU.
"""

ROUTES = ("graphs-fp32", "engines-fp16", "engines-bf16", "engines-fp8")
"""Ways to run on a GPU: graphs on ONNX Runtime, or engines in one precision."""
