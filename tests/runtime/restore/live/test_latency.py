"""What a latency means."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt.errors import MisuseError
from swiftvr_trt.runtime.restore.live.latency import Latency, encoder_tuning, fill_s, usual_preset


@pytest.mark.parametrize(
    ("text", "clip"), [("low", 8), ("LOW", 8), ("normal", 24), ("0.5", 8), ("1", 8), ("1.2s", 12), ("2", 20), ("9", 24)]
)
def test_clip_lengths_at_25_frames_a_second(text: str, clip: int) -> None:
    assert Latency.parse(text).clip_len(Fraction(25)) == clip


@pytest.mark.parametrize("text", ["", "fast", "0", "-1", "61", "0.05", "nan", "1:x"])
def test_what_is_no_latency_is_refused(text: str) -> None:
    with pytest.raises(MisuseError, match=r"expected low, normal, or seconds from 0\.1 to 60"):
        Latency.parse(text)


def test_a_clip_that_takes_longer_than_the_latency_is_refused() -> None:
    with pytest.raises(MisuseError, match=r"24 frames at 25 frames/s take 1\.08 s to arrive: allow more or build"):
        Latency.parse("1").plan(Fraction(25), 24)


@given(
    st.sampled_from(["low", "normal", "0.1", "0.7", "2", "30"]),
    st.fractions(min_value=1, max_value=120, max_denominator=1001),
)
def test_what_a_plan_promises_adds_up(text: str, rate: Fraction) -> None:
    latency = Latency.parse(text)
    clip = latency.clip_len(rate)
    assert clip in range(8, 25, 4)
    try:
        plan = latency.plan(rate, clip)
    except MisuseError:
        assert latency.seconds is not None
        assert fill_s(8, rate) >= latency.seconds
        return
    assert plan.capacity >= 2 * plan.unit
    assert plan.late_s > 0
    if latency.seconds is not None:
        assert plan.fill_s + plan.late_s == pytest.approx(float(latency.seconds))


@pytest.mark.parametrize(
    ("codec", "tune"), [("libx264", "zerolatency"), ("libx265", "zerolatency"), ("h264_nvenc", "ull")]
)
def test_encoders_are_told_to_hand_out_each_picture_at_once(codec: str, tune: str) -> None:
    assert encoder_tuning(codec, Fraction(25))["tune"] == tune


def test_key_frames_come_every_two_seconds() -> None:
    assert [encoder_tuning(name, Fraction(30000, 1001))["g"] for name in ("libx264", "mpeg2video")] == ["60", "60"]


def test_presets_keep_up() -> None:
    assert (usual_preset("libx264"), usual_preset("ffv1")) == ("veryfast", None)
