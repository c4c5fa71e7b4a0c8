"""What runs on a device of the cluster: restores one span after another, and gives its pieces away in parts.

An actor of Ray, which its driver asks again and again what is new. The pieces wait on the node's disk until they are
asked for, so neither the object store nor the driver ever holds more than one part per device.
"""

from __future__ import annotations

import json
import logging
import shutil
import socket
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ....engines.bundle.files import read_manifest
from ....errors import message_of
from ....installing import tool_version
from ...media.index import VideoIndex
from ..job import Job
from ..messages import Answer, JobProgress, Line, Order
from ..restorer import OpenOptions
from ..segments.piece import Mark, PieceFolder, is_mark, parse_mark
from ..segments.task import runtime_of
from ..verdict import Outcome, Verdict
from ..worker import Worker
from .parcels import Goods, NodeFolder

PART_BYTES = 8 << 20
"""A piece travels in parts of this size."""
_LOOK_S = 1.0
"""How long `look` waits for something new."""


def software() -> str:
    """What has to be the same on all machines: it decides the pictures, or how they are encoded.

    What runs the bundle does, too, and is compared when a span begins: it depends on the bundle.
    """
    import av

    return f"swiftvr-trt {tool_version()}, PyAV {av.__version__} and FFmpeg {av.ffmpeg_version_info}"


@dataclass(frozen=True)
class Place:
    """Where an actor runs. node: Ray's identifier; host: the machine's name; software: see `software`."""

    node: str
    host: str
    software: str


@dataclass(frozen=True)
class SpanOrder:
    """Restore the span of a job.

    before: the mark of the piece before the span, if that is finished. index: the `VideoIndex` of the source, or a
    reference to it; None if it has none. runtime: what `runtime_of` the bundle must be; None if that does not matter.
    """

    job: Job
    source: Goods
    bundle: Goods
    options: OpenOptions
    before: Mark | None = None
    index: Any = None
    runtime: str | None = None


@dataclass(frozen=True)
class PiecePart:
    """A part of a piece's file. mark: of the piece, with its last part. No data: only the mark has changed."""

    piece: int
    data: bytes
    mark: Mark | None = None


@dataclass(frozen=True)
class News:
    """What is new. frames: restored of the span. outcome: how it ended, once everything else is told."""

    frames: int
    lines: tuple[Line, ...] = ()
    part: PiecePart | None = None
    outcome: Outcome | None = None


@dataclass
class _Outgoing:
    """A finished piece that is on its way."""

    piece: int
    mark: Mark
    sent: int = 0


def _fetched(index: Any) -> VideoIndex:
    if isinstance(index, VideoIndex):
        return index
    import ray

    found: VideoIndex = ray.get(index)
    return found


class SpanActor:
    """Restores spans. Call `begin`, then `look` until there is an outcome; `close` in the end."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: for temporary files, instead of the system's."""
        self._worker, self._place = Worker(Verdict.UNBEGUN), NodeFolder(folder)
        self._news = threading.Condition()
        self._lines: list[Line] = []
        self._frames = 0
        self._outcome: Outcome | None = None
        self._folder: PieceFolder | None = None
        self._told: dict[int, Mark] = {}
        self._outgoing: _Outgoing | None = None

    def hello(self) -> Place:
        """Where this process runs."""
        import ray

        return Place(ray.get_runtime_context().get_node_id(), socket.gethostname(), software())

    def begin(self, order: SpanOrder) -> None:
        """Begin to restore a span, in another thread."""
        self._lines, self._frames, self._outcome, self._outgoing, self._folder = [], 0, None, None, None
        threading.Thread(target=self._restore, args=(order,), name="swiftvr-span", daemon=True).start()

    def look(self) -> News:
        """What is new since the last call. Waits a moment if nothing is."""
        ended = self._outcome  # before the last piece is looked for
        part = self._next_part()
        with self._news:
            if part is None and ended is None and not self._lines and self._outcome is None:
                self._news.wait(_LOOK_S)
            lines, self._lines = self._lines, []
            return News(self._frames, tuple(lines), part, ended if part is None else None)

    def close(self) -> None:
        """Release the bundle, and remove all files."""
        self._worker.close()
        self._place.close()

    def _restore(self, order: SpanOrder) -> None:
        try:
            outcome = self._serve(order)
        except OSError as error:
            outcome = Outcome(Verdict.UNBEGUN, f"{error.strerror or error} on this node")
        except Exception as error:  # noqa: BLE001 (else the driver would ask forever)
            outcome = Outcome(Verdict.UNBEGUN, message_of(error))
        with self._news:
            self._outcome = outcome
            self._news.notify_all()

    def _serve(self, order: SpanOrder) -> Outcome:
        source, bundle = self._place.fetch_input(order.source), self._place.fetch(order.bundle)
        if order.runtime is not None and (here := runtime_of(read_manifest(bundle))) != order.runtime:
            text = f"ONNX Runtime there is {here}, expected {order.runtime}: install the same version on every node"
            return Outcome(Verdict.UNBEGUN, text)
        assert order.job.span is not None
        first = order.job.span[0]
        output = self._place.private / Path(order.job.output).name
        folder = PieceFolder(output)
        shutil.rmtree(folder.folder, ignore_errors=True)
        folder.folder.mkdir()
        self._told = {}
        if order.before is not None:
            self._told[first - 1] = order.before
            folder.mark_path(first - 1).write_text(json.dumps(asdict(order.before)), encoding="utf-8")
        self._folder = folder
        job = replace(order.job, source=source, output=str(output))
        if order.index is not None:
            self._worker.learn(job, lambda: _fetched(order.index))
        return self._worker.serve(Order(job, str(bundle), order.options, logging.WARNING), self._hear)

    def _hear(self, answer: Answer) -> None:
        with self._news:
            if isinstance(answer, Line):
                self._lines.append(answer)
            elif isinstance(answer, JobProgress):
                self._frames = answer.done
            self._news.notify_all()

    def _next_part(self) -> PiecePart | None:
        """The next part of a finished piece, whose file is removed once its last part was asked for."""
        folder = self._folder
        if folder is None:
            return None
        now = self._outgoing = self._outgoing or self._next_piece(folder)
        if now is None:
            return None
        data = b""
        path = folder.piece_path(now.piece)
        if now.piece not in self._told:
            with path.open("rb") as file:
                file.seek(now.sent)
                data = file.read(PART_BYTES)
        now.sent += len(data)
        if data and now.sent < now.mark.size:
            return PiecePart(now.piece, data)
        path.unlink(missing_ok=True)
        self._told[now.piece], self._outgoing = now.mark, None
        return PiecePart(now.piece, data, now.mark)

    def _next_piece(self, folder: PieceFolder) -> _Outgoing | None:
        """The first piece whose mark is not told yet, or has changed: it turned out to be the last."""
        for path in sorted(filter(is_mark, folder.folder.glob("*.json"))):
            if (mark := parse_mark(path)) != self._told.get(int(path.stem)):
                return _Outgoing(int(path.stem), mark)
        return None
