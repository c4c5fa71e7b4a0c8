"""The entry points of the commands: they listen for signals before they load anything else.

Importing this module is cheap, and so must be everything on the way to it: `swiftvr_trt/__init__.py` and
`cli/__init__.py`. What Python does before it gets here, about 20 ms, cannot be guarded: a signal ends it there, and
Ctrl-C may print a traceback of Python's own.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as type checkers know it; `typing` takes a while
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def swiftvr_run() -> NoReturn:
    """`swiftvr-run`."""
    _start("run", "swiftvr-run")


def swiftvr_export() -> NoReturn:
    """`swiftvr-export`."""
    _start("export", "swiftvr-export")


def swiftvr_bench() -> NoReturn:
    """`swiftvr-bench`."""
    _start("bench", "swiftvr-bench")


def _start(module: str, name: str) -> NoReturn:
    """Run the command in `module` as the program `name`."""
    try:
        from .. import leaving

        def work() -> None:
            from importlib import import_module

            from . import console

            console.run(import_module(f".{module}", __package__).command, name)

        leaving.run_process(work, farewell)
    except KeyboardInterrupt:  # it came before anyone listened, so there is nothing to clean up
        farewell((), "")
        os._exit(130)


def farewell(left: Sequence[str], advice: str) -> None:
    """Tell an interrupted user what was left behind, normally nothing, or what to do next.

    Not through `sys.stderr`: an abandoned thread may be writing there, and hold its lock.
    """
    if sys.stderr is None:  # it was closed, and its number may belong to another file
        return
    names = ", ".join("".join(letter if letter.isprintable() else "?" for letter in name) for name in left)
    outcome = f"this could not be cleaned up: {names}" if left else advice or "nothing was left half-written"
    new_line = "\n" if os.isatty(2) else ""  # behind ^C
    os.write(2, f"{new_line}error: interrupted; {outcome}\n".encode(errors="backslashreplace"))
