"""A machine that starts no more threads."""

from __future__ import annotations

import threading

import pytest

NO_THREAD = "can't start new thread"


def refuse_threads(patch: pytest.MonkeyPatch, name: str, error: BaseException | None = None) -> None:
    """Let no thread of this name be started, as a limit of memory or processes does; or raise `error` there."""
    start = threading.Thread.start

    def refusing(thread: threading.Thread) -> None:
        if thread.name == name:
            raise error or RuntimeError(NO_THREAD)
        start(thread)

    patch.setattr(threading.Thread, "start", refusing)
