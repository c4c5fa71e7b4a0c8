"""From graphs to engines: what a bundle is, how engines are compiled, and what can be said about them.

    bundle/     the format on disk, which the exporter writes and the runtime reads
    compile/    runs a compiler in a child process and reads its log
    report/     describes a bundle: kernels, memory, projected speed

Nothing in here imports `runtime`, `export`, or `cli`.
"""
