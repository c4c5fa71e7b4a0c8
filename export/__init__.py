"""A checkpoint becomes a bundle. The only room with torch.

    network/    the published network in plain torch
    graph/      what is traced instead: the same function, cheaper and in any precision, as ONNX
    build       bundles for the options of a command, from the cache if they are there
    write       writes one bundle: load, trace, compile
    verify      compares a bundle with the network it was made from

`cli`, benchmarks and tests may import it; `runtime` and `engines` may not.
"""
