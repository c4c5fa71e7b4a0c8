"""The messages between a fleet and its worker processes, as JSON objects (see `swiftvr_trt.child`).

-> {"job": {...}, "bundle": path, "options": {...}}      Order
<- {"line": {"text": ...}}                               Line, any number of times
<- {"progress": {"done": ..., ...}}                      JobProgress, likewise
<- {"outcome": {"verdict": "DONE", "text": ...}}         Outcome, the answer
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ...child import Message
from .job import Job
from .restorer import OpenOptions
from .verdict import Outcome, Verdict


@dataclass(frozen=True)
class Order:
    """Restore one file with the bundle in this directory, on the device that the job names."""

    job: Job
    bundle: str
    options: OpenOptions

    def to_message(self) -> Message:
        return {"job": self.job.to_dict(), "bundle": self.bundle, "options": asdict(self.options)}

    @classmethod
    def from_message(cls, message: Message) -> Order:
        return cls(Job.from_dict(message["job"]), message["bundle"], OpenOptions(**message["options"]))


@dataclass(frozen=True)
class Line:
    """One line for people."""

    text: str


@dataclass(frozen=True)
class JobProgress:
    """Frames written, frames expected (None if unknown), and seconds to go (None if unknown)."""

    done: int
    total: int | None
    remaining: float | None


Answer = Line | JobProgress | Outcome


def encode_answer(answer: Answer) -> Message:
    """The answer as a JSON object."""
    if isinstance(answer, Outcome):
        return {"outcome": {"verdict": answer.verdict.name, "text": answer.text}}
    return {"line" if isinstance(answer, Line) else "progress": asdict(answer)}


def decode_answer(message: Message) -> Answer:
    """The inverse of `encode_answer`. Raises `ValueError` for anything else."""
    try:
        ((kind, content),) = message.items()
        if kind == "outcome":
            return Outcome(Verdict[content["verdict"]], content["text"])
        return Line(**content) if kind == "line" else {"progress": JobProgress}[kind](**content)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"a worker answered {str(message)[:80]}, expected a line, progress or an outcome") from None
