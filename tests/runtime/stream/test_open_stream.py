"""Streams under way: which chunks are submitted, what is recorded, and what begins anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from swiftvr_trt import Restorer
from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.errors import StageError
from swiftvr_trt.runtime.devices.cpu import CpuDevice
from swiftvr_trt.runtime.stream.buffers import plan_buffers
from swiftvr_trt.runtime.stream.device import Recording
from swiftvr_trt.runtime.stream.frames import RGB, RGB16
from swiftvr_trt.runtime.stream.open_stream import FrameKind, OpenStream
from swiftvr_trt.runtime.stream.program import Step
from swiftvr_trt.runtime.stream.session import Frame
from tests.conftest import BundleFactory

from .streams import LANDSCAPE, clip

KIND = FrameKind(LANDSCAPE, RGB, RGB)
FIRST, MIDDLE = 12, 8
"""Frames of these chunks."""


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle(clip_len=MIDDLE)


@pytest.fixture
def stream(bundle: Bundle) -> Iterator[OpenStream]:
    device = CpuDevice(bundle, threads=1)
    stream = OpenStream(
        bundle.manifest, KIND, device.workspace(plan_buffers(bundle.manifest, *KIND.size)), overlap=False
    )
    yield stream
    stream.workspace.close()
    device.close()


def fed(stream: OpenStream, frames: list[Frame]) -> list[Frame]:
    restored: list[Frame] = []
    for frame in frames:
        stream.put(frame)
        restored += stream.advance(ended=False)
    return restored


def test_frames_come_out_once_their_chunk_is_full(stream: OpenStream) -> None:
    frames = clip(FIRST + MIDDLE)
    assert fed(stream, frames[: FIRST - 1]) + stream.drain() == []
    assert len(fed(stream, frames[FIRST - 1 : FIRST]) + stream.drain()) == FIRST - 3
    assert len(fed(stream, frames[FIRST:]) + stream.drain()) == MIDDLE
    assert stream.count == FIRST + MIDDLE
    assert len(stream.advance(ended=True) + stream.drain()) == 3


def test_a_stream_that_is_restarted_knows_nothing_of_the_frames_before(stream: OpenStream, bundle: Bundle) -> None:
    fed(stream, clip(FIRST + 3, begin=70))
    stream.restart()
    assert stream.count == 0
    frames = clip(FIRST + 1)
    restored = fed(stream, frames) + stream.advance(ended=True) + stream.drain()
    with Restorer.open(bundle, threads=1) as restorer:
        assert np.array_equal(restored, list(restorer.restore(frames)))


def test_later_chunks_record_nothing(stream: OpenStream, monkeypatch: pytest.MonkeyPatch) -> None:
    record, recorded = stream.workspace.record, 0

    def counted(steps: tuple[Step, ...], *, once: bool = False) -> Recording:
        nonlocal recorded
        recorded += 1
        return record(steps, once=once)

    monkeypatch.setattr(stream.workspace, "record", counted)
    counts = []
    for size in (FIRST, MIDDLE, MIDDLE, MIDDLE):
        fed(stream, clip(size))
        counts.append(recorded)
    assert counts == [1, 3, 3, 3]  # both sides of MIDDLE are recorded with its first one


def test_a_stage_that_fails_breaks_the_stream_until_it_is_restarted(
    stream: OpenStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> Recording:
        raise StageError("stage dit failed")

    with monkeypatch.context() as patch:
        patch.setattr(stream.workspace, "record", failing)
        with pytest.raises(StageError):
            fed(stream, clip(FIRST))
    broken = [stream.broken]
    stream.restart()
    assert [*broken, stream.broken] == [True, False]
    assert len(fed(stream, clip(FIRST)) + stream.drain()) == FIRST - 3


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({"size": (33, 57)}, "frame 7 is 57x33, the stream began with 57x34; .* another size"),
        ({"take": RGB16}, "frame 7 is .* 57x34, the stream began with .* 57x34 in other colours.* another kind"),
        ({"takes_surfaces": True}, "frame 7 lies on the GPU, the stream began with frames in memory; .* another kind"),
        ({"takes_surfaces": True, "size": (33, 57)}, "frame 7 is 57x33, .* another size"),
    ],
)
def test_a_refusal_says_what_came_and_what_was_expected(other: dict[str, object], line: str) -> None:
    kind = replace(KIND, size=(34, 57))
    changed = replace(kind, **other)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=line):
        raise ValueError(kind.refusal(7, changed))
