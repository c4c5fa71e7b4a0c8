"""Messages between a run and its driver survive the way."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.media.index import VideoIndex
from swiftvr_trt.runtime.restore.cluster.address import ClusterOptions
from swiftvr_trt.runtime.restore.cluster.messages import (
    Bye,
    Connect,
    Connected,
    FileFrames,
    FileLine,
    FileOrder,
    FileSettled,
    NodeFrames,
    PieceStored,
    Refused,
    Sent,
    decode_sent,
    encode_sent,
)
from swiftvr_trt.runtime.restore.job import Job
from swiftvr_trt.runtime.restore.restorer import OpenOptions
from swiftvr_trt.runtime.restore.segments.grid import Span

INDEX = VideoIndex((0, 40), ((0, 40), (40, 40)), (0,), Fraction(1, 1000), None, (-40,), ((40, 80),))


@pytest.mark.parametrize(
    "sent",
    [
        Connect(ClusterOptions("ray://head:10001", ship=True, device="cuda"), OpenOptions(threads=3), gpu=True),
        Connected(("a", "b"), 5, unused_gpus=2),
        Refused("why", misuse=True),
        FileOrder(
            3,
            Job(Path("in.mp4"), "out.mp4", sink=SinkOptions(extra=(("a", "b"),))),
            "b",
            (Span(0, 2), Span(4, None)),
            9,
        ),
        FileOrder(4, Job(Path("in.mp4"), "out.mp4"), "b", (Span(0, None),), 9, INDEX, "1.24"),
        FileFrames(3, 100),
        PieceStored(3, 7, "gpu-1"),
        NodeFrames({"a": 1}),
        FileLine(None, "line", warning=True),
        FileSettled(3, "why"),
        FileSettled(3, "cannot write out.mp4", full=True),
        FileSettled(3),
        Bye(),
    ],
    ids=lambda sent: type(sent).__name__,
)
def test_a_message_survives(sent: Sent) -> None:
    assert decode_sent(json.loads(json.dumps(encode_sent(sent)))) == sent


@pytest.mark.parametrize("message", [{}, {"hello": {}}, {"frames": {"file": 1}}, {"frames": 3}, {"file": {"job": 1}}])
def test_anything_else_is_refused(message: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected a message about a cluster"):
        decode_sent(message)
