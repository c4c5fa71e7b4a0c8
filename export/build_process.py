"""The process that builds a bundle for `runtime.restore.selection`: it keeps torch out of the process that restores."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path

from ..child import Message, Parent
from ..engines.bundle.geometry import Resolution
from ..errors import MisuseError, message_of
from ..runtime.devices.driver import leave_only
from ..text import LineCallback, with_elapsed_time
from .build import BuildOptions, build_bundles, foresee_build


def main(parent: Parent) -> None:
    """Build the bundle that the parent orders, on its `gpu` if it takes one. The answer is that of `build_ordered`."""
    order = parent.receive()
    if order is not None:
        leave_only(order.get("gpu", 0))
        log = logging.getLogger(__name__.split(".")[0])
        log.addHandler(_LogToParent(parent))
        log.setLevel(logging.INFO)
        parent.answer(build_ordered(order, parent.say))


class _LogToParent(logging.Handler):
    """Sends log records to the parent, as details."""

    def __init__(self, parent: Parent) -> None:
        super().__init__()
        self._parent = parent

    def emit(self, record: logging.LogRecord) -> None:
        self._parent.detail(record.getMessage())


def build_ordered(order: Message, report: LineCallback) -> Message:
    """Build one bundle into the cache.

    order: `checkpoint` and `cache` (directories), `resolution` (WxH), `clip_len`, `precision` (None for the usual one)
    and `target`. With `dry_run`, nothing is built, and the answer has the `estimate` in one line. report: gets a line
    per finished step, with the seconds since the start. Returns `error`, which is None or the reason in one line, and
    `misuse`, whether a different order could succeed.
    """
    try:
        options = BuildOptions(
            checkpoint=Path(order["checkpoint"]),
            resolutions=(Resolution.parse(order["resolution"]),),
            target=order["target"],
            precision=order["precision"],
            clip_len=order["clip_len"],
            cache=Path(order["cache"]),
        )
        if order.get("dry_run"):
            return {"error": None, "misuse": False, "estimate": foresee_build(options)}
        with closing(build_bundles(options, with_elapsed_time(report))) as bundles:
            for _bundle in bundles:
                pass  # it is in the cache, where the parent opens it
    except Exception as error:  # noqa: BLE001 (the parent raises it)
        return {"error": message_of(error), "misuse": isinstance(error, MisuseError)}
    return {"error": None, "misuse": False}
