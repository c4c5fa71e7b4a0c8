"""The process of one case: it measures what it is asked for, and ends. `runner` starts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from ...child import Message, Parent
from ...errors import MisuseError, message_of
from .faithful import measure_quality
from .footprint import measure_memory
from .record import from_values
from .starting import measure_build, measure_startup
from .streams import measure_core, measure_latency
from .whole_files import measure_file
from .work import CaseOrder, Findings

MEASURES: Mapping[str, Callable[[CaseOrder], Findings]] = {
    "core": measure_core,
    "file": measure_file,
    "latency": measure_latency,
    "memory": measure_memory,
    "quality": measure_quality,
    "build": measure_build,
    "startup": measure_startup,
}


def main(parent: Parent) -> None:
    """Answer one order."""
    message = parent.receive()
    if message is not None:
        parent.answer(answer_to(message))


def answer_to(message: Message) -> Message:
    """`findings`, or `error` in one line and whether another request could succeed (`misuse`)."""
    try:
        order = from_values(CaseOrder, message, Path("order"))
        return {"error": None, "misuse": False, "findings": asdict(MEASURES[order.suite](order))}
    except Exception as error:  # noqa: BLE001 (the parent records it)
        return {"error": message_of(error), "misuse": isinstance(error, MisuseError)}
