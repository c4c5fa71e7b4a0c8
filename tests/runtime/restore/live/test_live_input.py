"""What is known of a live source, and frames whose size changes."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging
import pytest

from swiftvr_trt.errors import MachineError
from swiftvr_trt.runtime.restore.live import live_input
from swiftvr_trt.runtime.restore.live.addresses import LiveInputAddress
from swiftvr_trt.runtime.restore.live.live_input import (
    VIDEO,
    LiveInput,
    PlaceTakenError,
    SourceEndedError,
    open_source_of_any_rate,
    remedy_for,
)
from swiftvr_trt.runtime.restore.live.options import STALL_S, patience_with
from swiftvr_trt.runtime.restore.live.packet_thread import PacketThread
from tests.patience import PATIENCE_S, wait_until

from .lab import Feed, transport
from .test_packets import recorded

_MORE_THAN_SOCKETS_HOLD = 16 << 20


def iter_into(source: LiveInput, packets: list[Any]) -> list[Any]:
    """Put the packets of a source into a list, up to the error that ends them."""
    for found in source.packets():
        packets.append(found)
    return []


def test_an_open_source_gives_packets_and_says_when_it_ends(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(transport(12))
    source = LiveInput(LiveInputAddress.parse(str(tmp_path / "a.ts")), (), None)
    assert (int(source.rate), [str(copy) for copy in source.copies]) == (25, ["audio stream 1 (aac)"])
    packets: list[Any] = []
    with pytest.raises(SourceEndedError, match="it has ended"):
        packets.extend(iter_into(source, packets))
    lanes = {lane for lane, _ in packets}
    decodings = [source.decode(packet) for lane, packet in packets if lane == VIDEO]
    frames = [frame for found, _ in decodings for frame in found]
    assert not any(damaged for _, damaged in decodings)
    assert lanes == {VIDEO, "sound 1"}
    assert len(frames) == 12
    assert source.has_end  # a file
    source.close()


@pytest.mark.parametrize("suffix", [".ts", ".flv", ".mkv"])
def test_the_frames_that_a_decoder_holds_at_the_end_have_times_on_the_same_clock(tmp_path: Path, suffix: str) -> None:
    """The last frames of every connection by RTMP came out of order, and were left out."""
    memory, path = io.BytesIO(transport(12, sound=False, held=2)), tmp_path / f"a{suffix}"
    source: Any = av.open(memory)
    with source, av.open(str(path), "w") as output:
        copy: Any = output.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copy
                output.mux(packet)
    live = LiveInput(LiveInputAddress.parse(str(path)), (), None)
    packets: list[Any] = []
    with pytest.raises(SourceEndedError):
        iter_into(live, packets)
    frames: list[Any] = [frame for _, packet in packets for frame in live.decode(packet)[0]]
    rest = live.rest()
    assert rest
    times = [frame.pts * Fraction(frame.time_base) for frame in (*frames, *rest)]
    assert [round(25 * (time - times[0])) for time in times] == [*range(12)]
    live.close()


def renumbered(data: bytes, first_pid: int) -> bytes:
    """The same transport stream, with other numbers for its streams."""
    memory = io.BytesIO()
    options = {"mpegts_copyts": "1", "mpegts_start_pid": str(first_pid)}
    source: Any = av.open(io.BytesIO(data))
    with source, av.open(memory, "w", format="mpegts", container_options=options) as output:
        copies: list[Any] = [output.add_stream_from_template(each, opaque=True) for each in source.streams]
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    return memory.getvalue()


def test_streams_that_get_other_numbers_go_on(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(transport(24) + renumbered(transport(24, first_s=1), 512))
    source = LiveInput(LiveInputAddress.parse(str(tmp_path / "a.ts")), (), None)
    packets: list[Any] = []
    with pytest.raises(SourceEndedError, match="it has ended"):
        iter_into(source, packets)
    assert sum(lane == VIDEO for lane, _ in packets) == 48
    source.close()


def test_a_source_that_goes_on_with_other_streams_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV passes over the packets of streams that it did not know when it opened a source, and never comes back."""
    others, heard, sent = renumbered(transport(24, first_s=1), 512), threading.Event(), [0]

    def recordings() -> Iterator[bytes]:
        yield transport(24)
        while not heard.is_set():
            sent[0] += len(others)
            yield others

    packets, take = list[Any](), PacketThread.take

    def take_impatiently(thread: PacketThread, _patience_s: float | None) -> Any:
        """What it knew came: its end waits for what follows."""
        return take(thread, 2.0 if sum(lane == VIDEO for lane, _ in packets) >= 20 else PATIENCE_S)

    monkeypatch.setattr(PacketThread, "take", take_impatiently)
    monkeypatch.setattr(live_input, "_LATER_S", 0.3 - STALL_S)
    feed = Feed([recordings()], wait=lambda: heard.wait(PATIENCE_S))
    try:
        source = LiveInput(LiveInputAddress.parse(feed.url), (("merge_pmt_versions", "0"),), None)
        with pytest.raises(SourceEndedError, match="other streams, or not at all"):
            iter_into(source, packets)
        before = sent[0]
        wait_until(lambda: sent[0] > before + _MORE_THAN_SOCKETS_HOLD)  # so FFmpeg reads on
        assert not source.holds_source
        source.close()
        wait_until(lambda: source.holds_source)
        wait_until(lambda: av.logging.get_level() is None)  # nobody listens to the thread that is left behind
    finally:
        heard.set()
    wait_until(lambda: not source.holds_source)
    feed.close()


def test_a_source_that_sends_few_frames_is_waited_for() -> None:
    memory = io.BytesIO()
    with av.open(memory, "w", format="mpegts") as container:
        video: Any = container.add_stream("libx264", rate=Fraction(1, 10), options={"tune": "zerolatency"})
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        for _ in range(4):
            container.mux(video.encode(av.VideoFrame(48, 32, "yuv420p")))
        container.mux(video.encode(None))
    feed = Feed([memory.getvalue(), memory.getvalue()])
    source = open_source_of_any_rate(LiveInputAddress.parse(feed.url), (), None)
    assert source.rate == Fraction(1, 10)
    assert not source.is_impatient
    assert source._stall_s == 40
    source.close()
    feed.close()


@pytest.mark.parametrize(
    ("frames_per_s", "query", "rates"),
    [("25", "", [25]), ("1/2", "", [25]), ("1/10", "", [25, Fraction(1, 10)]), ("1/10", "?listen=1", [25])],
)
def test_only_a_source_with_too_few_frames_that_can_connect_again_is_opened_twice(
    monkeypatch: pytest.MonkeyPatch, frames_per_s: str, query: str, rates: list[Fraction]
) -> None:
    """A sender ends when it is cut off, as ffmpeg does."""
    told = list[Fraction]()

    class Opened(LiveInput):
        def __init__(self, address: LiveInputAddress, _options: object, _sounds: object, rate: Fraction) -> None:
            self.address, self._stall_s = address, patience_with(rate, STALL_S)
            told.append(rate)

        @property
        def rate(self) -> Fraction:
            return Fraction(frames_per_s)

        def close(self) -> None: ...

    monkeypatch.setattr(live_input, "LiveInput", Opened)
    open_source_of_any_rate(LiveInputAddress.parse(f"tcp://:5000{query}"), (), None)
    assert told == rates


def test_a_port_that_somebody_else_has_is_told_from_other_failures() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 0))
        address = LiveInputAddress.parse(f"udp://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(PlaceTakenError, match="another program has this port"):
            LiveInput(address, (), None)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        address = LiveInputAddress.parse(f"tcp://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(MachineError, match="check that it is running") as caught:
            LiveInput(address, (), None)
    assert not isinstance(caught.value, PlaceTakenError)


def test_sound_that_does_not_continue_is_told(tmp_path: Path) -> None:
    address = LiveInputAddress.parse(str(written(tmp_path / "a.ts", recorded("eac3", "mpegts"))))
    first = LiveInput(address, (), None)
    assert ([*first.sounds.values()], first.lost) == ([1], {})
    same = LiveInput(address, (), first.copies)
    assert (same.sounds, same.lost) == (first.sounds, {})
    written(tmp_path / "a.ts", recorded("aac", "mpegts"))
    other = LiveInput(address, (), first.copies)
    assert other.sounds == {}
    assert [*other.lost.values()] == [
        "audio stream 1 (aac, 48000 Hz, 2 channels) is left out: it does not continue the sound that there was"
    ]
    for source in (first, same, other):
        source.close()


def written(path: Path, sound: bytes) -> Path:
    """A file with pictures and this sound."""
    with (
        av.open(io.BytesIO(transport(10, sound=False))) as video,
        av.open(io.BytesIO(sound)) as audio,
        av.open(str(path), "w") as output,
    ):
        pairs: list[Any] = [
            (each, output.add_stream_from_template(each, opaque=True)) for each in (video.streams[0], audio.streams[0])
        ]
        for source, copy in pairs:
            for packet in source.container.demux(source):
                if packet.dts is not None:
                    packet.stream = copy
                    output.mux(packet)
    return path


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("bind failed: Address already in use", "another program has this port: end it, or choose another port"),
        ("bind failed: Error number -10048 occurred", "another program has this port: end it, or choose another port"),
        ("Failed to resolve hostname x: Name or service not known", "check the name of the host"),
        ("Connection to tcp://127.0.0.1:54017 failed: Connection refused", "check that it is running"),
        ("Connection to tcp://resolve/404?in=use failed: Connection refused", "check that it is running"),
        ("method DESCRIBE failed: 401 Unauthorized", "check the user and the password"),
        ("HTTP error 404 Not Found", "check the path"),
        ("Server returned 401 Unauthorized", "check the user and the password"),
        (
            "Format not on whitelist 'mpegts,mov'",
            "a playlist on disk is restored without --live, with --allow-playlist",
        ),
        ("Protocol 'file' not on whitelist 'http'!", "a playlist may name only what comes from the network"),
        ("Undefined constant or missing '(' in 'x'", "check the values of the options"),
        ("Connection refused", "check that it is running"),
    ],
)
def test_remedies_fit_the_reason(reason: str, remedy: str) -> None:
    assert remedy_for(reason) == remedy


def test_the_patience_of_a_protocol_is_an_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = LiveInputAddress.parse(f"tcp://127.0.0.1:{silent.getsockname()[1]}")
        address.check_options("--in-option", ["rw_timeout"])
        with pytest.raises(MachineError, match=r"cannot open tcp://.*timed out"):
            LiveInput(address, (("rw_timeout", "200000"),), None)
