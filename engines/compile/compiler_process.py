"""The process that compiles: one ONNX file becomes one engine file.

A compiler may crash its process, take all memory, or write to the C++ streams; in a process of its own, that harms
nothing else. `compiler.py` sends the job. A line every 20 seconds shows that a long build is alive.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from pathlib import Path
from typing import IO, Any

from ...child import Message, Parent
from ...text import LineCallback
from .memory import PeakMemory

_REPORT_EVERY_S = 20.0
_DEEPEST_PHASE = 2
"""Deeper phases come by the thousand."""


def main(parent: Parent) -> None:
    """Compile the one file that the parent orders."""
    job = parent.receive()
    if job is not None:
        parent.answer(_compile(job, parent.say))


def _compile(job: Message, say: LineCallback) -> Message:
    """The answer: `problem` (None if all went well), `seconds`, `peak_bytes` (None if unknown), and the `version`."""
    began, phase = time.monotonic(), ["loading the compiler"]
    with PeakMemory() as memory:
        threading.Thread(target=_show_progress, args=(began, phase, memory, say), daemon=True).start()
        trt = importlib.import_module(job["module"])
        with Path(job["log"]).open("w", encoding="utf-8", errors="replace") as log:
            problem = _build(trt, _logger(trt, log), job, phase)
        seconds, peak = time.monotonic() - began, memory.nbytes
    return {"problem": problem, "seconds": seconds, "peak_bytes": peak, "version": trt.__version__}


def _show_progress(began: float, phase: list[str], memory: PeakMemory, say: LineCallback) -> None:
    """Report the phase, the time and the memory of the build at intervals."""
    while True:
        time.sleep(_REPORT_EVERY_S)
        peak = f", {memory.nbytes / 1e9:.1f} GB of memory" if memory.nbytes else ""
        say(f"{phase[0]}, {time.monotonic() - began:.0f} s{peak}")


def _build(trt: Any, logger: Any, job: dict[str, Any], phase: list[str]) -> str | None:
    """What went wrong; None if nothing did. The first logger of a process wins, hence one process per build."""
    phase[:] = ["reading the graph"]
    builder = trt.Builder(logger)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    # On Windows the parser can open few names that are not ASCII: it gets UTF-8, and opens files, that of the weights
    # too, by names in the ANSI code page. So it gets no folder. All other paths of the job are absolute.
    folder, name = os.path.split(job["onnx"])
    os.chdir(folder)
    if not parser.parse_from_file(name):
        return "the parser refused it: " + "; ".join(parser.get_error(k).desc() for k in range(parser.num_errors))
    config = _config(trt, builder, network, job)
    config.progress_monitor = _monitor(trt, phase)
    with Path(job["engine"]).open("wb") as file:
        built = _serialize(trt, builder, network, config, file)
    return None if built else "the compiler gave up"


def _strongly_typed(trt: Any) -> int:
    """The flag that makes the graph's types binding. Newer versions always do that and may lack the flag."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _config(trt: Any, builder: Any, network: Any, job: dict[str, Any]) -> Any:
    config = builder.create_builder_config()
    if job["sm"]:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, job["sm"]), 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.max_aux_streams = 0  # more streams need more activation memory, and here one kernel fills the GPU
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job["workspace_bytes"])
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        # TensorRT-RTX: without it a stage may allocate while it runs, and then a CUDA graph cannot hold it.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    # The timing cache is never touched: asking for one queries a GPU.
    names = [network.get_input(k).name for k in range(network.num_inputs)]
    for shapes in job["profiles"]:
        profile = builder.create_optimization_profile()
        for name in names:
            if name in shapes:
                profile.set_shape(name, *map(tuple, shapes[name]))
        config.add_optimization_profile(profile)
    return config


def _serialize(trt: Any, builder: Any, network: Any, config: Any, file: IO[bytes]) -> bool:
    """Write the engine, straight into the file if the compiler can, which saves a copy in memory. False: no engine."""
    if hasattr(builder, "build_serialized_network_to_stream"):
        return bool(builder.build_serialized_network_to_stream(network, config, _writer(trt, file)))
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        return False
    file.write(engine)
    return True


def _writer(trt: Any, file: IO[bytes]) -> Any:
    class Writer(trt.IStreamWriter):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IStreamWriter.__init__(self)

        def write(self, data: bytes) -> int:
            return file.write(data)

    return Writer()


def _logger(trt: Any, log: IO[str]) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            log.write(f"[{severity.name[0]}] {message}\n")
            log.flush()  # the lines just before a crash matter most

    return Logger()


def _monitor(trt: Any, phase: list[str]) -> Any:
    """A progress monitor that keeps the current phase, down to `_DEEPEST_PHASE`, in `phase[0]`."""
    depth: dict[str, int] = {}

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            depth[phase_name] = depth.get(parent_phase or "", 0) + 1
            if depth[phase_name] <= _DEEPEST_PHASE:
                phase[:] = [phase_name.lower()]

        def step_complete(self, phase_name: str, step: int) -> bool:  # noqa: ARG002
            return True

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()
