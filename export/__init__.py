"""A checkpoint becomes a bundle. The only room with torch: `cli` calls it, and `runtime` and `engines` never do.

network/    the published network in plain torch
graph/      what is traced instead: the same function in a cheaper form, in any precision, as ONNX
build       checkpoint -> bundle
verify      bundle against the network it was made from
"""
