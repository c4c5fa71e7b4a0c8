"""Compile an ONNX file into an engine, in a child process that may crash, run out of memory, or be interrupted.

To compile one file from the command line and see what the compiler made of it:

    python -m swiftvr_trt.engines.compile decode.onnx --target rtx5090
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from uuid import uuid4

from ... import leaving
from ...child import Child, Message
from ...errors import BuildError, MissingPackageError
from ...text import LineCallback, last_line
from ..bundle.manifest import Shape
from ..bundle.targets import TENSORRT_EXTRAS, TENSORRT_MODULES
from .log import BuildLog, parse_log

Profile = Mapping[str, tuple[Shape, Shape, Shape]]
"""Input name -> its smallest, usual and largest shape. Inputs with a static shape may be left out."""

WORKSPACE_BYTES = 4 << 30
"""The most scratch memory that a kernel may use, in bytes."""
_NO_GPU = "cudaError 35"
"""The compiler reports this after any failure on a machine without a driver; it is never the cause."""
_TAIL = 300
"""Characters of the compiler's own words in a message."""
_PROCESS = "swiftvr_trt.engines.compile.compiler_process"
_PATIENCE_S = 2.0
"""Seconds that the process has to leave; it has nothing to clean up."""


@dataclass(frozen=True)
class CompileJob:
    """One ONNX file to compile into the file `engine`.

    compiler: `RTX` or `TRT` of `targets`. sm: compute capability, e.g. `SM120`; None for the GPU of this machine.
    profiles: none if all shapes are static.
    """

    onnx: Path
    engine: Path
    compiler: str
    sm: str | None
    profiles: tuple[Profile, ...] = ()
    workspace_bytes: int = WORKSPACE_BYTES


@dataclass(frozen=True)
class Engine:
    """A compiled engine and its build.

    made: what the compiler made, read from `log`. seconds, peak_bytes: time and most memory of the build; None if the
    memory is unknown. log: everything the compiler wrote to its logger.
    """

    path: Path
    made: BuildLog
    compiler_version: str
    seconds: float
    peak_bytes: int | None
    log: str

    @property
    def nbytes(self) -> int:
        """Size of the file in bytes."""
        return self.path.stat().st_size


def compiler_version(compiler: str) -> str:
    """The installed version of a compiler, without loading it. Raises `MissingPackageError` if it is not installed."""
    module = TENSORRT_MODULES[compiler]
    for package in metadata.packages_distributions().get(module, ()):
        return metadata.version(package)
    raise MissingPackageError(module.replace("_", "-"), f"building with {compiler}", TENSORRT_EXTRAS[compiler])


def compile_engine(job: CompileJob, report: LineCallback = lambda _: None) -> Engine:
    """Build the engine of `job`; `report` gets a line now and then.

    Raises `BuildError` if the compiler cannot compile it, or its process ends; no engine is left then.
    """
    with _temporary_directory() as directory:
        log = directory / "log"
        try:
            with Child(_PROCESS, patience_s=_PATIENCE_S, keep_errors=True) as child:
                made = child.ask(_order(job, log), report)
                if made is None:
                    raise BuildError(f"{job.onnx.name}: the compiler's process {_ending(child)}")
                return _engine(job, made, log.read_text(encoding="utf-8", errors="replace"), child.errors())
        except BaseException:
            job.engine.unlink(missing_ok=True)
            raise


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    """A directory that is gone afterwards, even if the process has to leave."""
    place = Path(tempfile.gettempdir()) / f"swiftvr-{uuid4().hex[:8]}"
    with leaving.creating(place) as release:
        place.mkdir(mode=0o700)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        release()


def _order(job: CompileJob, log: Path) -> Message:
    """The order for `compiler_process.py`, which changes its folder. log: the file for the compiler's log."""
    return {
        "module": TENSORRT_MODULES[job.compiler],
        "onnx": str(job.onnx.resolve()),
        "engine": str(job.engine.resolve()),
        "sm": job.sm,
        "profiles": [{name: [list(shape) for shape in shapes] for name, shapes in p.items()} for p in job.profiles],
        "workspace_bytes": job.workspace_bytes,
        "log": str(log.resolve()),
    }


def _engine(job: CompileJob, made: Message, log: str, errors: str) -> Engine:
    """The engine, from the child's answer, the compiler's log, and what the child wrote to standard error."""
    if made["problem"]:
        raise BuildError(f"{job.onnx.name}: {job.compiler} cannot compile it; {made['problem']}{_reason(log, errors)}")
    return Engine(job.engine, parse_log(log), made["version"], made["seconds"], made["peak_bytes"], log)


def _ending(child: Child) -> str:
    """How the process ended without an answer."""
    code = child.exit_code(_PATIENCE_S)
    if code == -getattr(signal, "SIGKILL", 9):
        cause = "was killed, most likely because memory ran out; close other programs, or build a smaller resolution"
    elif code is None:
        cause = "stopped answering"
    elif code < 0 or code >= 1 << 30:  # a signal, or Windows' exception code
        cause = f"crashed (code {code})"
    else:
        cause = f"failed (code {code})"
    return cause + _detail(child.errors())


def _reason(log: str, errors: str) -> str:
    """The cause in the compiler's words: what it wrote past its logger, or else the first error in its log."""
    lines = [line[4:] for line in log.splitlines() if line.startswith("[E] ") and _NO_GPU not in line]
    causes = [line.strip() for line in errors.splitlines() if "Internal Error" in line] or lines[:1]
    return f": {causes[0][:_TAIL]}" if causes else _detail(errors)


def _detail(errors: str) -> str:
    """The last line that a process wrote to standard error, to be put behind a message."""
    line = last_line(errors)
    return f": {line[:_TAIL]}" if line else ""
