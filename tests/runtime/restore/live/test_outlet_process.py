"""What the process that sends packets does with its orders."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest

from swiftvr_trt.errors import OutputError
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.restore.live import live_input
from swiftvr_trt.runtime.restore.live.addresses import LiveInputAddress, LiveOutputAddress
from swiftvr_trt.runtime.restore.live.live_input import VIDEO, LiveInput, SourceEndedError
from swiftvr_trt.runtime.restore.live.outlet import LiveEncoding, Outlet
from swiftvr_trt.runtime.restore.live.outlet_process import _Sender, main
from swiftvr_trt.runtime.restore.live.packets import FrozenSound, PlainPacket
from tests.patience import PATIENCE_S
from tests.runtime.media.test_holding import make_sound

from .lab import transport
from .test_live_input import iter_into
from .test_outlet import info, picture
from .test_packets import recorded


class Orders:
    """A parent with a list of orders."""

    def __init__(self, orders: list[dict[str, Any]]) -> None:
        self.orders, self.answers = orders, list[dict[str, Any]]()

    def receive(self) -> dict[str, Any] | None:
        return self.orders.pop(0) if self.orders else None

    def answer(self, message: dict[str, Any]) -> None:
        self.answers.append(message)


def frames_before_an_error(played: Any) -> int:
    """The last packet may be cut off."""
    frames = 0
    with suppress(av.FFmpegError):
        for _ in played.decode(video=0):
            frames += 1
    return frames


@pytest.mark.parametrize("passed_on", [False, True])
def test_packets_become_a_file_that_can_be_played_before_it_is_finished(tmp_path: Path, passed_on: bool) -> None:
    encoding = LiveEncoding(LiveOutputAddress.parse("a.mkv"), info(sound=False), (96, 64), SinkOptions())
    opening = {
        "url": str(tmp_path / "a.mkv"),
        "muxer": "matroska",
        "options": {"cluster_time_limit": "500", "flush_packets": "1"},
        "header": {**encoding.header, "passed_on": passed_on},
    }
    packets = [{"packet": encoding.encode(picture(number))[0].to_plain()} for number in range(30)]
    parent: Any = Orders([{"packet": packets[0]["packet"]}, {"open": opening}, *packets])
    main(parent)
    assert parent.answers[:2] == [{"error": "it is not open"}, {"opened": True}]
    assert parent.answers[2:] == [{"sent": number + 1} for number in range(30)]
    with av.open(str(tmp_path / "a.mkv")) as played:
        assert frames_before_an_error(played) >= 12
    encoding.close()


def test_what_cannot_be_opened_is_an_answer() -> None:
    encoding = LiveEncoding(LiveOutputAddress.parse("a.mkv"), info(), (96, 64), SinkOptions())
    header = {**encoding.header, "passed_on": False}
    opening = {"url": "/no/such/place.mkv", "muxer": "matroska", "options": {}, "header": header}
    parent: Any = Orders([{"open": opening}])
    main(parent)
    assert "No such file" in parent.answers[0]["error"]
    encoding.close()


def heard_s(file: Any) -> float:
    """How many seconds of sound there are. FFmpeg finds one stream too many in some FLV, which is empty."""
    container: Any = av.open(file)
    with container:
        packets = [packet for packet in container.demux() if packet.stream.type == "audio"]
        return float(sum(frame.samples / frame.sample_rate for packet in packets for frame in packet.decode()))


def send_all(address: LiveOutputAddress, encoding: LiveEncoding, packets: list[PlainPacket]) -> None:
    """Write an output, in this process."""
    assert address.path is not None
    address.path.parent.mkdir(exist_ok=True)
    opening = {"url": address.url, "muxer": address.muxer, "header": json.loads(json.dumps(encoding.header))}
    sender = _Sender({**opening, "options": {**dict(address.options), "flush_packets": "1"}})
    for packet in [*sorted(packets, key=lambda each: each.dts * each.clock), *encoding.finish()]:
        sender.send(packet.to_plain())
    sender.finish()
    encoding.close()


def send_with_sound(address: LiveOutputAddress, sound: Any) -> LiveEncoding:
    """Write 60 pictures, and the sound of a file."""
    source: Any = av.open(sound)
    with source:
        stream = source.streams.audio[0]
        source_info = replace(info(sound=False), copies=(FrozenSound.of(stream),))
        encoding = LiveEncoding(address, source_info, (96, 64), SinkOptions())
        packets = [encoding.encode(picture(number))[0] for number in range(60)]
        for packet in source.demux(stream):
            if packet.dts is not None:
                packets += encoding.sound(stream.index, packet)
    send_all(address, encoding, packets)
    assert encoding.lost == 0
    return encoding


@pytest.mark.parametrize("place", ["a.mkv", "a.ts", "a.mp4", "a.mov", "a.flv", "a.nut", "hls/"])
@pytest.mark.parametrize("encoder", ["aac", "ac3", "eac3", "libmp3lame", "libopus"])
def test_sound_of_transport_streams_gets_into_every_file(tmp_path: Path, encoder: str, place: str) -> None:
    address = LiveOutputAddress.parse(f"{tmp_path}/{place}")
    sound = recorded(encoder, "mpegts")
    send_with_sound(address, io.BytesIO(sound))
    with av.open(str(address.path)) as played:
        assert sum(1 for _ in played.decode(video=0)) == 60
    assert heard_s(str(address.path)) == pytest.approx(heard_s(io.BytesIO(sound)), abs=0.08)


@pytest.mark.parametrize(
    ("codec", "place"),
    [
        ("pcm_alaw", "a.mkv"),
        ("pcm_alaw", "it's [1].mkv"),
        ("adpcm_ms", "a.mkv"),
        ("adpcm_ima_wav", "a.mkv"),
        ("adpcm_ima_wav", "a.mp4"),
        ("wmav2", "a.mkv"),
        ("wmav2", "a.mp4"),
    ],
)
def test_sound_of_cameras_and_old_files_is_copied_into_matroska(tmp_path: Path, codec: str, place: str) -> None:
    """PyAV refused what FFmpeg's muxer takes; without the size of its blocks, ADPCM and WMA could not be decoded."""
    sound = make_sound(tmp_path / "in.avi", codec)
    address = LiveOutputAddress.parse(f"{tmp_path}/{place}")
    encoding = send_with_sound(address, str(sound))
    with av.open(str(address.path)) as played:
        assert sum(1 for _ in played.decode(video=0)) == 60
        copied = played.streams.audio[0].codec_context.name == codec
    assert copied == (encoding.notes == ()) == place.endswith(".mkv")
    assert heard_s(str(address.path)) == pytest.approx(heard_s(str(sound)), abs=0.1)


@pytest.mark.parametrize("place", ["a.mp4", "a.mov", "hls/"])
def test_hevc_has_the_tag_that_players_of_apple_ask_for(tmp_path: Path, place: str) -> None:
    address = LiveOutputAddress.parse(f"{tmp_path}/{place}")
    encoding = LiveEncoding(address, info(sound=False), (96, 64), SinkOptions(codec="libx265"))
    send_all(address, encoding, [encoding.encode(picture(number))[0] for number in range(30)])
    assert address.path is not None
    head = address.path.with_name("init.mp4") if place == "hls/" else address.path
    assert b"hvc1" in head.read_bytes()
    assert b"hev1" not in head.read_bytes()
    with av.open(str(address.path)) as played:
        assert sum(1 for _ in played.decode(video=0)) == 30


class Listener:
    """Waits in a thread for whoever sends by RTMP. source: the connection. error: why there is none."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"rtmp://127.0.0.1:{free.getsockname()[1]}/live/key"
        self.source: LiveInput | None = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            self.source = LiveInput(LiveInputAddress.parse(self.url), (("listen", "1"),), None)
        except Exception as error:  # noqa: BLE001 (the test judges it)
            self.error = error

    def wait(self) -> LiveInput:
        self._thread.join(PATIENCE_S)
        assert self.error is None
        assert self.source is not None
        return self.source


def connected(header: Any) -> tuple[Listener, Outlet]:
    """Both ends of RTMP. Somebody else may take the port before it is listened at: then another one is tried."""
    deadline = time.monotonic() + PATIENCE_S
    listener = Listener()
    while time.monotonic() < deadline:
        if listener.error is not None:
            listener = Listener()
        outlet = Outlet(LiveOutputAddress.parse(listener.url), (), header)
        try:
            while not outlet.is_open:
                outlet.poll(PATIENCE_S)
        except OutputError:  # nobody listens yet
            outlet.close()
        else:
            return listener, outlet
    raise AssertionError(f"nobody listens: {listener.error}")


def test_what_is_sent_by_rtmp_is_read_by_rtmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_input, "_OPEN_S", PATIENCE_S)  # the other end starts meanwhile
    encoding = LiveEncoding(LiveOutputAddress.parse("rtmp://127.0.0.1/live/key"), info(), (96, 64), SinkOptions())
    packets = [encoding.encode(picture(number))[0] for number in range(50)]
    recording: Any = av.open(io.BytesIO(transport(50)))
    with recording:
        for packet in recording.demux(recording.streams.audio[0]):
            packets += encoding.sound(1, packet) if packet.size else []
    encoding.close()
    listener, outlet = connected(encoding.header)
    for each in sorted(packets, key=lambda each: each.dts * each.clock):
        outlet.send(each)
    outlet.finish(PATIENCE_S)
    source, found = listener.wait(), list[Any]()
    with pytest.raises(SourceEndedError):
        found += iter_into(source, found)
    source.close()
    outlet.close()
    times = [packet.pts for lane, packet in found if lane == VIDEO]
    assert times == [40 * number for number in range(50)]
    assert len(found) - len(times) == len(packets) - 50 > 80
