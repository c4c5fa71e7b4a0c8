"""Graphs become engines: a TensorRT compiler runs in a child process, and its log is read.

`export` and `cli` import this room, and `engines.report` reads its report files. The runtime never does, since running
an engine takes no compiler.
"""
