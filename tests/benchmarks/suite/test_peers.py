"""Figures of others: all of them published, with where and when."""

from __future__ import annotations

import re

from swiftvr_trt.benchmarks.suite.metrics import METRICS
from swiftvr_trt.benchmarks.suite.peers import read_peers
from swiftvr_trt.benchmarks.suite.projection import FITTED, OTHERS
from swiftvr_trt.benchmarks.suite.record import How


def test_each_has_a_source_a_date_and_a_protocol() -> None:
    peers = read_peers()
    assert len(peers) >= 15
    for peer in peers:
        assert peer.url.startswith("https://")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", peer.date)
        assert peer.figure.how is How.PUBLISHED
        assert peer.figure.protocol
        assert peer.hardware
        metric = METRICS[peer.figure.name]
        assert (peer.figure.unit, peer.figure.scope) == (metric.unit, metric.scope)


def test_the_projection_checks_itself_against_the_same_figures() -> None:
    stated = {
        (peer.hardware.split()[0], f"{peer.width}x{peer.height}", peer.figure.value)
        for peer in read_peers()
        if peer.figure.name == "core_fps"
    }
    for one in (FITTED, *OTHERS):
        assert (one.card.split()[0], one.size, one.fps) in stated
