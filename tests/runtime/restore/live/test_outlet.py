"""A connection to a receiver: what is encoded at once, and what is said when it fails."""

from __future__ import annotations

import io
import socket
import time
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MediaError, OutputError
from swiftvr_trt.runtime.media import Picture, SinkOptions, SourceInfo, Stamp
from swiftvr_trt.runtime.media.base import Colour, CopiedStream
from swiftvr_trt.runtime.media.copies import Carriage
from swiftvr_trt.runtime.restore.live.addresses import LiveOutputAddress
from swiftvr_trt.runtime.restore.live.outlet import (
    LiveEncoding,
    Outlet,
    bare_aac,
    check_place,
    is_headed,
    make_place,
    placed_options,
)
from swiftvr_trt.runtime.restore.live.packets import FrozenSound, PlainPacket
from tests.patience import PATIENCE_S

from .lab import CLOCK, STEP, transport


def info(*, sound: bool = True) -> SourceInfo:
    copies: tuple[CopiedStream, ...] = ()
    if sound:
        with av.open(io.BytesIO(transport(10))) as source:
            copies = (FrozenSound.of(source.streams.audio[0]),)
    return SourceInfo(Path("live"), 48, 32, None, Fraction(25), CLOCK, Colour(), None, "", copies=copies)


def picture(number: int) -> Picture:
    return Picture(np.full((64, 96, 3), 2 * number % 250, np.uint8), Stamp(number, number * STEP, STEP, CLOCK))


@pytest.mark.parametrize(
    "text", ["udp://127.0.0.1:9", "rtmp://127.0.0.1/a/b", "rtsp://127.0.0.1/a", "a.mkv", "a.mp4", "hls/"]
)
def test_every_picture_is_a_packet_at_once_and_sound_fits(text: str) -> None:
    encoding = LiveEncoding(LiveOutputAddress.parse(text), info(), (96, 64), SinkOptions())
    packets = [encoding.encode(picture(number)) for number in range(60)]
    assert [len(each) for each in packets] == [1] * 60
    assert [number for number, (packet,) in enumerate(packets) if packet.key] == [0, 50]
    assert encoding.notes == ()  # the sound is copied
    assert encoding.finish() == []
    encoding.close()


@pytest.mark.parametrize(
    "codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9", "libvpx", "mpeg2video", "mpeg4", "mjpeg", "ffv1"]
)
def test_no_encoder_holds_a_picture_back(codec: str) -> None:
    sink = SinkOptions(codec=codec, extra=(("svtav1-params", "enable-overlays=0"),) if "svt" in codec else ())
    encoding = LiveEncoding(LiveOutputAddress.parse("a.mkv"), info(sound=False), (96, 64), sink)
    packets = [encoding.encode(picture(number)) for number in range(20)]
    assert [len(each) for each in packets] == [1] * 20
    assert encoding.finish() == []
    encoding.close()


class Slow:
    """A process that has sent one packet whenever it is asked, and then nothing for a while."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = [{"opened": True}, *answers]

    def send(self, _order: Any) -> None: ...

    def receive(self, _patience_s: float) -> Any:
        if not self.answers:
            raise TimeoutError
        return self.answers.pop(0)

    def end(self, _deadline: float) -> None: ...


def test_a_receiver_is_gone_when_it_takes_nothing_and_not_when_it_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    now, child = [0.0], Slow()
    monkeypatch.setattr("swiftvr_trt.runtime.restore.live.outlet.Child", lambda *_, **__: child)
    outlet = Outlet(LiveOutputAddress.parse("tcp://127.0.0.1:9"), (), {})
    outlet._now = lambda: now[0]
    for _ in range(20):
        outlet.send(PlainPacket(0, b"x", 0, 0, 0, CLOCK))
    for _ in range(15):  # the last of these packets wait for fifteen seconds
        now[0] += 1.0
        child.answers.append({"sent": 1})
        outlet.poll()
    assert outlet.underway == 5
    now[0] += 4.9
    outlet.poll()
    now[0] += 0.2
    with pytest.raises(OutputError, match="has not taken anything for 5 s"):
        outlet.poll()


def test_a_disk_that_takes_its_time_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now, child = [0.0], Slow()
    monkeypatch.setattr("swiftvr_trt.runtime.restore.live.outlet.Child", lambda *_, **__: child)
    outlet = Outlet(LiveOutputAddress.parse("a.mkv"), (), {})
    outlet._now = lambda: now[0]
    outlet.send(PlainPacket(0, b"x", 0, 0, 0, CLOCK))
    outlet.poll()
    now[0] += 3600.0
    outlet.poll()
    assert outlet.underway == 1


def test_a_receiver_that_stops_reading_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        encoding = LiveEncoding(
            LiveOutputAddress.parse("tcp://127.0.0.1:1"), info(sound=False), (96, 64), SinkOptions()
        )
        address = LiveOutputAddress.parse(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        outlet = Outlet(address, (), encoding.header)
        connection, _ = server.accept()
        with connection:  # nobody reads from it
            while not outlet.is_open:
                outlet.poll(PATIENCE_S)
            large = b"\0\0\0\1\x41" + b"U" * (1 << 20)
            for number in range(20):  # more than all buffers on the way hold
                outlet.send(PlainPacket(0, large, number * STEP, number * STEP, STEP, CLOCK))
            with pytest.raises(OutputError, match="has not taken anything for 5 s"):
                poll_every_six_seconds(outlet)
            assert outlet.underway > 0
            outlet.close()
    encoding.close()


def poll_every_six_seconds(outlet: Outlet) -> None:
    """Note what is sent until something was raised or all is sent, on a clock that is six seconds further each time."""
    ahead = [0.0]
    outlet._now = lambda: time.monotonic() + ahead[0]
    while outlet.underway:
        outlet.poll(0.5)
        ahead[0] += 6.0


def test_sound_before_the_beginning_and_out_of_order_is_left_out() -> None:
    encoding = LiveEncoding(LiveOutputAddress.parse("a.mkv"), info(), (96, 64), SinkOptions())
    kept = []
    for pts in (-5, 0, 9, 9, 4, 10):
        packet: Any = av.Packet(b"xyz")
        packet.pts = packet.dts = pts
        packet.time_base = Fraction(1, 1000)
        kept += [each.pts for each in encoding.sound(1, packet)]
        assert encoding.sound(7, packet) == []  # of a stream that is not wanted
    assert kept == [0, 9, 10]
    assert encoding.lost == 2
    encoding.close()


@pytest.mark.parametrize(
    ("data", "bare"),
    [
        (b"\xff\xf1" + bytes(5) + b"sound", b"sound"),
        (b"\xff\xf0" + bytes(7) + b"sound", b"sound"),
        (b"\x21\x10" + b"sound", b"\x21\x10sound"),
        (b"\xff", b"\xff"),
    ],
)
def test_sound_loses_the_header_of_transport_streams(data: bytes, bare: bytes) -> None:
    assert bare_aac(data) == bare


@pytest.mark.parametrize(
    ("text", "options", "muxing", "url"),
    [
        ("udp://h:1", (), {}, "udp://h:1?pkt_size=1316"),
        ("udp://h:1?ttl=2", (("pkt_size", "188"),), {}, "udp://h:1?ttl=2&pkt_size=188"),
        ("srt://h:1", (("latency", "9"), ("mpegts_flags", "x")), {"mpegts_flags": "x"}, "srt://h:1?latency=9"),
        (
            "tcp://h:1",
            (("pes_payload_size", "0"), ("tcp_nodelay", "1")),
            {"pes_payload_size": "0"},
            "tcp://h:1?tcp_nodelay=1",
        ),
        ("rtmp://h/a/b", (("flvflags", "x"),), {"flvflags": "x"}, "rtmp://h/a/b"),
    ],
)
def test_options_go_to_the_muxer_or_into_the_url(
    text: str, options: tuple[tuple[str, str], ...], muxing: dict[str, str], url: str
) -> None:
    assert placed_options(LiveOutputAddress.parse(text), options) == (muxing, url)


@pytest.mark.parametrize(
    ("text", "options", "muxing", "url"),
    [
        ("udp://h:1", (), {}, "udp://h:1?pkt_size=1316"),
        (
            "udp://h:1",
            (("ttl", "2"), ("mpegts_flags", "x"), ("muxrate", "9"), ("pkt_size", "188")),
            {"mpegts_flags": "x", "muxrate": "9"},
            "udp://h:1?ttl=2&pkt_size=188",
        ),
        ("srt://h:1", (("latency", "9"), ("max_delay", "0")), {"max_delay": "0"}, "srt://h:1?latency=9"),
        ("rtmp://h/a/b", (("flvflags", "x"),), {"flvflags": "x"}, "rtmp://h/a/b"),
    ],
)
def test_options_have_their_places_if_ffmpeg_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch, text: str, options: Any, muxing: dict[str, str], url: str
) -> None:
    monkeypatch.setattr("swiftvr_trt.runtime.restore.live.addresses.options_to_write", lambda *_: None)
    address = LiveOutputAddress.parse(text)
    assert placed_options(address, options) == (muxing, url)
    if text.startswith(("udp", "rtmp")):  # which all have
        address.check_options("--out-option", [name for name, _ in options])


def poll_on(outlet: Outlet) -> None:
    """Hear what the process says until it is an error."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        outlet.poll(0.1)


@pytest.mark.parametrize(
    ("text", "options", "kind", "message"),
    [
        ("tcp://127.0.0.1:1", (), OutputError, r"cannot write to tcp://127\.0\.0\.1:1: .*refused.*; check that"),
        ("rtmp://127.0.0.1:1/a/secret-key-9", (), OutputError, r"cannot write to rtmp://127\.0\.0\.1:1/a/\*\*\*: "),
        ("srt://127.0.0.1:1", (), MediaError, "was built without srt; relay it"),
        ("no/such/folder/a.mkv", (), OutputError, "cannot write to no/such/folder/a.mkv: No such file"),
        ("a.mkv", (("no_such_option", "1"),), OutputError, "does not know these options there: 'no_such_option'"),
    ],
)  # fmt: skip
def test_a_receiver_that_cannot_be_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, options: Any, kind: type[Exception], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    encoding = LiveEncoding(LiveOutputAddress.parse(text), info(sound=False), (96, 64), SinkOptions())
    outlet = Outlet(LiveOutputAddress.parse(text), options, encoding.header)
    with pytest.raises(kind, match=message) as caught:
        poll_on(outlet)
    assert "secret-key" not in str(caught.value)
    outlet.close()
    encoding.close()


@pytest.mark.parametrize(
    ("profile", "headed"), [("LC", True), ("HE-AAC", False), ("HE-AACv2", False), ("Main", False), (None, False)]
)
def test_only_aac_of_a_known_profile_is_described_here(profile: str | None, headed: bool) -> None:
    (sound,) = info().copies
    assert isinstance(sound, FrozenSound)
    assert is_headed(sound)
    assert is_headed(replace(sound, profile=profile)) == headed


def test_sound_that_is_damaged_and_has_to_be_converted_is_counted() -> None:
    (sound,) = info().copies
    assert isinstance(sound, FrozenSound)
    source = replace(info(), copies=(replace(sound, profile="HE-AAC"),))
    encoding = LiveEncoding(LiveOutputAddress.parse("hls/"), source, (96, 64), SinkOptions())
    assert "becomes aac: hls needs its description in advance" in encoding.notes[0]
    packet: Any = av.Packet(b"xyz")
    packet.pts, packet.dts, packet.time_base = 0, 0, Fraction(1, 1000)
    assert encoding.sound(1, packet) == []
    assert encoding.lost == 1
    encoding.close()


def test_sound_that_no_output_gets_is_a_note_and_among_what_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    (sound,) = info().copies
    monkeypatch.setattr(
        "swiftvr_trt.runtime.restore.live.outlet.plan_carriage", lambda *_: [Carriage(sound, None, "nobody holds it")]
    )
    encoding = LiveEncoding(LiveOutputAddress.parse("a.mkv"), info(), (96, 64), SinkOptions())
    assert encoding.notes == encoding.lost_streams == ("audio stream 1 (aac) is left out: nobody holds it",)
    assert encoding.sound(1, None) == []
    encoding.close()


@pytest.mark.parametrize(("away_s", "silent"), [(Fraction(1, 2), True), (Fraction(60), False)])
def test_sound_that_is_encoded_anew_is_silent_for_a_second_at_most(away_s: Fraction, silent: bool) -> None:
    """A source that was away for an hour took 47 s and 1.5 GB when it came back."""
    (sound,) = info().copies
    assert isinstance(sound, FrozenSound)
    source = replace(info(), copies=(replace(sound, profile="HE-AAC"),))
    encoding = LiveEncoding(LiveOutputAddress.parse("hls/"), source, (96, 64), SinkOptions())
    moments = []
    for begin in (Fraction(0), 1 + away_s):
        recording: Any = av.open(io.BytesIO(transport(25, first_s=begin)))
        with recording:
            for packet in recording.demux(recording.streams.audio[0]):
                if packet.size:
                    moments += [each.pts * each.clock for each in encoding.sound(1, packet)]
    steps = [float(after - before) for before, after in pairwise(moments)]
    usual = pytest.approx(1024 / 48000, abs=0.001)
    assert [step for step in steps if step != usual] == ([] if silent else [pytest.approx(60, abs=0.1)])
    assert float(moments[-1]) == pytest.approx(2 + away_s, abs=0.1)
    assert encoding.lost == 0
    encoding.close()


def test_places_are_checked_first(tmp_path: Path) -> None:
    (tmp_path / "a.mkv").touch()
    with pytest.raises(MediaError, match="already exists"):
        check_place(tmp_path / "a.mkv", overwrite=False)
    check_place(tmp_path / "a.mkv", overwrite=True)
    for name in ("live.m3u8", "LIVE.M3U8"):
        playlist = tmp_path / f"of-{name}" / name
        check_place(playlist, overwrite=False)
        assert not playlist.parent.exists()  # until there is something to write
        make_place(playlist)
        check_place(playlist, overwrite=False)
        assert playlist.parent.is_dir()
    with pytest.raises(OutputError, match="does not exist; create it first"):
        check_place(tmp_path / "none" / "hls" / "live.m3u8", overwrite=False)
    with pytest.raises(OutputError, match="does not exist; create it first"):
        check_place(tmp_path / "none" / "a.mkv", overwrite=False)
