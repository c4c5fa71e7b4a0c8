"""Metrics over HTTP, as Prometheus reads them."""

from __future__ import annotations

import socket
import sys
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from swiftvr_trt.errors import MachineError, MissingPackageError
from swiftvr_trt.runtime.restore.live.counts import LiveStatistics
from swiftvr_trt.runtime.restore.live.metrics import ADDRESS, serve_metrics


def read(port: int | None, path: str) -> str:
    with urlopen(f"http://{ADDRESS}:{port}{path}", timeout=30) as answer:
        return str(answer.read().decode())


def test_the_counts_are_served_on_loopback_while_the_run_lasts() -> None:
    statistics = LiveStatistics()
    statistics.add(frames_in=9, frames_out=7, gap_s=1.5)
    statistics.set(waiting=2, behind_s=1.25)
    for seconds in (0.05, 0.4, 40.0):
        statistics.add_delay(seconds)
    with serve_metrics(0, statistics) as port:
        lines = read(port, "/metrics").splitlines()
        assert read(port, "/health") == "ok\n"
        with pytest.raises(HTTPError, match="404"):
            read(port, "/")
        with (
            pytest.raises(MachineError, match=f"--metrics is {port}: Address already in use"),
            serve_metrics(port, statistics),
        ):
            pass
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values["swiftvr_live_frames_in_total"] == "9.0"
    assert values["swiftvr_live_gap_seconds_total"] == "1.5"
    assert values["swiftvr_live_waiting"] == "2.0"
    assert values["swiftvr_live_behind_seconds"] == "1.25"
    assert values['swiftvr_live_delay_seconds_bucket{le="0.5"}'] == "2.0"
    assert values["swiftvr_live_delay_seconds_count"] == "3.0"
    with serve_metrics(None, statistics) as none:
        assert none is None


def test_a_run_is_well_while_frames_leave_however_seldom_it_is_asked() -> None:
    now = [100.0]
    statistics = LiveStatistics(lambda: now[0])
    answers = []
    with serve_metrics(0, statistics) as port:
        for moment, leaves in ((109, False), (3700, False), (3701, True), (3710, False), (3712, False)):
            now[0] = moment
            if leaves:
                statistics.leave()
            try:
                answers.append(read(port, "/health") == "ok\n")
            except HTTPError as error:
                answers.append(error.code != 503)
    assert answers == [True, False, True, True, False]
    statistics.patience_s = 54.0  # a source of one frame a second
    with serve_metrics(0, statistics) as port:
        assert read(port, "/health") == "ok\n"


def test_a_client_that_says_nothing_keeps_nobody_waiting() -> None:
    with serve_metrics(0, LiveStatistics()) as port, socket.create_connection((ADDRESS, port or 0)) as idle:
        assert read(port, "/health") == "ok\n"
        assert "swiftvr_live_frames_in_total" in read(port, "/metrics")
        idle.sendall(b"GET /met")
        assert read(port, "/health") == "ok\n"
    # The server has ended, too, although the client had not.


def test_without_the_package_the_command_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with (
        pytest.raises(MissingPackageError, match="--metrics needs the package 'prometheus-client'"),
        serve_metrics(0, LiveStatistics()),
    ):
        pass
