"""Restore one input into one output. `swiftvr-run` does this for a single file, and each worker process of a fleet."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import MachineError
from ...text import duration
from ..media import SinkOptions, open_sink, open_source

if TYPE_CHECKING:
    from ...engines.bundle.geometry import Resolution
    from .display import Display
    from .pipeline import Progress
    from .restorer import Restorer


@dataclass(frozen=True)
class Job:
    """An input, its output, and how they are read and written.

    output: as typed, because a slash at its end means a folder. rate: frames per second of a folder of images. hwaccel:
    one of `hwaccel.MODES`. device: where the bundle runs, as in `Restorer.open`.
    """

    source: Path
    output: str
    rate: Fraction | None = None
    sink: SinkOptions = field(default_factory=SinkOptions)
    hwaccel: str = "none"
    device: str | None = None

    @property
    def name(self) -> str:
        """The name of the input, for messages."""
        return self.source.name or str(self.source)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for another process."""
        rate = None if self.rate is None else str(self.rate)
        return {**asdict(self), "source": str(self.source), "rate": rate}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Job:
        """The inverse of `to_dict`."""
        sink = {**plain["sink"], "extra": tuple(map(tuple, plain["sink"]["extra"]))}
        rate = None if plain["rate"] is None else Fraction(plain["rate"])
        return cls(**{**plain, "source": Path(plain["source"]), "rate": rate, "sink": SinkOptions(**sink)})


@dataclass(frozen=True)
class JobWithBundle:
    """A job, and the directory of the bundle that does it."""

    job: Job
    bundle: str


@dataclass(frozen=True)
class Failure:
    """A job that was not done, and why, in one line."""

    job: Job
    reason: str


def restore_job(
    job: Job,
    output_size: Callable[[int, int], Resolution],
    open_restorer: Callable[[Resolution], AbstractContextManager[Restorer]],
    display: Display,
) -> str:
    """Restore a file; returns a line about the result.

    output_size: the size of the output for an input of (width, height) pixels. open_restorer: called once, after the
    output was opened, since a bundle may take minutes to build. display: gets progress, and lines about the input, the
    output and what is lost between them.
    Raises `MachineError` if the input is incomplete; the output then holds what could be restored.
    """
    from .hwaccel import video_gpu
    from .pipeline import restore_media

    gpu = video_gpu(job.hwaccel, job.device, display.say)
    with open_source(job.source, rate=job.rate, gpu=gpu) as source:
        info = source.info
        for line in (f"input:  {info.description}", *source.notes):
            display.say(line)
        size = output_size(info.width, info.height)
        with open_sink(job.output, info, size.width, size.height, replace(job.sink, gpu=gpu)) as sink:
            said = {*source.notes, *sink.notes}
            for line in sink.notes:
                display.say(line)
            with open_restorer(size) as restorer, restorer.session() as session:
                done = restore_media(
                    session, source, sink, lambda now: display.update("", now.written, now.total, now.remaining)
                )
            display.finish("")
        for line in (*source.notes, *sink.notes):
            if line not in said:
                display.say(line)
        if source.shortfall:
            raise MachineError(f"{source.shortfall}; {job.output} holds what could be restored")
    return _summary(job.output, done)


def _summary(output: str, done: Progress) -> str:
    frames = f"{done.written} frame{'s' * (done.written != 1)}"
    return f"output: {output}, {frames} in {duration(done.elapsed)} ({done.rate:.2f} frames/s)"
