"""The process that builds a bundle for `runtime.restore.selection`: it keeps torch out of the process that restores."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from ..child import Message, Parent, interrupt_main
from ..engines.bundle.geometry import Resolution
from ..errors import MisuseError, message_of
from ..text import LineCallback, with_elapsed_time
from .build import BuildOptions, build_bundles

_INTERRUPTED = 130


def main() -> None:
    """Build the bundle that the parent orders. The answer is that of `build_ordered`."""
    parent = Parent(interrupt_main)
    try:
        order = parent.receive()
        if order is not None:
            parent.answer(build_ordered(order, parent.say))
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)  # partial files are removed by now; do not wait for threads of libraries


def build_ordered(order: Message, report: LineCallback) -> Message:
    """Build one bundle into the cache.

    order: `checkpoint` and `cache` (directories), `resolution` (WxH), `clip_len`, `precision` and `target`. report:
    gets a line per finished step, with the seconds since the start. Returns `error`, which is None or the reason in one
    line, and `misuse`, whether a different order could succeed.
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
        with closing(build_bundles(options, with_elapsed_time(report))) as bundles:
            for _bundle in bundles:
                pass  # it is in the cache, where the parent opens it
    except Exception as error:  # noqa: BLE001 (the parent raises it)
        return {"error": message_of(error), "misuse": isinstance(error, MisuseError)}
    return {"error": None, "misuse": False}


if __name__ == "__main__":
    main()
