"""The options of a live run are checked once."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from swiftvr_trt.errors import MisuseError
from swiftvr_trt.redaction import redacted
from swiftvr_trt.runtime.restore.live.options import LiveOptions, parse_pairs, patience_with, seconds_or_none


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"latency": "soon"}, "--latency is 'soon'"),
        ({"when_late": "panic"}, "--when-late is 'panic', expected one of drop, wait, bypass"),
        ({"on_gap": "black"}, "--on-gap is 'black', expected one of hold, skip"),
        ({"reconnect": Fraction(-1)}, "--reconnect is -1"),
        ({"metrics": 70000}, "--metrics is 70000"),
    ],
)
def test_values_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(MisuseError, match=message):
        LiveOptions(**given)


def test_options_of_protocols_are_pairs_and_their_secrets_are_kept() -> None:
    pairs = parse_pairs("--in-option", ["passphrase=open=sesame!", "rtsp_transport=udp", "empty="])
    assert pairs == (("passphrase", "open=sesame!"), ("rtsp_transport", "udp"), ("empty", ""))
    LiveOptions(in_options=pairs)
    assert redacted("libsrt: wrong key open=sesame! via udp") == "libsrt: wrong key *** via udp"


@pytest.mark.parametrize("text", ["", "=x", "name"])
def test_an_option_without_a_value_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(MisuseError, match="expected KEY=VALUE"):
        parse_pairs("--in-option", [text])


def test_seconds_to_reconnect() -> None:
    assert [seconds_or_none(given) for given in (None, 0, "1:30", 2.5)] == [None, 0, 90, Fraction(5, 2)]
    with pytest.raises(MisuseError, match="expected seconds or a time"):
        seconds_or_none("soon")


@pytest.mark.parametrize(("rate", "patience_s"), [(Fraction(25), 1.0), (Fraction(1), 4.0), (Fraction(1, 10), 40.0)])
def test_a_source_of_few_frames_is_waited_for(rate: Fraction, patience_s: float) -> None:
    assert patience_with(rate, 1.0) == patience_s
