"""Restores videos on a cluster, as a run sees it: locks the outputs, has the pieces restored, and joins them.

    with ClusterRun.connect(cluster, options, gpu=True, display=display) as run:
        failures = run.restore(jobs)

Pieces arrive in `OUTPUT.segments` as in a local run, so an interrupted job can be resumed on a cluster or without one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from ....child import Child
from ....engines.bundle.files import read_manifest
from ....errors import MachineError, MissingPackageError, MisuseError, SwiftVRError, message_of
from ....text import printable
from ...budget import NOTICE_S, PROCESS_S
from ..display import Display
from ..divided import look_at, restore_by_others
from ..job import Job, JobWithBundle, Restored
from ..restorer import OpenOptions
from ..segments.room import full_elsewhere
from ..segments.store import Store
from ..segments.task import runtime_of
from .address import ClusterOptions
from .connection import check_reachable
from .messages import (
    Bye,
    Connect,
    Connected,
    FileFrames,
    FileLine,
    FileOrder,
    FileSettled,
    NodeFrames,
    PieceStored,
    Refused,
    Sent,
    decode_sent,
    encode_sent,
)

_log = logging.getLogger(__name__)

_DRIVER = "swiftvr_trt.runtime.restore.cluster.driver"
_CONNECTING_S = 90.0
_FAREWELL_S = 15.0
_OPENING, _JOINING = 4, 4
"""How many videos are opened, and how many joined, at the same time."""
_NODES_NAMED = 5


@dataclass(frozen=True)
class ClusterFailure:
    """A job that failed, and why."""

    job: Job
    error: SwiftVRError


@dataclass
class _Handed:
    """A file in the hands of the cluster. shown: where its progress goes. waiting: pieces that are still to come.

    settled, reason, full: as in `FileSettled`.
    """

    shown: Display
    name: str
    waiting: int
    settled: bool = False
    reason: str | None = None
    full: bool = False


def check_cluster(cluster: ClusterOptions) -> None:
    """Raise what `ClusterRun.connect` would, as far as that can be told at once: before a bundle is built, say."""
    _check_installed(cluster)
    check_reachable(cluster)


def _check_installed(cluster: ClusterOptions) -> None:
    for package in ("ray", "grpc") if cluster.is_outside else ("ray",):
        if find_spec(package) is None:
            raise MissingPackageError(package, "--cluster", "ray")


def about(connect: Connect, connected: Connected) -> Iterator[str]:
    """What a user should know of a cluster."""
    nodes, devices = connected.nodes, connected.devices
    names = ", ".join(nodes[:_NODES_NAMED]) + (" ..." if len(nodes) > _NODES_NAMED else "")
    kind = "GPU" if connect.gpu else "process"
    plural = ("s" if connect.gpu else "es") * (devices != 1)
    yield f"cluster: {len(nodes)} node{'s' * (len(nodes) != 1)} ({names}), {devices} {kind}{plural}"
    if connected.unused_gpus and connect.cluster.device is None:
        count = f"{connected.unused_gpus} GPU{'s' * (connected.unused_gpus != 1)}"
        yield (
            f"the cluster has {count}, but the bundle is for the CPU: --device cuda runs it on GPUs, and --target with "
            "their name or --bundle takes engines, which are faster"
        )


class ClusterRun:
    """A connection to a cluster, through a driver process. Leave the `with` block to end it."""

    def __init__(self, child: Child, display: Display) -> None:
        self._child, self._display = child, display
        self._files: dict[int, _Handed] = {}
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._opening, self._opened = 0, set[int]()
        self._devices = 1
        self._connected: Connected | None = None
        self._error: SwiftVRError | None = None
        self._stopped = False
        self._joining = threading.Semaphore(_JOINING)
        self._threads: list[threading.Thread] = []

    @classmethod
    def connect(cls, cluster: ClusterOptions, options: OpenOptions, *, gpu: bool, display: Display) -> ClusterRun:
        """Connect to a cluster. Raises `MissingPackageError` without Ray, `MachineError` if it cannot be used."""
        _check_installed(cluster)
        display.say(f"connecting to the cluster: {cluster.address}")
        run = cls(Child(_DRIVER, patience_s=_FAREWELL_S, keep_errors=True), display)
        try:
            run._greet(Connect(cluster, options, gpu))
        except BaseException:
            run.stop()
            raise
        return run

    def restore(self, orders: Sequence[JobWithBundle], *, named: bool) -> list[ClusterFailure]:
        """Restore every video. One that fails does not stop the others. named: there are several."""
        failures: list[ClusterFailure] = []
        for number, order in enumerate(orders):
            self._wait_for_room()
            if self._error is not None:
                self._fail(order.job, self._error, order.job.name if named else "", failures)
                continue
            thread = threading.Thread(
                target=self._restore_file, args=(number, order, named, failures), name=f"swiftvr-file-{number}",
                daemon=True,
            )  # fmt: skip
            self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
            thread.start()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(NOTICE_S)
        return failures

    def stop(self) -> None:
        """Leave the cluster at once."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._child.hang_up()
        deadline = time.monotonic() + PROCESS_S
        self._child.end(deadline)
        for thread in self._threads:
            if thread.is_alive():  # one that could not be started is not
                thread.join(max(deadline - time.monotonic(), 0.0))

    def __enter__(self) -> ClusterRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._error is None:
            self._send(Bye())
            self._reader.join(_FAREWELL_S)
        self.stop()

    def _greet(self, connect: Connect) -> None:
        self._send(connect)
        self._reader = threading.Thread(target=self._receive, name="swiftvr-cluster", daemon=True)
        self._reader.start()
        deadline = time.monotonic() + _CONNECTING_S
        with self._changed:
            while self._connected is None and self._error is None and time.monotonic() < deadline:
                self._changed.wait(NOTICE_S)
            if self._error is not None:
                raise self._error
            if self._connected is None:
                raise MachineError(
                    f"Ray at {connect.cluster.address} did not answer within {_CONNECTING_S:.0f} s: check the address, "
                    "and the state of the cluster (ray status)"
                )
            self._devices = self._connected.devices
        for line in about(connect, self._connected):
            self._display.say(line)

    def _wait_for_room(self) -> None:
        """Wait until the cluster may soon run out of pieces, so that few videos are open at a time."""
        with self._changed:
            while self._error is None and (
                self._opening >= _OPENING or sum(each.waiting for each in self._files.values()) >= 2 * self._devices
            ):
                self._changed.wait(NOTICE_S)

    def _restore_file(self, number: int, order: JobWithBundle, named: bool, failures: list[ClusterFailure]) -> None:
        """Restore one video, in a thread of its own."""
        job, name = order.job, order.job.name if named else ""
        with self._changed:
            self._opening += 1
        try:
            restored = self._restored(number, order, name)
        except SwiftVRError as error:
            self._fail(job, error, name, failures)
        except Exception as error:  # noqa: BLE001 (else the other files would be lost)
            self._fail(job, MachineError(message_of(error)), name, failures)
        else:
            self._display.result(job.done(restored), name)
        finally:
            with self._changed:
                self._files.pop(number, None)
                self._count_opened(number)

    def _fail(self, job: Job, error: SwiftVRError, name: str, failures: list[ClusterFailure]) -> None:
        if not self._stopped:
            failures.append(ClusterFailure(job, error))
            self._display.finish(name)
            if name:  # else the caller tells
                self._display.result(job.result("failed", str(error)), name)

    def _restored(self, number: int, order: JobWithBundle, name: str) -> Restored:
        job = order.job
        video, manifest = look_at(job, "--cluster"), read_manifest(Path(order.bundle))
        if isinstance(video.index, str):
            self._display.warn(f"one device restores it, because it cannot be divided: {video.index}", name)
        joining = False

        def hand_out(store: Store, last: int | None, shown: Display) -> str | None:
            nonlocal joining
            index = None if isinstance(video.index, str) else video.index
            known = replace(job, known=store.known)
            file = FileOrder(number, known, order.bundle, (), last, index, runtime_of(manifest))
            reason = self._hand_out(file, store, shown)
            self._joining.acquire()
            joining = True
            return reason

        try:
            return restore_by_others(job, manifest, video, hand_out, self._display, name)
        finally:
            if joining:
                self._joining.release()

    def _hand_out(self, order: FileOrder, store: Store, shown: Display) -> str | None:
        """Have what is missing restored. Returns why something still is."""
        reason = self._hand_out_once(order, store, shown)
        if reason is None and store.missing(order.last):  # the index is wrong, or the input has ended before
            reason = self._hand_out_once(replace(order, last=None), store, shown)
        return (reason or "its pieces are gone") if store.missing(order.last) else None

    def _hand_out_once(self, order: FileOrder, store: Store, shown: Display) -> str | None:
        """Have what is missing restored. Returns why the cluster has given it up, if it has.

        Raises `OutputError` if the disk of the output is full.
        """
        number, last = order.file, order.last
        spans = tuple(store.missing(last))
        pieces = 1 if last is None else last + 1 - len(store.marks)
        with self._changed:
            self._files[number] = file = _Handed(shown, order.job.name, pieces)
            self._count_opened(number)
        if spans:
            self._send(replace(order, spans=spans))
            with self._changed:
                while not file.settled and self._error is None and not self._stopped:
                    self._changed.wait(NOTICE_S)
            store.look_again()
        if file.full:
            raise full_elsewhere(str(file.reason))
        return file.reason or (str(self._error) if self._error else None)

    def _count_opened(self, number: int) -> None:
        """A video is open, or has failed. Counts once."""
        if number not in self._opened:
            self._opened.add(number)
            self._opening -= 1
        self._changed.notify_all()

    def _send(self, sent: Sent) -> None:
        with self._sending:
            self._child.send(encode_sent(sent))

    def _receive(self) -> None:
        """Take what the driver sends, until it ends."""
        error: SwiftVRError | None = None
        try:
            while (message := self._child.receive()) is not None:
                sent = decode_sent(message)
                if isinstance(sent, Bye):
                    return
                if isinstance(sent, Refused):
                    error = MisuseError(sent.text) if sent.misuse else MachineError(sent.text)
                    return
                self._take(sent)
            how = self._child.ending(PROCESS_S) if not self._stopped else "stopped"
            _log.info("the driver has ended: %s", how)
            how = "its head node no longer answers" if "GCS" in how else printable(how)[:200]
            error = MachineError(f"the connection to the cluster was lost ({how})")
        except ValueError as wrong:
            error = MachineError(message_of(wrong))
        finally:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _take(self, sent: Sent) -> None:
        if isinstance(sent, Connected):
            with self._changed:
                self._connected = sent
                self._changed.notify_all()
        elif isinstance(sent, NodeFrames):
            self._display.show_nodes(sent.frames)
        elif isinstance(sent, FileLine) and sent.file is None:
            (self._display.warn if sent.warning else self._display.say)(sent.text)
        elif isinstance(sent, FileFrames | FileLine | PieceStored | FileSettled):
            with self._changed:
                file = self._files.get(-1 if sent.file is None else sent.file)
            if file is not None:
                self._tell(file, sent)

    def _tell(self, file: _Handed, sent: FileFrames | FileLine | PieceStored | FileSettled) -> None:
        """Something is new about a file."""
        if isinstance(sent, FileFrames):
            file.shown.update(file.name, sent.frames, None, None)
        elif isinstance(sent, FileLine):
            file.shown.warn(sent.text)
        else:
            with self._changed:
                if isinstance(sent, FileSettled):
                    file.settled, file.reason, file.full, file.waiting = True, sent.reason, sent.full, 0
                else:
                    _log.info("%s: piece %d, restored on %s", file.name, sent.piece, sent.node)
                    file.waiting -= 1
                self._changed.notify_all()
