"""Receivers that go away: they are tried again, and what is lost is counted."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from swiftvr_trt.errors import Cancelled, OutputError
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.restore.live.addresses import LiveOutputAddress
from swiftvr_trt.runtime.restore.live.counts import LiveStatistics
from swiftvr_trt.runtime.restore.live.items import LiveFrame
from swiftvr_trt.runtime.restore.live.options import LiveOptions
from swiftvr_trt.runtime.restore.live.outlet import LiveEncoding
from swiftvr_trt.runtime.restore.live.writing import LiveWriter
from tests.patience import PATIENCE_S, wait_until

from .lab import Receiver, shown
from .test_outlet import info, picture


def write(receiver: Receiver, options: LiveOptions) -> tuple[LiveWriter, LiveStatistics, list[str]]:
    statistics, lines = LiveStatistics(), list[str]()
    address = LiveOutputAddress.parse(receiver.url)
    source = info(sound=False)
    writer = LiveWriter(
        address, options, lambda: LiveEncoding(address, source, (96, 64), SinkOptions()), statistics, lines.append
    )
    writer.start()
    assert writer.opened.wait(PATIENCE_S)
    return writer, statistics, lines


def test_a_receiver_that_goes_away_is_connected_to_again() -> None:
    receiver = Receiver(cut_after=4000)
    writer, statistics, lines = write(receiver, LiveOptions())
    number, deadline = 0, time.monotonic() + PATIENCE_S
    writer.box.put(LiveFrame(picture(0), time.monotonic()))
    while not statistics.report().counts.reconnects_out and time.monotonic() < deadline:
        number += 1
        writer.box.put(LiveFrame(picture(number), time.monotonic()))
        time.sleep(0.005)
    writer.box.put(None)
    assert writer.finished.wait(PATIENCE_S)
    assert writer.error is None
    counts = statistics.report().counts
    assert counts.reconnects_out == 1
    assert counts.frames_out + counts.unsent == number + 1
    assert "is gone" in lines[0]
    assert "is back after" in lines[1]
    wait_until(lambda: receiver.ended == 2)
    receiver.close()
    again = shown(receiver.received[1])
    assert again == sorted(again)
    assert len(again) > 0


def test_a_run_that_ends_before_its_receiver_answers_has_written_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as server:
        url = f"rtmp://127.0.0.1:{server.getsockname()[1]}/a/b"  # it waits for an answer
        address, source = LiveOutputAddress.parse(url), info(sound=False)
        writer = LiveWriter(
            address,
            LiveOptions(),
            lambda: LiveEncoding(address, source, (96, 64), SinkOptions()),
            LiveStatistics(),
            lambda _line: None,
        )
        writer.start()
        writer.box.put(None)
        assert writer.finished.wait(PATIENCE_S)
    assert "did not answer before the run was ended: nothing was written" in str(writer.error)


def test_pictures_that_the_encoder_holds_count_once_they_leave() -> None:
    receiver, statistics = Receiver(), LiveStatistics()
    address, source = LiveOutputAddress.parse(receiver.url), info(sound=False)
    sink = SinkOptions(extra=(("tune", "film"), ("bf", "2"), ("rc-lookahead", "10")))
    writer = LiveWriter(
        address, LiveOptions(), lambda: LiveEncoding(address, source, (96, 64), sink), statistics, lambda _line: None
    )
    writer.start()
    assert writer.opened.wait(PATIENCE_S)
    for number in range(30):
        writer.box.put(LiveFrame(picture(number), time.monotonic()))
    writer.box.put(None)
    assert writer.finished.wait(PATIENCE_S)
    counts = statistics.report().counts
    assert (writer.error, counts.frames_out, counts.unsent) == (None, 30, 0)
    with statistics.delays() as delays:
        assert delays.count == 30
    receiver.close()


class Fickle:
    """A connection that opens, takes a packet, and is gone a quarter of a second later, on a clock of its own."""

    is_full = False

    def __init__(self, now: list[float]) -> None:
        self._now, self.is_open, self._sent = now, True, list[Callable[[], None]]()

    def send(self, _packet: Any, sent: Callable[[], None] = lambda: None) -> None:
        self._sent.append(sent)

    def poll(self, _patience_s: float = 0.0) -> None:
        for sent in self._sent:
            sent()
        if self._sent:
            self._now[0] += 0.25
            raise OutputError("it is gone: Broken pipe")

    def close(self) -> None: ...


def test_a_receiver_that_hangs_up_soon_was_never_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now, lines, connections = [0.0], list[str](), list[float]()
    address = LiveOutputAddress.parse("tcp://127.0.0.1:9")
    writer = LiveWriter(
        address,
        LiveOptions(reconnect=Fraction(30)),
        lambda: LiveEncoding(address, info(sound=False), (96, 64), SinkOptions()),
        LiveStatistics(),
        lines.append,
    )
    writer._now = lambda: now[0]

    def connect(*_: object) -> Any:
        connections.append(now[0])
        return Fickle(now)

    monkeypatch.setattr("swiftvr_trt.runtime.restore.live.writing.Outlet", connect)
    writer._connect()

    def write_all() -> None:
        for number in range(1000):
            writer._keep_connected()
            writer._write(LiveFrame(picture(number), now[0]))
            now[0] += 0.04

    with pytest.raises(OutputError, match="Broken pipe; it did not come back in time"):
        write_all()
    assert lines == ["it is gone: Broken pipe; connecting again"]
    assert 4 <= len(connections) <= 10


def test_captions_that_the_video_does_not_hold_are_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, address = list[str](), LiveOutputAddress.parse("tcp://127.0.0.1:9")
    sink = SinkOptions(codec="mpeg4")
    writer = LiveWriter(
        address,
        LiveOptions(),
        lambda: LiveEncoding(address, info(sound=False), (96, 64), sink),
        LiveStatistics(),
        lines.append,
    )
    monkeypatch.setattr("swiftvr_trt.runtime.restore.live.writing.Outlet", lambda *_: Fickle([0.0]))
    said = ["closed captions are lost: mpeg4 video holds none, but libx264 does"]
    number = 0
    for _ in range(2):
        writer._connect()
        for captions in (None, b"\xfc\x94\x20", b"\xfc\x94\x20"):
            plain = picture(number)
            writer._write(LiveFrame(replace(plain, stamp=replace(plain.stamp, captions=captions)), 0.0))
            number += 1
            assert lines == (said if number > 1 else [])
    assert list(writer.lost) == said
    writer._close()


def test_a_receiver_that_stays_away_ends_the_run_in_one_line() -> None:
    receiver = Receiver(cut_after=1000)
    writer, statistics, _ = write(receiver, LiveOptions(reconnect=Fraction(0)))
    receiver.close()
    number = 0
    deadline = time.monotonic() + PATIENCE_S
    while not writer.finished.is_set() and time.monotonic() < deadline:
        try:
            writer.box.put(LiveFrame(picture(number), time.monotonic()))
        except Cancelled:
            break
        number += 1
        time.sleep(0.002)
    assert writer.finished.wait(PATIENCE_S)
    assert isinstance(writer.error, OutputError)
    assert str(writer.error).endswith("it did not come back in time")
    assert statistics.report().counts.unsent > 0
