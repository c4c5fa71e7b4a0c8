"""A chunk as a CUDA graph, and the way back: the same calls one by one, if it cannot be captured.

The first time, the calls are enqueued one by one, which readies the contexts of TensorRT for a capture. The second time
they are captured, and launched as one graph from then on.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any, TypeVar

from ...errors import Cancelled
from ...text import first_line
from ..stream.program import Run, Step
from .notes import NOTES
from .stage_provider import StageContext

CAPTURE_MODE = "thread_local"
"""During a capture the driver refuses forbidden calls from this thread only; other threads carry on."""

Enqueue = Callable[[Any], None]
"""Enqueues something on a CUDA stream, or on a graph builder, which stands for a stream that is being captured."""


_T = TypeVar("_T")


class GraphPolicy:
    """Whether a device captures graphs. After the first failure it does not, and a note says so.

    launched: how many graphs have been launched.
    """

    def __init__(self, *, wanted: bool, is_lost: Callable[[], bool] = lambda: False) -> None:
        """is_lost: whether the GPU is lost, so that nothing can be done another way."""
        self.wanted, self._is_lost = wanted, is_lost
        self._lock = threading.Lock()
        self.launched = 0

    def give_up(self, error: Exception) -> None:
        """Capture nothing from now on."""
        with self._lock:
            if self.wanted:
                self.wanted = False
                NOTES.warning(
                    "no CUDA graphs: the stages of each chunk are launched one by one, which gives the same frames "
                    "more slowly (%s); --no-graphs does without this attempt",
                    first_line(error),
                )

    def attempt(self, call: Callable[[], _T]) -> _T | None:
        """The result of `call`. If it raises: None, which also gives up, or the same error if the GPU is lost."""
        try:
            return call()
        except Cancelled:
            raise
        except Exception as error:
            if self._is_lost():
                raise
            self.give_up(error)
            return None


def own_contexts(
    steps: Sequence[Step], make: Callable[[str], StageContext], policy: GraphPolicy, resources: ExitStack
) -> Mapping[int, StageContext]:
    """A context for each step that runs a stage, by its place in `steps`; empty if one cannot be made.

    A context that is captured is bound to its addresses once and for all. make: from the name of a stage. `resources`
    forgets the contexts.
    """
    runs = {place: step.stage for place, step in enumerate(steps) if isinstance(step, Run)}
    contexts = policy.attempt(lambda: {place: make(stage) for place, stage in runs.items()}) or {}
    resources.callback(contexts.clear)
    return contexts


class GraphOfCalls:
    """Calls that come in the same order each time. Used by one thread at a time."""

    def __init__(
        self,
        calls: Sequence[Enqueue],
        captures: Any,
        check: Callable[[], None],
        policy: GraphPolicy,
        resources: ExitStack,
    ) -> None:
        """captures: the CUDA stream to capture on. check: raises if the calls cannot be captured.

        `resources` closes the graph.
        """
        self._calls, self._captures, self._check, self._policy = calls, captures, check, policy
        self._resources = resources
        self._ready = False
        self._graph: Any = None

    def __call__(self, stream: Any) -> None:
        """Enqueue everything on `stream`."""
        if self._graph is None and self._ready and self._policy.wanted:
            self._graph = self._policy.attempt(lambda: self._captured(stream))
        if self._graph is not None:
            self._graph.launch(stream)
            self._policy.launched += 1
            return
        for call in self._calls:
            call(stream)
        self._ready = True

    def _captured(self, stream: Any) -> Any:
        """The graph, on the GPU already, so that memory for it cannot be missing at its first launch."""
        self._check()
        with ExitStack() as made, _capturing(self._captures) as builder:
            for call in self._calls:
                call(builder)
            graph = made.enter_context(closing(builder.end_building().complete()))
            graph.upload(stream)
            self._resources.push(made.pop_all())
        return graph


class _NoCollection:
    """Python's garbage collector rests, for all threads, while any of them is in a block with this."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._collected = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._blocks:
                self._collected = gc.isenabled()
                gc.disable()
            self._blocks += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._blocks -= 1
            if self._collected and not self._blocks:
                gc.enable()


_NO_COLLECTION = _NoCollection()


@contextmanager
def _capturing(stream: Any) -> Iterator[Any]:
    """A capture that ends with the block, also if the block fails.

    Python's garbage collector stays out of it: what it finds may be memory of a GPU, such as that of an encoder after a
    run that failed, and releasing that in this thread would end the capture.
    """
    builder = stream.create_graph_builder()
    with _NO_COLLECTION:
        try:
            yield builder.begin_building(CAPTURE_MODE)
        finally:
            with suppress(Exception):  # the first error is the one to report
                builder.close()
