"""The options of FFmpeg's formats and protocols."""

from __future__ import annotations

import pytest

from swiftvr_trt.runtime.media import format_options
from swiftvr_trt.runtime.media.format_options import has_protocol, options_to_read, options_to_write


def test_options_are_those_of_the_formats_and_protocols_that_are_named() -> None:
    hls, rtsp = options_to_read(["hls"], ["http"]), options_to_read(["rtsp"], ["tcp"])
    assert hls is not None
    assert rtsp is not None
    assert {"probesize", "live_start_index", "user_agent"} <= hls
    assert {"probesize", "rtsp_transport", "tcp_nodelay"} <= rtsp
    assert not {"rtsp_transport", "live_start_index"} & (hls & rtsp)


def test_a_muxer_has_options_of_its_own() -> None:
    written = options_to_write("mpegts", ["udp"])
    assert written is not None
    assert {"mpegts_flags", "muxrate", "fifo_size"} <= written
    assert not {"scan_all_pmts", "initial_discontinuity"} & written  # a demuxer's, and a value of mpegts_flags


def test_what_does_not_exist_has_no_options() -> None:
    assert options_to_read(["nothing"], ["nowhere"]) == (options_to_read([], []) or frozenset()) | {"rw_timeout"}
    assert (has_protocol("udp"), has_protocol("nowhere")) == (True, False)


def test_an_ffmpeg_that_cannot_be_asked_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format_options, "_libraries", tuple)
    assert options_to_read(["hls"], ["http"]) is None
    assert has_protocol("nowhere")
