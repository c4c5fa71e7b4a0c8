"""A child process for `test_child.py`: each order is the name of a function below and what it is called with."""

from __future__ import annotations

import os
import sys
import threading
import time

from swiftvr_trt import child
from swiftvr_trt.child import Message, Parent, interrupt_main


def echo(parent: Parent, order: Message) -> None:
    for line in order["lines"]:
        parent.say(line)
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
    """Clean up when interrupted, unless the order is to be stubborn."""
    child._ABANDONED_S = order.get("abandoned_s", child._ABANDONED_S)
    said = False
    while True:
        try:
            if not said:
                said = True
                parent.say("working")  # here, because the interrupt may follow at once
            time.sleep(60)
        except KeyboardInterrupt:
            if not order.get("stubborn"):
                print("cleaned up", file=sys.stderr, flush=True)
                raise SystemExit(3) from None


def main() -> None:
    parent = Parent(interrupt_main)
    while (order := parent.receive()) is not None:
        globals()[order["call"]](parent, order)
    print(f"left with {threading.active_count()} threads", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
