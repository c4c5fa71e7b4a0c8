"""Orders and answers survive the way to another process; anything else is refused."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.restore.job import Job
from swiftvr_trt.runtime.restore.messages import (
    Answer,
    JobProgress,
    Line,
    LogLine,
    Order,
    decode_answer,
    encode_answer,
)
from swiftvr_trt.runtime.restore.restorer import OpenOptions
from swiftvr_trt.runtime.restore.verdict import Outcome, Verdict


@pytest.mark.parametrize("options", [OpenOptions(), OpenOptions(threads=3, ort_graphs=True)])
def test_an_order_survives_the_way_to_another_process(options: OpenOptions) -> None:
    sink = SinkOptions(crf=20, extra=(("tune", "film"),))
    order = Order(Job(Path("a b.mp4"), "out/", Fraction(24000, 1001), sink, "auto", "cuda:1"), "bundle", options)
    assert Order.from_message(json.loads(json.dumps(order.to_message()))) == order


@pytest.mark.parametrize(
    "answer",
    [
        Line("input:  ü"),
        Line("transparency is dropped", warning=True),
        Outcome(Verdict.DONE, "output: a.mp4", 30, 1.5),
        Outcome(Verdict.DONE, "output: b.mp4", 30, 1.5, kept=20),
        Outcome(Verdict.DONE, "output: a.gif", 30, 1.5, ("audio stream 1 (mp3) is left out: why",)),
        Outcome(Verdict.FAILED, "cannot write a.mp4", full=True),
        LogLine("swiftvr_trt.runtime", 20, "loading"),
        JobProgress(3, 10, 1.5),
        JobProgress(0, None, None),
        *(Outcome(verdict, "why") for verdict in Verdict),
    ],
    ids=str,
)
def test_an_answer_survives_the_way_back(answer: Answer) -> None:
    assert decode_answer(json.loads(json.dumps(encode_answer(answer)))) == answer


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"hello": 1},
        {"progress": 3},
        {"progress": {"done": 1}},
        {"line": {"words": "x"}},
        {"line": {"text": "x"}, "outcome": {"verdict": "DONE", "text": "x"}},
        {"outcome": {"verdict": "SPLENDID", "text": "x"}},
        {"outcome": "DONE"},
        {"outcome": {"verdict": "DONE", "text": "x", "more": 1}},
    ],
    ids=str,
)
def test_anything_else_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a line, progress or an outcome"):
        decode_answer(message)
