"""Sound between a decoder and an encoder: gaps, and how many samples come at once. `test_reencode` hears the whole."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.runtime.media.sound_filters import ContinuousSound

RATE, SAMPLES = 48000, 1024


def encoder() -> Any:
    context: Any = av.CodecContext.create("aac", "w")
    context.layout, context.format, context.sample_rate = "mono", "fltp", RATE
    context.time_base = Fraction(1, RATE)
    context.open()
    return context


def loud(begin: int, samples: int) -> Any:
    frame = av.AudioFrame.from_ndarray(np.full((1, samples), 0.5, np.float32), "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE, begin, Fraction(1, RATE)
    return frame


@pytest.mark.parametrize(
    ("silence_s", "gap", "begins"),
    [
        (Fraction(1), RATE // 2, 0),
        (Fraction(1), 3600 * RATE, 3600 * RATE),
        (None, 2 * RATE, 0),
    ],
)
def test_a_gap_becomes_silence_up_to_a_length(silence_s: Fraction | None, gap: int, begins: int) -> None:
    sound = ContinuousSound(encoder(), silence_s)
    frames = list(sound.feed(loud(0, 3000)))
    frames += sound.feed(loud(3000 + gap, 3000))
    frames += sound.feed(None)
    assert all(frame.samples == SAMPLES for frame in frames[:-1])
    steps = [after.pts - before.pts for before, after in pairwise(frames)]
    assert len([step for step in steps if step != SAMPLES]) == bool(begins)
    assert sum(np.count_nonzero(frame.to_ndarray()) for frame in frames) == pytest.approx(6000, abs=200)
    assert len(frames) < 120
