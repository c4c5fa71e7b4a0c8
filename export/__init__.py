"""Turn a checkpoint into a bundle. Only this room imports torch.

    network/         the published network in plain torch
    graph/           the form that is exported: the same function, cheaper, in any precision, as ONNX
    build            builds bundles, or finds them in the cache
    build_process    the child process in which `runtime` has a bundle built
    write            writes one bundle: load, trace, compile
    verify           compares a bundle with the network it was made from
    moving_picture   a moving picture to test with; needs no torch

`cli`, benchmarks and tests may import it; `runtime` and `engines` may not.
"""
