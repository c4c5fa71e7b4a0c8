"""The process that talks to Ray for a run: starts an actor per device, and hands spans to those that are free.

A process of its own, because Ray ends the process that uses it when it loses its cluster, prints to its standard error,
and takes over its signals. Its parent keeps the folders of the outputs locked, and joins the pieces that arrive here.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .... import leaving
from ....child import Parent
from ....errors import MisuseError, OutputError, SwiftVRError, cannot_import, message_of
from ....text import printable
from ...media.playlists import files_of_playlist
from ..segments.piece import Mark
from ..segments.room import is_full_disk
from ..verdict import MAX_STRIKES, Outcome, Verdict
from .actor import News, Place, SpanActor, SpanOrder, software
from .connection import Connection
from .ledger import Ledger, Portion
from .messages import (
    Bye,
    Connect,
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
from .parcels import Goods, goods_of
from .receiving import Receiver

_POLL_S = 0.1
_REPORT_S = 0.5
"""How often the parent is told how far files and nodes are."""
_GROW_S = 10.0
"""How often the cluster is asked whether it has more devices."""
_ALONE_S = 60.0
"""How long a cluster may be without any device."""
_PATIENCE_S = 15.0
"""How long actors may take to start before the user is told that they wait."""


@dataclass
class _Device:
    """One device of the cluster, through its actor. reference: to the answer that is awaited; None if it is idle."""

    number: int
    actor: Any
    reference: Any | None
    began: float
    place: Place | None = None
    strikes: int = 0
    bundle: str = ""
    portion: Portion | None = None
    receiver: Receiver | None = None
    frames: int = 0

    @property
    def more(self) -> int:
        """Frames that it has restored beyond the pieces that have arrived."""
        return 0 if self.receiver is None else max(self.frames - self.receiver.frames, 0)


class ClusterDriver:
    """Restores the files that arrive on a queue."""

    def __init__(self, connection: Connection, connect: Connect, orders: queue.SimpleQueue[Sent], parent: Parent):
        self._connection, self._connect, self._orders, self._parent = connection, connect, orders, parent
        self._ledger = Ledger()
        self._files: dict[int, FileOrder] = {}
        self._frames: dict[int, int] = {}
        self._goods: dict[str, Goods] = {}
        self._indexes: dict[int, Any] = {}
        self._encoders: dict[int, tuple[str, str]] = {}  # of each file: as in its marks
        self._nodes: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._devices: dict[int, _Device] = {}
        self._refused = "none could be started"
        self._over = self._warned = False
        self._grew = self._reported = self._seen = time.monotonic()

    def run(self) -> None:
        """Serve until the parent says goodbye."""
        while not self._over:
            self._take_orders()
            self._grow()
            self._hand_out()
            self._hear()
            self._settle_files()
            self._report()
        self._connection.dismiss([device.actor for device in self._devices.values()])

    def _send(self, sent: Sent) -> None:
        self._parent.send(encode_sent(sent))

    def _take_orders(self) -> None:
        wait = all(device.reference is None for device in self._devices.values())
        try:
            while True:
                order = self._orders.get(timeout=_POLL_S) if wait else self._orders.get_nowait()
                wait = False
                if isinstance(order, Bye):
                    self._over = True
                elif isinstance(order, FileOrder):
                    self._files[order.file], self._frames[order.file] = replace(order, index=None), 0
                    if order.index is not None:
                        self._indexes[order.file] = self._connection.put(order.index)
                    self._ledger.add(order.file, order.bundle, order.spans, order.last)
        except queue.Empty:
            pass

    def _grow(self) -> None:
        """An actor for each device that the cluster has; more of them when it grows."""
        now = time.monotonic()
        if self._files and (not self._devices or now - self._grew > _GROW_S):
            capacity = self._connection.capacity()
            self._grew, self._seen = now, now if capacity else self._seen
            for number in range(len(self._devices), capacity):
                self._devices[number] = self._start(number)
        if now - self._seen > _ALONE_S:
            for file in list(self._files):
                self._give_up(file, "the cluster has lost all its devices")

    def _start(self, number: int, strikes: int = 0) -> _Device:
        actor = self._connection.start(SpanActor)
        return _Device(number, actor, actor.hello.remote(), time.monotonic(), strikes=strikes)

    def _hand_out(self) -> None:
        for device in list(self._devices.values()):
            if device.reference is None and device.strikes < MAX_STRIKES:
                if (portion := self._ledger.take(device.number, self._usable(), device.bundle)) is None:
                    continue
                try:
                    self._begin(device, portion)
                except (OSError, SwiftVRError) as error:  # of this machine: the input is gone, the disk fails
                    self._give_up(portion.file, message_of(error) if isinstance(error, SwiftVRError) else str(error))

    def _begin(self, device: _Device, portion: Portion) -> None:
        file, span = self._files[portion.file], portion.span
        receiver = Receiver(Path(file.job.output))
        self._joins(portion.file, before := receiver.mark_before(span.first))
        order = SpanOrder(
            replace(file.job, span=(span.first, span.stop), device="cuda" if self._connect.gpu else "cpu"),
            self._goods_of(str(file.job.source), file.job.reading.allow_playlist),
            self._goods_of(file.bundle),
            self._connection.options,
            before,
            self._indexes.get(portion.file),
            file.runtime,
        )
        device.portion, device.receiver, device.frames, device.bundle = portion, receiver, 0, file.bundle
        device.reference = device.actor.begin.remote(order)

    def _goods_of(self, path: str, allow_playlist: bool = False) -> Goods:
        if path not in self._goods:
            beside = files_of_playlist(Path(path), allow_playlist)
            self._goods[path] = goods_of(Path(path), ship=self._connect.cluster.ship, beside=beside)
        return self._goods[path]

    def _hear(self) -> None:
        """Take the answers that are there."""
        waiting = {device.reference: device for device in self._devices.values() if device.reference is not None}
        for reference in self._connection.ready(list(waiting), _POLL_S):
            device = waiting[reference]
            if device.reference is reference and self._devices.get(device.number) is device:  # nothing has ended it
                self._take_answer(device)

    def _take_answer(self, device: _Device) -> None:
        try:
            answer = self._connection.answer(device.reference)
        except self._connection.lost as error:
            self._replace(device, self._connection.why(error), strike=True)
            return
        device.reference = None
        if isinstance(answer, Place):
            self._welcome(device, answer)
        else:
            if isinstance(answer, News):
                self._take_news(device, answer)
            if device.portion is not None:
                device.reference = device.actor.look.remote()

    def _welcome(self, device: _Device, place: Place) -> None:
        device.place = place
        if place.software != software():
            self._send(
                Refused(
                    f"node {place.host} has {place.software}, expected {software()} as here: install the same versions "
                    "on every node"
                )
            )
            self._over = True
            return
        shared = place.host in self._names.values() and place.node not in self._names
        name = self._names.setdefault(place.node, f"{place.host}-{place.node[:4]}" if shared else place.host)
        self._nodes.setdefault(name, 0)

    def _take_news(self, device: _Device, news: News) -> None:
        portion, receiver = device.portion, device.receiver
        if portion is None or receiver is None:
            return
        device.frames = news.frames
        for line in news.lines:
            if line.warning:
                self._send(FileLine(portion.file, line.text, warning=True))
        if news.part is not None:
            if not self._joins(portion.file, news.part.mark):
                self._leave(
                    device, Outcome(Verdict.UNBEGUN, "its encoder is another one than that of the other pieces")
                )
                return
            try:
                if receiver.take(news.part):
                    frames = news.part.mark.frames if news.part.mark else 0
                    self._frames[portion.file] += frames
                    self._nodes[self._name(device)] += frames
                    self._send(PieceStored(portion.file, news.part.piece, self._name(device)))
            except OutputError as error:
                self._give_up(portion.file, str(error), full=is_full_disk(error))
            except SwiftVRError as error:
                self._replace(device, str(error), strike=True)
        if news.outcome is not None:
            self._end(device, news.outcome)

    def _end(self, device: _Device, outcome: Outcome) -> None:
        """A span has ended on a device."""
        portion, policy = device.portion, outcome.verdict.policy
        assert portion is not None
        if outcome.verdict is Verdict.FAILED:
            self._release(device)
            self._give_up(portion.file, f"{self._name(device)}: {outcome.text}")
        elif outcome.verdict is Verdict.DONE:
            device.strikes = 0
            if device.receiver is not None and not device.receiver.done:  # the input ends before this span
                self._ledger.settle(portion, self._ledger.pieces(portion))
                self._release(device)
            else:
                self._give_back(device, "the last pieces did not arrive")
        else:
            if policy.leaves:
                self._leave(device, outcome)
            else:
                self._replace(device, outcome.text, strike=policy.strikes)

    def _leave(self, device: _Device, outcome: Outcome) -> None:
        """A device leaves its file, or all with its bundle, to others."""
        policy = outcome.verdict.policy
        assert device.portion is not None
        reason = f"{self._name(device)}: {outcome.text}"
        self._ledger.leave(device.number, device.portion.file, reason, bundle=policy.leaves == "bundle")
        self._replace(device, outcome.text, strike=policy.strikes, counts=False)

    def _joins(self, file: int, mark: Mark | None) -> bool:
        """Whether a piece was encoded like the first one of its file."""
        encoder = (mark.encoder, mark.header) if mark else None
        return encoder is None or self._encoders.setdefault(file, encoder) == encoder

    def _replace(self, device: _Device, reason: str, *, strike: bool, counts: bool = True) -> None:
        """Start another actor for a device whose own is lost or has failed; after two failures in a row, none.

        counts: the span has been tried once more.
        """
        self._connection.kill(device.actor)
        strikes = device.strikes + strike
        if device.portion is not None or device.place is None:
            after = "it gets no more" if strikes >= MAX_STRIKES else "its pieces go to others"
            self._send(FileLine(None, f"{self._name(device)}: {reason}; {after}", warning=strike))
        self._give_back(device, reason, counts=counts)
        if strikes >= MAX_STRIKES:
            device.strikes, device.reference = strikes, None
            self._refused = f"{self._name(device)}: {reason}"
        else:
            self._devices[device.number] = self._start(device.number, strikes)

    def _give_back(self, device: _Device, reason: str, *, counts: bool = True) -> None:
        """Let wait again what is missing of a device's portion."""
        portion, receiver = device.portion, device.receiver
        self._release(device)
        if portion is None or receiver is None or portion.file not in self._files:
            return
        again = self._ledger.settle(portion, receiver.done)
        if counts and not again:
            self._give_up(portion.file, f"tried several times: {self._name(device)}: {reason}")

    def _release(self, device: _Device) -> None:
        if device.receiver is not None:
            device.receiver.close()
        device.portion = device.receiver = None
        device.frames = 0

    def _give_up(self, file: int, reason: str, *, full: bool = False) -> None:
        """A file has failed: stop what others do for it. full: because the disk of its output is."""
        self._ledger.drop(file)
        self._settled(file, reason, full=full)
        for device in list(self._devices.values()):
            if device.portion is not None and device.portion.file == file:
                self._release(device)
                self._connection.kill(device.actor)
                self._devices[device.number] = self._start(device.number, device.strikes)

    def _settle_files(self) -> None:
        for file in self._ledger.complete():
            self._settled(file, None)
        usable = [device.number for device in self._devices.values() if device.strikes < MAX_STRIKES]
        if self._devices:
            for file, reason in self._ledger.stuck(usable):
                self._give_up(file, reason or f"no device of the cluster is left ({self._refused})")

    def _settled(self, file: int, reason: str | None, *, full: bool = False) -> None:
        order = self._files.pop(file, None)
        if order is None:
            return
        self._goods.pop(str(order.job.source), None)
        self._indexes.pop(file, None)
        self._encoders.pop(file, None)
        self._send(FileFrames(file, self._frames.pop(file)))
        self._send(FileSettled(file, reason, full))

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._reported < _REPORT_S:
            return
        self._reported = now
        frames, nodes = dict(self._frames), dict(self._nodes)
        for device in self._devices.values():
            if device.portion is not None and device.portion.file in frames:
                frames[device.portion.file] += device.more
                nodes[self._name(device)] += device.more
        for file, done in frames.items():
            self._send(FileFrames(file, done))
        if nodes:
            self._send(NodeFrames(nodes))
        self._say_who_waits(now)

    def _say_who_waits(self, now: float) -> None:
        """Tell the user, once, if no device has started for a while."""
        starting = [device for device in self._devices.values() if device.place is None]
        waits = starting and len(starting) == len(self._devices) and now - starting[0].began > _PATIENCE_S
        if waits and not self._warned:
            self._send(FileLine(None, "waiting for Ray to start processes: all devices of the cluster may be in use"))
        self._warned = bool(waits)

    def _usable(self) -> int:
        return sum(device.strikes < MAX_STRIKES for device in self._devices.values())

    def _name(self, device: _Device) -> str:
        return self._names.get(device.place.node, device.place.host) if device.place else "a process"


def _words(error: Exception) -> str:
    """What Ray says, in one line that is not too long."""
    return printable(" ".join(str(error).split()))[:300] or type(error).__name__


def main(parent: Parent) -> None:
    """Connect, serve, and leave the cluster."""
    order = parent.receive()
    connect = decode_sent(order) if order else None
    if not isinstance(connect, Connect):
        return
    try:
        connection = Connection.open(connect)
    except ImportError as error:
        parent.answer(encode_sent(Refused(str(cannot_import(error, "ray", "--cluster", "ray")))))
        return
    except SwiftVRError as error:
        parent.answer(encode_sent(Refused(str(error), misuse=isinstance(error, MisuseError))))
        return
    except Exception as error:  # noqa: BLE001 (Ray raises many kinds)
        text = f"cannot connect to the cluster {connect.cluster.address}: {_words(error)}"
        parent.answer(encode_sent(Refused(text)))
        return
    release = leaving.hold("the cluster", connection.abandon, leaving.Turn.PROCESSES)
    orders: queue.SimpleQueue[Sent] = queue.SimpleQueue()

    def listen() -> None:
        while (message := parent.receive()) is not None:
            orders.put(decode_sent(message))

    parent.send(encode_sent(connection.described))
    threading.Thread(target=listen, name="swiftvr-orders", daemon=True).start()
    ClusterDriver(connection, connect, orders, parent).run()
    connection.close()
    release()
    parent.answer(encode_sent(Bye()))
