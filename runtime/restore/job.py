"""Restores one input into one output: for `swiftvr-run` with a single file, and in the worker processes of a fleet."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...engines.bundle.geometry import Resolution
from ...errors import MachineError
from ...text import format_duration
from ..media import SinkOptions, open_sink, open_source
from .display import Display
from .hwaccel import video_gpu
from .pipeline import Progress, restore_media
from .restorer import Restorer
from .selection import BundleRequest, output_size


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
    """A job, and the directory of the bundle to do it with."""

    job: Job
    bundle: str


@dataclass(frozen=True)
class Failure:
    """A job that failed, and why, in one line."""

    job: Job
    reason: str


def restore_job(
    job: Job,
    request: BundleRequest,
    open_restorer: Callable[[Resolution], AbstractContextManager[Restorer]],
    display: Display,
) -> str:
    """Restore a file. Returns a line about the result.

    request: gives the size of the output. open_restorer: called with that size once input and output are open, because
    it may take minutes to build a bundle. display: gets progress, and lines about the input and what the output lacks.
    Raises `MachineError` if the input is incomplete; the output then holds what could be restored.
    """
    gpu = video_gpu(job.hwaccel, job.device, display.say)
    with open_source(job.source, rate=job.rate, gpu=gpu) as source:
        info = source.info
        for line in (f"input:  {info.description}", *source.notes):
            display.say(line)
        size = output_size(request, info.width, info.height)
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
    return f"output: {output}, {frames} in {format_duration(done.elapsed)} ({done.rate:.2f} frames/s)"
