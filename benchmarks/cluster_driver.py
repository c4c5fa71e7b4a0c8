"""What the driver of a cluster costs per answer of a device, with simulated devices.

    python -m benchmarks.cluster_driver                      1 000 devices that restore ten films, without Ray
    python -m benchmarks.cluster_driver --ray                what Ray itself takes for these answers
    python -m benchmarks.cluster_driver --parts              what it takes to keep the parts of pieces that arrive

The driver is the real one. The devices are not: their time is simulated, each has a piece of film after so many
seconds, and answers at least once per second before. Their pieces hold almost nothing, and lie in memory if there is
`/dev/shm`, so that neither network nor disk counts.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import os
import queue
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import click

from swiftvr_trt.child import Message, Parent
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.restore.cluster.actor import PART_BYTES, News, PiecePart, Place, SpanOrder, software
from swiftvr_trt.runtime.restore.cluster.address import ClusterOptions
from swiftvr_trt.runtime.restore.cluster.connection import Connection
from swiftvr_trt.runtime.restore.cluster.driver import ClusterDriver
from swiftvr_trt.runtime.restore.cluster.messages import Bye, Connect, FileOrder, FileSettled, Sent, decode_sent
from swiftvr_trt.runtime.restore.cluster.receiving import Receiver
from swiftvr_trt.runtime.restore.job import Job
from swiftvr_trt.runtime.restore.restorer import OpenOptions
from swiftvr_trt.runtime.restore.segments.grid import Span
from swiftvr_trt.runtime.restore.segments.piece import Mark, segments_folder
from swiftvr_trt.runtime.restore.verdict import Outcome, Verdict

DATA = b"a piece"
FRAMES = 720
"""Of a piece."""
_LOOK_S = 1.0

HERE = Place("1", "here", software())


class LostError(Exception):
    """A device is gone."""


@dataclass(frozen=True)
class Device:
    """A simulated device. piece_s: how long a piece takes. place: where it says that it runs.

    ends: how every span ends on it, before its first piece; None if it restores them. header: of its encoder.
    """

    piece_s: float
    place: Place
    ends: Outcome | Exception | None = None
    header: str = ""


class SimulatedCluster:
    """What `ClusterDriver` uses of a `Connection`. now: the simulated time in seconds. turns: how often it was asked.

    arrived: when each device's pieces were handed out, by its number. answers: how many there were.
    """

    lost: type[Exception] = LostError
    options = OpenOptions()

    def __init__(
        self, devices: Sequence[Device], pieces: Mapping[str, int], clock: Callable[[], float] = lambda: 0.0
    ) -> None:
        """pieces: how many each file has, by its source's name. clock: so many seconds pass by themselves."""
        self.now, self.answers, self.turns = 0.0, 0, 0
        self._clock, self._before = clock, clock()
        self.arrived: dict[int, list[float]] = {number: [] for number in range(len(devices))}
        self.pieces, self._devices = pieces, devices
        self._free = list(range(len(devices)))
        self._numbers = itertools.count()
        self._due: list[tuple[float, int]] = []
        self._given: dict[int, Callable[[], Any]] = {}

    def capacity(self) -> int:
        return len(self._devices)

    def start(self, _kind: type) -> SimulatedActor:
        number = self._free.pop(0)
        return SimulatedActor(self, number, self._devices[number])

    def put(self, value: object) -> object:
        return value

    def ready(self, references: list[int], _timeout_s: float) -> list[int]:
        """All that are due. If none is, time passes until the next one is."""
        wanted, now = set(references), self._clock()
        self.now, self._before, self.turns = self.now + now - self._before, now, self.turns + 1
        while self._due and self._due[0][1] not in wanted:  # of a killed actor
            heapq.heappop(self._due)
        if not self._due:
            return []
        self.now = max(self.now, self._due[0][0])
        found = []
        while self._due and self._due[0][0] <= self.now:
            _, reference = heapq.heappop(self._due)
            found += [reference] if reference in wanted else []
        return found

    def answer(self, reference: int) -> object:
        self.answers += 1
        return self._given.pop(reference)()

    def why(self, error: Exception) -> str:
        return str(error)

    def kill(self, actor: SimulatedActor) -> None:
        self._free.append(actor.number)

    def dismiss(self, _actors: list[SimulatedActor]) -> None: ...

    def call(self, work: Callable[[], Any], after_s: float = 0.0) -> int:
        """Have something answered later. Returns the reference."""
        reference = next(self._numbers)
        self._given[reference] = work
        heapq.heappush(self._due, (self.now + after_s, reference))
        return reference


@dataclass(frozen=True)
class _Remote:
    """A method of an actor."""

    remote: Callable[..., int]


class SimulatedActor:
    """Stands in for the handle of a `SpanActor`."""

    def __init__(self, cluster: SimulatedCluster, number: int, device: Device) -> None:
        self.number, self._cluster, self._device = number, cluster, device
        self.hello = _Remote(lambda: cluster.call(lambda: device.place))
        self.begin, self.look = _Remote(self._begin), _Remote(self._look)

    def _begin(self, order: SpanOrder) -> int:
        assert order.job.span is not None
        first, stop = order.job.span
        self._total = self._cluster.pieces[Path(order.source.path).name]
        self._left = list(range(first, self._total if stop is None else stop))
        self._done, self._next_s = 0, self._cluster.now + self._device.piece_s
        return self._cluster.call(lambda: None)

    def _look(self) -> int:
        if self._device.ends is not None:
            return self._cluster.call(lambda: self._fails())
        wait = self._next_s - self._cluster.now if self._left else 0.0
        return self._cluster.call(self._news, min(wait, _LOOK_S))

    def _fails(self) -> News:
        if isinstance(self._device.ends, Exception):
            raise self._device.ends
        return News(0, outcome=self._device.ends)

    def _news(self) -> News:
        if not self._left:
            return News(self._done, outcome=Outcome(Verdict.DONE, "done"))
        if self._cluster.now < self._next_s:
            return News(self._done)
        piece = self._left.pop(0)
        self._done, self._next_s = self._done + FRAMES, self._cluster.now + self._device.piece_s
        self._cluster.arrived[self.number].append(self._cluster.now)
        mark = replace(mark_of(piece), last=piece == self._total - 1, header=self._device.header)
        return News(self._done, part=PiecePart(piece, DATA, mark))


def mark_of(piece: int) -> Mark:
    """The mark of a simulated piece."""
    digest = hashlib.sha256(DATA).hexdigest()
    return Mark(piece * FRAMES, FRAMES, FRAMES, len(DATA), digest, "1/24", (piece + 1) * FRAMES, False, "libx264")


@dataclass
class SimulatedRun:
    """Hands files to a driver as `ClusterRun` does. sent: what the driver has sent."""

    cluster: SimulatedCluster
    folder: Path
    sent: list[Sent] = field(default_factory=list)
    _orders: queue.SimpleQueue[Sent] = field(default_factory=queue.SimpleQueue)
    _open: int = 0

    def restore(self) -> None:
        """Have all files of the cluster restored. Their pieces go into folders in `folder`."""
        bundle = self.folder / "bundle"
        bundle.mkdir()
        (bundle / "manifest.json").write_text("{}", encoding="utf-8")
        for number, (name, pieces) in enumerate(self.cluster.pieces.items()):
            source, output = self.folder / name, self.folder / f"{name}.out.mp4"
            source.write_text(name, encoding="utf-8")
            segments_folder(output).mkdir()
            job = Job(source, str(output), sink=SinkOptions())
            self._orders.put(FileOrder(number, job, str(bundle), (Span(0, None),), pieces - 1))
        self._open = len(self.cluster.pieces)
        connect = Connect(ClusterOptions("auto"), self.cluster.options, gpu=True)
        connection, parent = cast(Connection, self.cluster), cast(Parent, self)
        ClusterDriver(connection, connect, self._orders, parent).run()

    def send(self, message: Message) -> None:
        """Take what the driver sends; say goodbye after the last file."""
        self.sent.append(sent := decode_sent(message))
        self._open -= isinstance(sent, FileSettled)
        if not self._open:
            self._orders.put(Bye())


def simulated(devices: int, films: int, pieces: int, piece_s: float) -> dict[str, Any]:
    """Figures of the driver with so many devices, which begin one after the other within the time of a piece."""
    made = [Device(piece_s * (1 + number / devices / 10), HERE) for number in range(devices)]
    cluster = SimulatedCluster(made, {f"film{number}.mp4": pieces for number in range(films)}, clock=time.perf_counter)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        began = time.process_time()
        SimulatedRun(cluster, Path(folder)).restore()
        took = time.process_time() - began
    return {
        "devices": devices,
        "pieces": films * pieces,
        "answers": cluster.answers,
        "answers_per_s": round(cluster.answers / cluster.now),
        "answers_per_turn": round(cluster.answers / cluster.turns, 1),
        "ms_per_turn": round(1000 * took / cluster.turns, 3),
        "busy": round(took / cluster.now, 3),
    }


def of_ray(references: int, calls: int) -> Iterator[tuple[str, float]]:
    """What Ray takes on this machine: to look for answers among so many, and to ask and fetch one."""
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    import ray

    ray.init("local", include_dashboard=False, log_to_driver=False, object_store_memory=256 << 20)

    class Asked:
        def wait(self) -> None:
            time.sleep(3600)

        def look(self) -> News:
            return News(1)

    make: Any = ray.remote(Asked)
    busy, idle = make.remote(), make.remote()
    waiting = [busy.wait.remote() for _ in range(references)]
    ray.get(idle.look.remote())
    began = time.perf_counter()
    for _ in range(calls):
        ray.wait(waiting, num_returns=references, timeout=0, fetch_local=False)
    yield f"wait_among_{references}_ms", 1000 * (time.perf_counter() - began) / calls
    began = time.perf_counter()
    for reference in [idle.look.remote() for _ in range(10 * calls)]:
        ray.get(reference)
    yield "ask_and_fetch_ms", 1000 * (time.perf_counter() - began) / (10 * calls)
    ray.shutdown()


def of_parts(pieces: int) -> Iterator[tuple[str, float]]:
    """What it takes to keep pieces of 45 MB, part by part, in memory and on the disk of `TMPDIR`."""
    data = os.urandom(45_000_000)
    mark = replace(mark_of(0), size=len(data), sha256=hashlib.sha256(data).hexdigest())
    parts = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
    for place in (Path("/dev/shm"), Path(tempfile.gettempdir())):
        with tempfile.TemporaryDirectory(dir=place) as folder:
            output = Path(folder) / "out.mp4"
            segments_folder(output).mkdir()
            began = time.perf_counter()
            for piece in range(pieces):
                receiver = Receiver(output)
                for part in parts:
                    receiver.take(PiecePart(piece, part, mark if part is parts[-1] else None))
            yield f"ms_per_part_{place.name}", 1000 * (time.perf_counter() - began) / pieces / len(parts)


@click.command()
@click.option("--devices", default=1000, show_default=True)
@click.option("--films", default=10, show_default=True)
@click.option("--pieces", default=240, show_default=True, help="Of each film.")
@click.option("--piece-s", default=36.0, show_default=True, help="Simulated seconds for a piece.")
@click.option("--ray", "only", flag_value="ray", help="Measure Ray instead.")
@click.option("--parts", "only", flag_value="parts", help="Measure how fast pieces are kept instead.")
def main(devices: int, films: int, pieces: int, piece_s: float, only: str | None) -> None:
    """Measure, and print the figures."""
    if only == "ray":
        figures: dict[str, Any] = dict(of_ray(devices, 100))
    elif only == "parts":
        figures = dict(of_parts(20))
    else:
        figures = simulated(devices, films, pieces, piece_s)
    json.dump(figures, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
