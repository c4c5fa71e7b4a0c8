"""A child process for `test_child.py`: each order is the name of a function below and what it is called with."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from swiftvr_trt import leaving
from swiftvr_trt.child import Message, Parent


def echo(parent: Parent, order: Message) -> None:
    for line in order["lines"]:
        parent.say(line)
        parent.detail(f"detail of {line}")
    parent.answer({"echo": order})


def chatter(parent: Parent, _order: Message) -> None:
    """A library that prints, from Python and past it."""
    print("printed")
    sys.stdout.flush()
    os.write(1, b"written\n")
    parent.answer({"done": True})


def fall_silent(_parent: Parent, order: Message) -> None:
    """Die without an answer."""
    print("last words", file=sys.stderr, flush=True)
    os._exit(order["code"])


def work(parent: Parent, order: Message) -> None:
    """Work for ever, with a temporary file if the order names one. hung: the file cannot be removed."""
    if "file" in order:
        path = Path(order["file"])
        with leaving.creating(path, (lambda: time.sleep(600)) if order.get("hung") else None):
            path.touch()
    parent.say("working")
    time.sleep(600)


def finish_slowly(parent: Parent, order: Message) -> None:
    """Answer, and then have something to put away."""
    parent.answer({})
    assert parent.receive() is None
    time.sleep(order["seconds"])


print("printed while this module is imported")


def main(parent: Parent) -> None:
    while (order := parent.receive()) is not None:
        globals()[order["call"]](parent, order)
    print(f"left with {threading.active_count()} threads", file=sys.stderr, flush=True)
