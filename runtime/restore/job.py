"""One input restored into one output: what `swiftvr-run` does for a file, in whichever process that is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftvr_trt import text
from swiftvr_trt.errors import MachineError
from swiftvr_trt.runtime.media import SinkOptions, open_sink, open_source

if TYPE_CHECKING:
    from swiftvr_trt.engines.bundle.geometry import Resolution

    from .pipeline import Progress
    from .restorer import Restorer

Tell = Callable[[str], None]
Watch = Callable[[int | None], AbstractContextManager[Callable[[int, float | None], None]]]
"""Called with the expected frames; gives what is called with (frames written, seconds to go)."""


@dataclass(frozen=True)
class Job:
    """An input, its output, and how they are read and written.

    output: as typed, since a slash at its end means a folder. rate: of a folder of images. hwaccel: one of
    `hwaccel.MODES`. device: what restores, as in `Restorer.open`.
    """

    source: Path
    output: str
    rate: Fraction | None = None
    sink: SinkOptions = field(default_factory=SinkOptions)
    hwaccel: str = "none"
    device: str | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.source.name or str(self.source)

    def to_dict(self) -> dict[str, Any]:
        """In plain values, for another process."""
        rate = None if self.rate is None else str(self.rate)
        return {**asdict(self), "source": str(self.source), "rate": rate}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Job:
        sink = {**plain["sink"], "extra": tuple(map(tuple, plain["sink"]["extra"]))}
        rate = None if plain["rate"] is None else Fraction(plain["rate"])
        return cls(**{**plain, "source": Path(plain["source"]), "rate": rate, "sink": SinkOptions(**sink)})


def restore_job(
    job: Job,
    size_for: Callable[[int, int], Resolution],
    open_restorer: Callable[[Resolution], AbstractContextManager[Restorer]],
    tell: Tell,
    watch: Watch,
) -> str:
    """Restore a file; a line about what came of it.

    size_for: the output size for an input of (width, height). open_restorer: called once, when it is known that the
    output can be written. Raises `MachineError` if the input was not complete; the output is there all the same.
    """
    from .hwaccel import video_gpu
    from .pipeline import restore_media

    gpu = video_gpu(job.hwaccel, job.device, tell)
    with open_source(job.source, rate=job.rate, gpu=gpu) as opened:
        info = opened.info
        for line in (f"input:  {info.description}", *opened.notes):
            tell(line)
        size = size_for(info.width, info.height)
        # The output is opened before a bundle is built, so that what cannot be written is known at once.
        with open_sink(job.output, info, size.width, size.height, replace(job.sink, gpu=gpu)) as sink:
            told = {*opened.notes, *sink.notes}
            for line in sink.notes:
                tell(line)
            with open_restorer(size) as restorer, restorer.session() as session, watch(info.frames) as update:
                done = restore_media(session, opened, sink, lambda p: update(p.written, p.remaining))
        for line in (*opened.notes, *sink.notes):
            if line not in told:
                tell(line)
        if opened.shortfall:
            raise MachineError(f"{opened.shortfall}; {job.output} holds what could be restored")
    return _summary(job.output, done)


def _summary(output: str, done: Progress) -> str:
    frames = f"{done.written} frame{'s' * (done.written != 1)}"
    return f"output: {output}, {frames} in {text.duration(done.elapsed)} ({done.rate:.2f} frames/s)"
