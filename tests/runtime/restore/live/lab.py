"""Live sources and receivers on loopback, whose content is known."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
import numpy as np

from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.restore.live.addresses import LiveInputAddress
from swiftvr_trt.runtime.restore.live.engine import LiveEngine
from swiftvr_trt.runtime.restore.live.items import LiveFrame, LiveSound, Outbox
from swiftvr_trt.runtime.restore.live.latency import LatencyPlan
from swiftvr_trt.runtime.restore.live.options import LiveOptions
from swiftvr_trt.runtime.restore.restorer import Restorer
from tests.patience import PATIENCE_S

CLOCK = Fraction(1, 90000)
STEP = 3600


def transport(
    frames: int,
    size: tuple[int, int] = (48, 32),
    first_s: Fraction | int = 0,
    *,
    sound: bool = True,
    noise: int = 0,
    held: int = 0,
) -> bytes:
    """An MPEG transport stream at 25 frames a second that begins at a time, with a key frame every 12 frames.

    noise: its amplitude. held: pictures between two others that are decoded after both (B-frames).
    """
    memory = io.BytesIO()
    with av.open(memory, "w", format="mpegts", container_options={"mpegts_copyts": "1"}) as container:
        video: Any = container.add_stream(
            "libx264", rate=25, time_base=CLOCK, options={"g": "12", "bf": str(held), "preset": "ultrafast"}
        )
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio: Any = container.add_stream("aac", rate=48000, layout="mono") if sound else None
        begin = round(first_s / CLOCK)
        packets: list[Any] = []
        for index in range(frames):
            pixels = np.full((size[1], size[0], 3), 30 + 5 * (index % 40), np.uint8)
            pixels += np.random.default_rng(index).integers(0, noise + 1, pixels.shape, np.uint8)
            frame = converted(av.VideoFrame.from_ndarray(pixels, "rgb24"), format="yuv420p")
            frame.pts, frame.time_base, frame.duration = begin + index * STEP, CLOCK, STEP
            packets += video.encode(frame)
        packets += video.encode(None)
        for index in range(frames * 48000 // 25 // 1024 if sound else 0):
            wave = av.AudioFrame.from_ndarray(np.full((1, 1024), 0.1 * (index % 7), np.float32), "fltp", "mono")
            wave.sample_rate, wave.pts = 48000, round(first_s * 48000) + index * 1024
            packets += audio.encode(wave)
        packets += audio.encode(None) if sound else []
        for packet in sorted(packets, key=lambda each: each.dts * each.time_base):
            container.mux(packet)
    return memory.getvalue()


class Feed:
    """A server that sends one recording to each who connects, and then hangs up; after the last, nobody is there."""

    def __init__(
        self,
        recordings: Sequence[bytes | Iterable[bytes]],
        pause_s: float = 0.0,
        *,
        slowly: bool = False,
        wait: Callable[[], object] = lambda: None,
    ) -> None:
        """recordings: each whole, or in parts. pause_s: before a connection is closed. slowly: in pieces, so that it
        takes a while. wait: returns when it may be closed."""
        self._slowly, self._wait = slowly, wait
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._recordings, self._pause_s = recordings, pause_s
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for data in self._recordings:
            connection, _ = self._server.accept()
            with connection, suppress(OSError):  # it has heard enough
                for part in [data] if isinstance(data, bytes) else data:
                    self._send(connection, part)
                connection.shutdown(socket.SHUT_WR)
                time.sleep(self._pause_s)
                self._wait()
        self._server.close()

    def _send(self, connection: socket.socket, data: bytes) -> None:
        step = 4096 if self._slowly else len(data)
        for begin in range(0, len(data), step):
            connection.sendall(data[begin : begin + step])
            time.sleep(0.01 * self._slowly)

    def close(self) -> None:
        self._server.close()


class Receiver:
    """A server that keeps what each connection sends. ended: how many of them are over."""

    def __init__(self, cut_after: int | None = None) -> None:
        """cut_after: bytes after which the first connection is cut off."""
        self.ended = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self.received: list[bytes] = []
        self._cut_after = cut_after
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, suppress(OSError):  # hung up at once
                self.received.append(b"")
                while data := connection.recv(65536):
                    self.received[-1] += data
                    if self._cut_after is not None and len(self.received[-1]) > self._cut_after:
                        self._cut_after = None
                        break
            self.ended += 1

    def close(self) -> None:
        self._server.close()


def shown(data: bytes) -> list[Fraction]:
    """When the pictures of a recording are shown, in seconds; all have to be decodable."""
    container: Any = av.open(io.BytesIO(data))
    with container:
        return [frame.pts * Fraction(frame.time_base) for frame in container.decode(video=0)]


Put = list[LiveFrame | LiveSound]


class Taker:
    """Takes what an engine gives, in a thread of its own."""

    def __init__(self, box: Outbox) -> None:
        self.items: Put = []
        self._thread = threading.Thread(target=self._take, args=(box,), daemon=True)
        self._thread.start()

    def _take(self, box: Outbox) -> None:
        while True:
            try:
                item = box.get(1.0)
            except TimeoutError:
                continue
            if item is None:
                return
            self.items.append(item)

    def wait(self) -> Put:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self.items


def play(
    restorer: Restorer, feed: Feed, options: LiveOptions, plan: LatencyPlan | None = None
) -> tuple[LiveEngine, Put, list[str]]:
    """Run an engine on a feed to its end. Returns it, what came out, and its lines."""
    lines: list[str] = []
    engine = LiveEngine(LiveInputAddress.parse(feed.url), options, SourceOptions(), lines.append)
    return engine, run_to_its_end(engine, restorer, feed, options, plan), lines


def run_to_its_end(
    engine: LiveEngine, restorer: Restorer, feed: Feed, options: LiveOptions, plan: LatencyPlan | None = None
) -> Put:
    """What comes out of an engine, until its feed ends."""
    box = Outbox(64)
    try:
        info = engine.open()
        engine.start(restorer, plan or options.chosen.plan(info.rate, restorer.manifest.recipe.clip_len), None, box)
        return Taker(box).wait()
    finally:
        engine.close()
        feed.close()


def moments(items: Put) -> list[Fraction]:
    """When the pictures among these items are shown, in seconds."""
    return [each.picture.stamp.pts * CLOCK for each in items if isinstance(each, LiveFrame)]
