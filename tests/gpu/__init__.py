"""What a GPU must do, tested on a real one."""

ROUTES = ("graphs-fp32", "engines-fp16", "engines-bf16", "engines-fp8")
"""Ways to run on a GPU: graphs by ONNX Runtime, or engines in one precision."""
