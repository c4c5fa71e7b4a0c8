"""What the output lacks is said once."""

from __future__ import annotations

from typing import Any

import av
import pytest
from av.stream import Disposition

from swiftvr_trt.runtime.restore.live.losses import FrameLosses, LeftOut, StreamLosses, left_out


class Stream:
    """A stream of an input."""

    def __init__(self, index: int, kind: str | None, codec: str | None, marks: int = 0) -> None:
        self.index, self.type, self.disposition, self.name = index, kind, Disposition(marks), None
        self.codec_context: Any = None if codec is None else type("Context", (), {"name": codec})


def test_streams_that_no_output_gets_are_counted_by_kind() -> None:
    streams = [
        Stream(0, "video", "h264"),
        Stream(1, "audio", "aac"),
        Stream(2, "subtitle", "dvbsub"),
        Stream(3, "subtitle", "dvbsub"),
        Stream(4, "data", None),
        Stream(5, "video", "hevc"),
        Stream(6, "video", "mjpeg", int(Disposition.attached_pic)),
        Stream(7, None, None),
    ]
    found = list(left_out(streams, {0, 1}))
    assert [each.kind for each in found] == ["subtitle", "data", "video", "cover", "unknown"]
    assert [each.line.partition(":")[0] for each in found] == [
        "2 subtitle streams (dvbsub) are left out",
        "1 data stream (unknown codec) is left out",
        "1 further video stream (hevc) is left out",
        "1 cover picture (mjpeg) is left out",
        "1 unknown stream (unknown codec) is left out",
    ]


def test_lines_about_streams_are_said_once_if_they_were_wanted() -> None:
    lines: list[str] = []
    losses = StreamLosses(lambda kind: kind != "subtitle", lines.append)
    for _ in range(2):
        losses.add([LeftOut("audio", "a"), LeftOut("subtitle", "s"), LeftOut("data", "d")])
    assert lines == ["a", "d"] == list(losses.lines)
    losses.add(LeftOut("audio", str(number)) for number in range(1000))
    assert len(losses.lines) < 30


def opaque(alpha: int = 255) -> Any:
    frame = av.VideoFrame(16, 16, "rgba")
    frame.planes[0].update(bytes((9, 9, 9, alpha)) * (frame.planes[0].buffer_size // 4))
    return frame


def said(losses: FrameLosses, frame: Any, attached: dict[str, bytes], notes: tuple[str, ...] = ()) -> str:
    return "".join(losses.lines(frame, attached, notes))


def test_what_is_attached_to_frames_is_said_once() -> None:
    losses, plain = FrameLosses(), av.VideoFrame(16, 16, "yuv420p")
    assert said(losses, plain, {"A53_CC": b"1", "DISPLAYMATRIX": b"1"}) == ""
    assert said(losses, plain, {"AFD": b"1"}) == "not carried over from the input: the active picture area (AFD)"
    assert said(losses, plain, {"AFD": b"1"}) == ""
    lights = {"AFD": b"1", "CONTENT_LIGHT_LEVEL": b"1"}
    assert said(losses, plain, lights, ("its content light levels are left out",)) == ""
    assert said(losses, plain, lights) == "not carried over from the input: HDR metadata"


@pytest.mark.parametrize("begins", [0, 3, 30])
def test_transparency_is_said_once_and_soon(begins: int) -> None:
    losses, video = FrameLosses(), type("Video", (), {"metadata": {}})
    stream: Any = video
    losses.begin(opaque(), stream)
    lines = [said(losses, opaque(255 if number < begins else 7), {}) for number in range(60)]
    assert [line for line in lines if line] == ["not carried over from the input: transparency"]
    assert begins <= lines.index("not carried over from the input: transparency") < begins + 25


def test_transparency_that_the_decoder_leaves_out_is_said() -> None:
    losses, stream = FrameLosses(), type("Video", (), {"metadata": {"alpha_mode": "1"}})
    video: Any = stream
    plain = av.VideoFrame(16, 16, "yuv420p")
    losses.begin(plain, video)
    assert said(losses, plain, {}) == "not carried over from the input: transparency"
