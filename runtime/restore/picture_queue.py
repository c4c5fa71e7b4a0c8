"""A queue whose memory does not depend on the size of the pictures in it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

from ...errors import Cancelled
from ..media.base import Picture

T = TypeVar("T")

MOST_BYTES = 64_000_000
"""Bytes of pictures in a queue; one more picture may exceed them."""


class Stopped(Cancelled):
    """The queue was stopped."""


class StoppableQueue(Generic[T]):
    """Leads from one thread to another. A thread that waits here sleeps until it can go on.

    It is full when it holds `most` items or `MOST_BYTES` bytes: of pictures, which may lie in its items' `picture`, or
    what `queued_bytes` of an item says.
    """

    def __init__(self, most: int) -> None:
        """most: items in the queue."""
        self._most, self._bytes = most, 0
        self._items: deque[T] = deque()
        self._changed, self._is_stopped = threading.Condition(), False

    def put(self, item: T) -> None:
        """Wait for room. Raises `Stopped` once the queue is stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or not self._is_full)
            self._check_stopped()
            self._items.append(item)
            self._bytes += _size(item)
            self._changed.notify_all()

    def get(self, patience_s: float | None = None) -> T:
        """Wait for an item. patience_s: how long; None for no limit, so that a slow source wakes nobody in vain.

        Raises `Stopped` once the queue is stopped, even if items are left, `TimeoutError` if none came within the time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_stopped or self._items, patience_s):
                raise TimeoutError
            self._check_stopped()
            item = self._items.popleft()
            self._bytes -= _size(item)
            self._changed.notify_all()
            return item

    def stop(self) -> None:
        """Wake the threads that wait here; they and all that come later get `Stopped`."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    @property
    def _is_full(self) -> bool:
        return len(self._items) >= self._most or self._bytes >= MOST_BYTES

    def _check_stopped(self) -> None:
        if self._is_stopped:
            raise Stopped


def _size(item: object) -> int:
    picture = getattr(item, "picture", item)
    return picture.nbytes if isinstance(picture, Picture) else getattr(item, "queued_bytes", 0)
