"""What runs the stages of a bundle: the CPU, or an NVIDIA GPU with TensorRT or ONNX Runtime.

`CpuDevice` and `CudaDevice` implement the `Device` protocol of `runtime.stream`. The CUDA device owns memory, order and
capture; a `StageProvider` (`stage_provider.py`) loads and runs the stages.

`runtime.restore`, `export` and `cli` may import this room. It imports nothing of ours but `runtime.stream`,
`engines.bundle`, `errors` and `text`.
"""
