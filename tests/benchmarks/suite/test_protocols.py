"""Protocols and presets are complete and what docs/benchmarking.md says."""

from __future__ import annotations

import pytest

from swiftvr_trt.benchmarks.suite.protocols import PRESETS, PROTOCOLS, find_protocol
from swiftvr_trt.benchmarks.suite.record import SUITES
from swiftvr_trt.engines.bundle.geometry import Resolution, check_clip_len
from swiftvr_trt.engines.bundle.targets import choose_target
from swiftvr_trt.errors import MisuseError


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_a_protocol_can_be_run(protocol: object) -> None:
    one = find_protocol(protocol.name)  # type: ignore[attr-defined]
    assert str(Resolution(one.width, one.height)) == one.size
    assert check_clip_len(one.clip_len) == one.clip_len
    assert one.frames > one.clip_len + 4
    assert one.warm_up >= 1
    assert one.input_width % 2 == one.input_height % 2 == 0


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_a_preset_names_what_exists(preset: object) -> None:
    one = PRESETS[preset.name]  # type: ignore[attr-defined]
    assert set(one.suites) <= set(SUITES)
    assert set(one.protocols) <= set(PROTOCOLS)
    for precision in one.precisions:
        if precision is not None:
            choose_target(one.target, precision)


def test_the_published_protocols_are_there() -> None:
    assert {PROTOCOLS[f"paper-{name}"].size for name in ("1080p", "1440p", "2160p")} == {
        "1920x1080",
        "2560x1440",
        "3840x2160",
    }
    ports = PROTOCOLS["ports"]
    assert (ports.input_width, ports.input_height, ports.size, ports.frames) == (640, 360, "2560x1440", 361)
    assert ports.requests > 1  # the first one does not count
    assert PROTOCOLS["short-chunks"].clip_len == 8


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(MisuseError, match="the protocol 'fast' is not known, expected one of paper-1080p"):
        find_protocol("fast")
