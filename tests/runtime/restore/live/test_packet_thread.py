"""A thread that reads packets, and is left behind where its library does not come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from swiftvr_trt.runtime.restore.live.packet_thread import PacketThread, SilentSourceError
from tests.patience import PATIENCE_S, wait_until


class Container:
    """Gives packets, then waits until it is released, then fails."""

    def __init__(self) -> None:
        self.released, self.closed = threading.Event(), threading.Event()
        self.given = 0

    def demux(self, streams: list[str]) -> Iterator[str]:
        for each in streams:
            self.given += 1
            yield each
        assert self.released.wait(PATIENCE_S)
        assert not self.closed.is_set()  # nobody closes it while it is in use
        raise OSError("it breaks off")

    def close(self) -> None:
        self.closed.set()


def test_packets_come_in_order_and_then_the_error() -> None:
    container: Any = Container()
    container.released.set()
    thread: Any = PacketThread(container, ["a", "b"])
    assert [thread.take(PATIENCE_S).packet, thread.take(None).packet] == ["a", "b"]
    with pytest.raises(OSError, match="it breaks off"):
        thread.take(PATIENCE_S)
    thread.leave()
    assert container.closed.is_set()


def test_a_library_that_does_not_come_back_is_left_behind_and_closed_when_it_does() -> None:
    container: Any = Container()
    thread = PacketThread(container, [])
    with pytest.raises(SilentSourceError):
        thread.take(0.01)
    assert not thread.is_behind(-1)
    thread.leave()
    assert not container.closed.is_set()
    wait_until(lambda: thread.is_behind(0))  # a clock may tick seldom
    assert not thread.is_behind(PATIENCE_S)
    container.released.set()
    wait_until(container.closed.is_set)
    assert not thread.is_behind(0)


def test_packets_are_read_ahead_up_to_a_number() -> None:
    container: Any = Container()
    thread: Any = PacketThread(container, [*"abcdefgh"], ahead=2)
    for count in (3, 4, 5):  # one more waits for room
        wait_until(lambda: container.given == count)  # noqa: B023 (it is called at once)
        time.sleep(0.02)
        assert container.given == count
        thread.take(PATIENCE_S)
    thread.leave()
    container.released.set()


def test_a_thread_whose_packets_nobody_takes_ends() -> None:
    container: Any = Container()
    container.released.set()
    thread = PacketThread(container, ["a", "b", "c"])
    thread.leave()
    wait_until(container.closed.is_set)
