"""From graphs to engines: the bundle, the compilers, and reports about both.

    bundle/     the format on disk, which the exporter writes and the runtime reads
    compile/    runs a compiler in a child process and reads its log
    report/     describes a bundle: kernels, memory, projected speed

Nothing in here imports `runtime`, `export`, or `cli`.
"""
