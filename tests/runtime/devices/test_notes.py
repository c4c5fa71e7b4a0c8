"""Lines about a device."""

from __future__ import annotations

import logging
import re
import time

import pytest

from swiftvr_trt.runtime.devices.notes import noted


def test_what_takes_long_is_noted_again_with_its_time(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="swiftvr_trt.notes"):
        with noted("compiling", every=0.01):
            while len(caplog.messages) < 3:
                time.sleep(0.001)
        told = len(caplog.messages)
        with noted("compiling something else"):
            pass
    assert caplog.messages[0] == "compiling"
    assert re.fullmatch(r"compiling, \d+ s", caplog.messages[1])
    assert caplog.messages[told:] == ["compiling something else"]
