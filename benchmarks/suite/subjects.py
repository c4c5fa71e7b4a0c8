"""What is measured, opened in this process: a bundle on its device, or the plain torch network.

Both are streams of chunks, so that one clock serves both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any, Protocol, Self

from ...engines.bundle.files import Bundle
from ...engines.bundle.geometry import Resolution
from ...engines.bundle.lease import Lease
from ...errors import MissingPackageError
from ...runtime.restore.restorer import OpenOptions, Restorer, open_device
from ...runtime.stream.device import Device
from ...runtime.stream.session import Frame
from .facts import find_gpu_card, how_measured
from .nvml import Nvml
from .record import How
from .work import CaseOrder

STAGES = ("encode", "dit", "decode")


class Measured(Protocol):
    """Something that restores streams. device: the name of what runs it. load_s: how long loading took."""

    device: str
    how: How
    nvml: Nvml
    load_s: float

    def chunks(self, frames: Sequence[Frame]) -> Iterator[None]:
        """Restore an endless stream that repeats `frames`; pauses after each chunk in the middle of it."""

    def delays(self, frames: Sequence[Frame]) -> Iterator[float]:
        """Seconds from the start of such a stream to its first frames, then of each chunk from its last frame on."""

    def restore(self, frames: Sequence[Frame]) -> list[Frame]:
        """Restore a whole stream."""


@dataclass
class OpenBundle:
    """A bundle, loaded."""

    restorer: Restorer
    opened: Device
    device: str
    how: How
    nvml: Nvml
    load_s: float
    bundle: Bundle
    resources: ExitStack

    @classmethod
    def open(cls, order: CaseOrder) -> Self:
        """Raises what `Restorer.open` raises."""
        began = time.perf_counter()
        bundle, name = Bundle.open(order.bundle), order.subject.device
        with ExitStack() as stack:
            stack.enter_context(Lease(bundle.path))
            opened = open_device(bundle, name, _opening(order))
            restorer = stack.enter_context(Restorer(opened, bundle.manifest))
            load_s = time.perf_counter() - began
            card, nvml = find_gpu_card(name)
            resources = stack.pop_all()
        return cls(restorer, opened, card.name if card else name, how_measured(card), nvml, load_s, bundle, resources)

    def chunks(self, frames: Sequence[Frame]) -> Iterator[None]:
        """Two chunks are in flight on a GPU, so each pause comes after the chunk two before the last one is done."""
        clip_len = self.restorer.manifest.recipe.clip_len
        with self.restorer.session() as session:
            supply = cycle(frames)
            for frame in islice(supply, 4):  # what the first chunk takes more than the others
                session.feed(frame)
            while True:
                for frame in islice(supply, clip_len):
                    session.feed(frame)
                yield

    def delays(self, frames: Sequence[Frame]) -> Iterator[float]:
        clip_len, supply, began = self.restorer.manifest.recipe.clip_len, cycle(frames), time.perf_counter()
        with self.restorer.session() as session:
            for number in count():
                for frame in islice(supply, clip_len - 1 + (4 if number == 0 else 0)):
                    session.feed(frame)
                began = time.perf_counter() if number else began
                session.feed(next(supply))
                session.drain()
                yield time.perf_counter() - began

    def restore(self, frames: Sequence[Frame]) -> list[Frame]:
        return list(self.restorer.restore(frames))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.resources.close()


class TorchNetwork:
    """The plain torch network in float32 on the CPU, chunk by chunk, as the published code runs it."""

    device, how, nvml = "cpu", How.MEASURED, Nvml(None)

    def __init__(self, order: CaseOrder) -> None:
        """Raises what `load_reference` raises."""
        began = time.perf_counter()
        self._reference = load_reference(order)
        self.load_s = time.perf_counter() - began
        self._times: dict[str, list[float]] = {stage: [] for stage in STAGES}

    def chunks(self, frames: Sequence[Frame]) -> Iterator[None]:
        for number, _ in enumerate(self._restored(cycle(frames))):
            if number:  # the first chunk is longer
                yield

    def delays(self, frames: Sequence[Frame]) -> Iterator[float]:
        began = time.perf_counter()
        for _ in self._restored(cycle(frames)):
            yield time.perf_counter() - began
            began = time.perf_counter()

    def restore(self, frames: Sequence[Frame]) -> list[Frame]:
        return [frame for part in self._restored(iter(frames)) for frame in part]

    def stream(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Restore a stream of unknown length."""
        for part in self._restored(frames):
            yield from part

    def stage_times(self) -> dict[str, list[float]]:
        """Milliseconds of each stage in each chunk since `watch_stages`."""
        return self._times

    def watch_stages(self) -> None:
        """Time the parts of the network from now on."""
        checkpoint = self._reference.checkpoint
        parts = zip(STAGES, (checkpoint.reae.encoder, checkpoint.dit, checkpoint.reae.decoder), strict=True)
        for stage, module in parts:
            began: list[float] = []
            module.register_forward_pre_hook(lambda *_, began=began: began.append(time.perf_counter()))
            module.register_forward_hook(self._note(stage, began))

    def _note(self, stage: str, began: list[float]) -> Callable[..., None]:
        return lambda *_: self._times[stage].append(1e3 * (time.perf_counter() - began.pop()))

    def _restored(self, frames: Iterator[Frame]) -> Iterator[list[Frame]]:
        """Chunk by chunk."""
        from ...export.network.pixels import pixels_to_frames

        for step in self._reference.trace(frames):
            yield list(pixels_to_frames(step.pixels, self._reference.resolution).numpy())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def load_reference(order: CaseOrder, *, frugal: bool = False) -> Any:
    """The plain network for the output of an order. frugal: see `Reference`.

    Raises `MissingPackageError` without torch, `CheckpointError` for a wrong checkpoint.
    """
    try:
        from ...export.network.reference import open_reference
    except ModuleNotFoundError as error:
        raise MissingPackageError("torch", "comparing with the torch network", "export") from error
    size = Resolution(order.subject.width, order.subject.height)
    return open_reference(Path(order.checkpoint), size, order.subject.clip_len, order.threads, frugal=frugal)


def _opening(order: CaseOrder) -> OpenOptions:
    words = order.subject.options.split()
    return OpenOptions(order.threads or None, graphs="--no-graphs" not in words, overlap="--overlap" in words)


def open_subject(order: CaseOrder) -> OpenBundle | TorchNetwork:
    return TorchNetwork(order) if order.subject.side == "torch" else OpenBundle.open(order)
