"""The form of the network that is exported, and its export to ONNX.

    stages                            what a bundle consists of: encode, dit, dit_edge, decode
    dit_stage                         the transformer, made of conditioning, self_attention and cross_attention
    rewrites                          the algebra that makes it cheaper
    precision, layers, fp8, nvfp4     number formats, and the layers that compute in them
    calibration                       scales for quantised precisions
    to_onnx                           stages to ONNX files

`export`, benchmarks and tests may import it.
"""
