"""What URLs stand for, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftvr_trt.errors import MediaError, MisuseError
from swiftvr_trt.runtime.media.format_options import has_protocol
from swiftvr_trt.runtime.restore.live.addresses import (
    LiveInputAddress,
    LiveOutputAddress,
    is_live_address,
    is_url,
    no_protocol,
)


@pytest.mark.parametrize(
    ("url", "demuxer", "bursts"),
    [
        ("rtsp://host/path", None, False),
        ("rtmp://host/app/key", None, False),
        ("srt://host:9000?mode=caller", "mpegts", False),
        ("udp://239.0.0.1:5000", "mpegts", False),
        ("udp://@:5000", "mpegts", False),
        ("tcp://127.0.0.1:5000", "mpegts", False),
        ("https://host/live.m3u8", None, True),
    ],
)
def test_inputs(url: str, demuxer: str | None, bursts: bool) -> None:
    address = LiveInputAddress.parse(url)
    assert (address.url, address.demuxer, address.bursts, address.is_played) == (url, demuxer, bursts, False)
    assert "file" not in address.protocols.split(",")
    assert "concat" not in address.demuxers.split(",")


@pytest.mark.parametrize(
    ("url", "option", "listens"),
    [
        ("tcp://:5000?listen=1", None, True),
        ("tcp://:5000?listen", None, True),
        ("tcp://:5000?tcp_nodelay=1&listen=2", None, True),
        ("tcp://host:5000?listen=0", None, False),
        ("tcp://host:5000", None, False),
        ("tcp://:5000", ("listen", "1"), True),
        ("srt://:9000?mode=listener", None, True),
        ("srt://host:9000?mode=caller", None, False),
        ("rtmp://:1935/live", ("rtmp_listen", "1"), True),
        ("rtsp://:8554/live", ("rtsp_flags", "prefer_tcp+listen"), True),
        ("rtsp://host/live", ("rtsp_flags", "prefer_tcp"), False),
        ("udp://:5000", None, False),
    ],
)
def test_whom_senders_connect_to(url: str, option: tuple[str, str] | None, listens: bool) -> None:
    assert LiveInputAddress.parse(url).listens([option] if option else ()) == listens


@pytest.mark.parametrize(
    ("text", "muxer", "is_network"),
    [
        ("rtmp://host/app/key", "flv", True),
        ("rtsp://host/path", "rtsp", True),
        ("srt://host:9000", "mpegts", True),
        ("udp://127.0.0.1:5000", "mpegts", True),
        ("out.mkv", "matroska", False),
        ("out.MP4", "mp4", False),
        ("folder/", "hls", False),
        ("folder", "hls", False),
        ("folder/live.m3u8", "hls", False),
    ],
)
def test_outputs(text: str, muxer: str, is_network: bool) -> None:
    address = LiveOutputAddress.parse(text)
    assert (address.muxer, address.is_network) == (muxer, is_network)


def test_an_mp4_is_written_in_fragments_and_hls_as_fragmented_mp4() -> None:
    assert "empty_moov" in dict(LiveOutputAddress.parse("out.mp4").options)["movflags"]
    assert dict(LiveOutputAddress.parse("folder/").options)["hls_segment_type"] == "fmp4"
    assert LiveOutputAddress.parse("folder/").path == Path("folder/live.m3u8")


@pytest.mark.parametrize("name", ["2026-11-29T16:24.mkv", "16:24/", "udp:out.ts"])
def test_a_file_with_a_colon_is_no_protocol(name: str) -> None:
    address = LiveOutputAddress.parse(name)
    assert Path(address.url).is_absolute()
    assert address.name == str(address.path)


@pytest.mark.parametrize("url", ["gopher://host", "file:///etc/passwd", "concat://a", "rtps://host/x", "rtsp://"])
def test_a_wrong_scheme_is_one_line_with_those_that_are_known(url: str) -> None:
    for parse in (LiveInputAddress.parse, LiveOutputAddress.parse):
        with pytest.raises(MisuseError, match=r"expected one of rtsp://, .*udp://") as caught:
            parse(url)
        assert "\n" not in str(caught.value)


def test_what_cannot_be_sent_to_is_refused_with_what_can() -> None:
    with pytest.raises(MisuseError, match=r"nothing can be sent to https://, expected rtsp://"):
        LiveOutputAddress.parse("https://host/live.m3u8")
    with pytest.raises(MisuseError, match=r"stays playable after a kill: \.mkv, \.ts"):
        LiveOutputAddress.parse("out.avi")


def test_a_file_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="neither a URL nor a file"):
        LiveInputAddress.parse(str(tmp_path / "none.mkv"))
    (tmp_path / "a.mkv").write_bytes(b"x")
    assert LiveInputAddress.parse(str(tmp_path / "a.mkv")).is_played


def test_names_for_people_hold_no_secrets() -> None:
    url = "rtmp://me:letmein@host/live/streamkey1"
    assert LiveInputAddress.parse(url).name == LiveOutputAddress.parse(url).name == "rtmp://***@host/live/***"


@pytest.mark.parametrize(
    ("text", "url", "live"),
    [("a.mp4", False, False), ("C:\\a.mp4", False, False), ("rtsp://h", True, True), ("v4l2:/dev/video0", False, True)],
)
def test_what_only_a_live_run_opens(text: str, url: bool, live: bool) -> None:
    assert (is_url(text), is_live_address(text)) == (url, live)


@pytest.mark.parametrize(
    ("kind", "address", "known", "unknown", "remedy"),
    [
        ("in", "rtsp://me:hunter2@host/a", "rtsp_transport", "rtsp_trasport", "did you mean rtsp_transport"),
        ("in", "udp://:5000", "fifo_size", "rtsp_transport", "leave it out"),
        ("in", "https://host/a.m3u8", "live_start_index", "live_start_idx", "did you mean live_start_index"),
        ("in", "https://host/a.m3u8", "user_agent", "passphrase", "leave it out"),
        ("in", "rtmp://host/app/key", "rtmp_buffer", "direct", "leave it out"),  # a value, not an option
        ("out", "udp://host:5000", "pkt_size", "pkt_sizes", "did you mean pkt_size"),
        ("out", "folder/", "hls_time", "hls_tim", "did you mean hls_time"),
        ("out", "a.mp4", "movflags", "rtmp_live", "leave it out"),
        # what the query of a URL does not reach:
        ("out", "rtp://host:5000", "ttl", "bitrate", "leave it out"),
        ("out", "rtp://host:5000", "rtcp_port", "fifo_size", "did you mean buffer_size"),
        ("out", "rtp://host:5000", "pkt_size", "overrun_nonfatal", "leave it out"),
        ("out", "tls://host:5000", "tcp_nodelay", "fifo_size", "leave it out"),
        # what RTSP's connections do not get:
        ("out", "rtsp://host/a", "rtsp_transport", "tcp_nodelay", "leave it out"),
        ("out", "rtsps://host/a", "rtsp_flags", "tcp_mss", "leave it out"),
    ],
)
def test_options_that_ffmpeg_would_ignore_are_refused(
    kind: str, address: str, known: str, unknown: str, remedy: str
) -> None:
    parsed = (LiveInputAddress if kind == "in" else LiveOutputAddress).parse(address)
    parsed.check_options("--option", [known])
    with pytest.raises(MisuseError, match=f"is '{unknown}', an option that FFmpeg does not have there: {remedy}") as no:
        parsed.check_options("--option", [known, unknown])
    assert str(no.value).startswith(f"--option for {parsed.name} is")
    assert "hunter2" not in str(no.value)


@pytest.mark.parametrize(
    ("address", "option", "remedy"),
    [
        ("rtmp://h/a/b", "rtmp_live", 'leave it out, or relay.* -f flv -rtmp_live VALUE "rtmp://..."$'),
        ("rtmps://h/a/b", "tls_verify", 'leave it out, or relay.* -tls_verify VALUE "rtmps://..."$'),
        ("a.mkv", "truncate", "leave it out$"),
        ("folder/", "blocksize", "leave it out$"),
    ],
)
def test_options_of_a_protocol_that_does_not_get_them_are_refused(address: str, option: str, remedy: str) -> None:
    """They were refused only by the process that sends, once it had begun to connect."""
    with pytest.raises(MisuseError, match=f"is '{option}', an option of the protocol, and PyAV .*{remedy}"):
        LiveOutputAddress.parse(address).check_options("--out-option", [option])


def test_a_device_that_this_ffmpeg_cannot_read_is_refused_with_a_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av.format.formats_available", frozenset({"mpegts"}))
    with pytest.raises(MisuseError, match=r"does not read v4l2 devices.*ffmpeg -f v4l2"):
        LiveInputAddress.parse("v4l2:/dev/video0")


@pytest.mark.parametrize(("verb", "relay"), [("read", '-i "srt://..."'), ("write", 'mpegts "srt://..."')])
def test_a_protocol_that_is_missing_comes_with_a_way_around(verb: str, relay: str) -> None:
    assert relay in no_protocol("srt://host:9", verb)


@pytest.mark.parametrize("names", [[], ["latency"], ["nonsense"]])
def test_a_protocol_that_is_missing_is_told_before_its_options(names: list[str]) -> None:
    if has_protocol("srt"):
        pytest.skip("this FFmpeg has SRT")
    for kind in (LiveInputAddress, LiveOutputAddress):
        with pytest.raises(MediaError, match=r"srt://host:9: .* was built without srt; relay it"):
            kind.parse("srt://host:9").check_options("--option", names)


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("rtsp://h/a", "rtsp_transport rtsp_flags timeout buffer_size reorder_queue_size user_agent localaddr ttl"),
        ("rtsps://h/a", "tls_verify ca_file cert_file key_file max_delay probesize analyzeduration fflags"),
        ("rtmp://h/a/b", "rw_timeout rtmp_live rtmp_buffer rtmp_playpath rtmp_tcurl listen tcp_nodelay"),
        ("rtmps://h/a/b", "rw_timeout tls_verify ca_file protocol_blacklist"),
        ("udp://h:5", "rw_timeout fifo_size buffer_size localaddr sources pkt_size reuse resync_size scan_all_pmts"),
        ("rtp://h:5", "rtcp_port local_rtpport buffer_size localaddr sources ttl reorder_queue_size max_delay"),
        ("tcp://h:5", "rw_timeout listen listen_timeout timeout recv_buffer_size tcp_nodelay tcp_mss"),
        ("tls://h:5", "rw_timeout ca_file tls_verify cert_file key_file listen verifyhost"),
        (
            "https://h/a",
            "rw_timeout user_agent headers cookies referer http_proxy reconnect reconnect_delay_max timeout",
        ),
        ("https://h/b", "http_persistent http_multiple http_seekable max_reload allowed_extensions extension_picky"),
        ("https://h/c", "seg_format_options seg_max_retry live_start_index tls_verify auth_type ignore_editlist"),
    ],
)
def test_options_in_the_manual_of_ffmpeg_are_taken(address: str, names: str) -> None:
    LiveInputAddress.parse(address).check_options("--in-option", names.split())


def test_rtsp_connects_itself_and_would_ignore_the_patience_of_a_protocol() -> None:
    for address in ("rtsp://h/a", "rtp://h:5"):
        with pytest.raises(MisuseError, match=r"'rw_timeout'.* did you mean timeout"):
            LiveInputAddress.parse(address).check_options("--in-option", ["rw_timeout"])
