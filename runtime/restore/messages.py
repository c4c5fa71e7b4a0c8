"""The messages between a fleet and its worker processes, as JSON objects (see `swiftvr_trt.child`).

-> {"job": {...}, "bundle": path, "options": {...}}      Order
<- {"line": {"text": ..., "warning": false}}             Line, any number of times
<- {"log": {"logger": ..., "level": 20, "text": ...}}    LogLine, likewise
<- {"progress": {"done": ..., ...}}                      JobProgress, likewise
<- {"outcome": {"verdict": "DONE", "text": ...}}         Outcome, the answer
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass

from ...child import Message
from .job import Job
from .restorer import OpenOptions
from .verdict import Outcome, Verdict


@dataclass(frozen=True)
class Order:
    """Restore one file with the bundle in this directory, on the device that the job names.

    log_level: the process sends what it logs from this level on.
    """

    job: Job
    bundle: str
    options: OpenOptions
    log_level: int = logging.WARNING

    def to_message(self) -> Message:
        options = asdict(self.options)
        return {"job": self.job.to_dict(), "bundle": self.bundle, "options": options, "log_level": self.log_level}

    @classmethod
    def from_message(cls, message: Message) -> Order:
        return cls(
            Job.from_dict(message["job"]), message["bundle"], OpenOptions(**message["options"]), message["log_level"]
        )


@dataclass(frozen=True)
class Line:
    """One line for people. warning: it is about something that is lost."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class LogLine:
    """What a logger of this name said at this level."""

    logger: str
    level: int
    text: str


@dataclass(frozen=True)
class JobProgress:
    """Frames written, frames expected (None if unknown), and seconds to go (None if unknown)."""

    done: int
    total: int | None
    remaining: float | None


Answer = Line | LogLine | JobProgress | Outcome

_KINDS: dict[str, type[Line | LogLine | JobProgress]] = {"line": Line, "log": LogLine, "progress": JobProgress}


def encode_answer(answer: Answer) -> Message:
    """The answer as a JSON object."""
    if isinstance(answer, Outcome):
        return {"outcome": {**asdict(answer), "verdict": answer.verdict.name}}
    return {next(name for name, kind in _KINDS.items() if isinstance(answer, kind)): asdict(answer)}


def decode_answer(message: Message) -> Answer:
    """The inverse of `encode_answer`. Raises `ValueError` for anything else."""
    try:
        ((kind, content),) = message.items()
        if kind == "outcome":
            changed = {"verdict": Verdict[content["verdict"]], "lost": tuple(content.get("lost", ()))}
            return Outcome(**{**content, **changed})
        return _KINDS[kind](**content)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"a worker answered {str(message)[:80]}, expected a line, progress or an outcome") from None
