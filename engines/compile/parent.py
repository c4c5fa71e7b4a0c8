"""ONNX becomes an engine, in a child process that may crash, run out of memory, or be interrupted.

    python -m swiftvr_trt.engines.compile decode.onnx --target rtx5090

compiles one file and prints what the compiler made of it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from swiftvr_trt.engines.bundle.targets import RTX, TRT
from swiftvr_trt.errors import BuildError, MachineError, MissingPackageError
from swiftvr_trt.text import LineCallback

from .log import BuildLog, parse_log

Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]
"""Input name -> its smallest, its usual and its largest shape. Inputs of one static shape need not be in it."""

WORKSPACE_BYTES = 4 << 30
"""Scratch memory that a kernel may ask for at most, so that an engine fits beside its weights on the card."""
MODULES = {RTX: "tensorrt_rtx", TRT: "tensorrt"}
_EXTRAS = {RTX: "rtx", TRT: "tensorrt"}
_NO_GPU = "cudaError 35"
"""What the compiler says after any failure on a machine without a driver; it is never the cause."""
_TAIL = 300


@dataclass(frozen=True)
class Job:
    """One build. sm: compute capability, e.g. `SM120`; None for the GPU of this machine."""

    onnx: Path
    engine: Path
    compiler: str
    sm: str | None
    profiles: tuple[Profile, ...] = ()
    workspace_bytes: int = WORKSPACE_BYTES


@dataclass(frozen=True)
class Engine:
    """A compiled engine: what is in it, and what it took to make it. `log` is all that the compiler wrote."""

    path: Path
    made: BuildLog
    compiler_version: str
    seconds: float
    peak_bytes: int | None
    log: str

    @property
    def nbytes(self) -> int:
        return self.path.stat().st_size


def compiler_version(compiler: str) -> str:
    """Version of a compiler as installed; `MissingPackageError` if it is not. Nothing is loaded into this process."""
    module = MODULES[compiler]
    for package in metadata.packages_distributions().get(module, ()):
        return metadata.version(package)
    raise MissingPackageError(module.replace("_", "-"), f"building with {compiler}", _EXTRAS[compiler])


def compile_engine(job: Job, report: LineCallback = lambda _: None) -> Engine:
    """Build the engine of `job`; `report` gets a line now and then. Raises `BuildError`, and then leaves no engine."""
    with tempfile.TemporaryDirectory(prefix="swiftvr-") as directory:
        place = Path(directory)
        try:
            code, errors = _run(_write_job(job, place), place, report)
            return _collect(job, place, code, errors)
        except BaseException:
            job.engine.unlink(missing_ok=True)
            raise


def _write_job(job: Job, place: Path) -> Path:
    path = place / "job.json"
    text = {
        "module": MODULES[job.compiler],
        "onnx": str(job.onnx.resolve()),
        "engine": str(job.engine.resolve()),
        "sm": job.sm,
        "profiles": [{name: [list(shape) for shape in shapes] for name, shapes in p.items()} for p in job.profiles],
        "workspace_bytes": job.workspace_bytes,
        "log": str(place / "log"),
        "result": str(place / "result.json"),
    }
    path.write_text(json.dumps(text), encoding="utf-8")
    return path


def _run(job_file: Path, place: Path, report: LineCallback) -> tuple[int, str]:
    """Exit code and standard error of the child. Whatever ends the wait ends the child, too."""
    command = [sys.executable, "-P", "-m", "swiftvr_trt.engines.compile.child", str(job_file)]
    with (place / "stderr").open("w+", encoding="utf-8", errors="replace") as errors:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace"
        ) as child:
            try:
                for line in child.stdout or ():
                    report(line.rstrip())
                code = child.wait()
            finally:
                child.kill()
        errors.seek(0)
        return code, errors.read()


def _collect(job: Job, place: Path, code: int, errors: str) -> Engine:
    name = job.onnx.name
    if not (place / "result.json").exists():
        raise MachineError(f"{name}: the compiler's process {_ending(code)}{_last_line(errors)}")
    result = json.loads((place / "result.json").read_text(encoding="utf-8"))
    log = (place / "log").read_text(encoding="utf-8", errors="replace")
    if result["problem"]:
        raise BuildError(f"{name}: {job.compiler} cannot compile it; {result['problem']}{_reason(log, errors)}")
    made = parse_log(log)
    return Engine(job.engine, made, result["version"], result["seconds"], result["peak_bytes"], log)


def _ending(code: int) -> str:
    """How a process ended that left no result, in words."""
    if code == -getattr(signal, "SIGKILL", 9):
        return "was killed, most likely because memory ran out; close other programs, or build a smaller resolution"
    if code < 0 or code >= 1 << 30:  # a signal, or Windows' exception code
        return f"crashed (code {code})"
    return f"failed (code {code})"


def _reason(log: str, errors: str) -> str:
    """The compiler's own words: what it wrote past its logger, which is the cause, or else an error of its log."""
    lines = [line[4:] for line in log.splitlines() if line.startswith("[E] ") and _NO_GPU not in line]
    causes = [line.strip() for line in errors.splitlines() if "Internal Error" in line] or lines[:1]
    return f": {causes[0][:_TAIL]}" if causes else _last_line(errors)


def _last_line(errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return f": {lines[-1][:_TAIL]}" if lines else ""
