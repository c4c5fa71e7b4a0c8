"""A live stream in a program with asyncio: frames, cancellation, and back-pressure that can be seen."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt import Bundle
from swiftvr_trt.errors import MachineError, MediaError, MisuseError
from swiftvr_trt.runtime.restore.live.session import LiveSession, RestoredFrame
from tests.patience import PATIENCE_S

from .lab import Feed, transport


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    (tmp_path / "a.ts").write_bytes(transport(20))
    return tmp_path / "a.ts"


def test_all_frames_come_with_their_times(small_bundle: Bundle, clip: Path) -> None:
    async def take() -> tuple[list[RestoredFrame], LiveSession]:
        async with LiveSession(str(clip), bundle=small_bundle, when_late="wait", threads=1) as live:
            return [frame async for frame in live.frames()], live

    frames, live = asyncio.run(take())
    assert [frame.seconds for frame in frames] == pytest.approx([number / 25 for number in range(20)])
    assert all(isinstance(frame.pixels, np.ndarray) and frame.pixels.shape == (132, 100, 3) for frame in frames)
    counts = live.report().counts
    assert (counts.frames_in, counts.frames_out, counts.working) == (20, 20, 0)
    assert live.report().p99 is not None


def test_what_frames_lose_is_said_and_other_streams_are_not_missed(small_bundle: Bundle, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video: Any = container.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 48, 32, "yuva420p"
        subtitles: Any = container.add_mux_stream("subrip")
        for _ in range(3):
            frame = av.VideoFrame(48, 32, "yuva420p")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        packet: Any = av.Packet(b"text")
        packet.stream, packet.pts, packet.dts, packet.time_base = subtitles, 50, 50, Fraction(1, 1000)
        container.mux(packet)
    lines: list[str] = []

    async def take() -> int:
        live = LiveSession(str(tmp_path / "a.mkv"), bundle=small_bundle, when_late="wait", threads=1, say=lines.append)
        async with live:
            return len([frame async for frame in live.frames()])

    assert asyncio.run(take()) == 3
    assert lines == ["a.mkv: not carried over from the input: transparency"]


def test_frames_end_only_once_and_begin_only_within_the_session(small_bundle: Bundle, clip: Path) -> None:
    live = LiveSession(str(clip), bundle=small_bundle, when_late="wait", threads=1)

    async def take() -> list[int]:
        with pytest.raises(MisuseError, match="before the session was entered: use `async with"):
            await anext(live.frames())
        counts = []
        async with live:
            counts.append(len([frame async for frame in live.frames()]))
            counts.append(len([frame async for frame in live.frames()]))
        return [*counts, len([frame async for frame in live.frames()])]

    async def soon() -> list[int]:
        return await asyncio.wait_for(take(), PATIENCE_S)

    assert asyncio.run(soon()) == [20, 0, 0]


def test_a_task_that_is_cancelled_ends_and_leaves_no_thread(small_bundle: Bundle) -> None:
    feed = Feed([transport(100)], 1.0)
    got: list[RestoredFrame] = []

    async def take() -> None:
        async with LiveSession(feed.url, bundle=small_bundle, when_late="wait", threads=1) as live:
            async for frame in live.frames():
                got.append(frame)

    async def cancel() -> None:
        task = asyncio.create_task(take())
        while len(got) < 5 and not task.done():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE_S)

    asyncio.run(cancel())
    feed.close()
    deadline = time.monotonic() + PATIENCE_S
    while ours() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not ours()


def test_whoever_cancels_while_the_bundle_loads_does_not_wait_for_it(small_bundle: Bundle) -> None:
    feed = Feed([transport(100)], 1.0)
    begun, goes_on, closed = threading.Event(), threading.Event(), threading.Event()

    class Slow(AbstractContextManager[None]):
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            closed.set()

    def load() -> Any:
        begun.set()
        assert goes_on.wait(PATIENCE_S)
        return Slow()

    async def enter(live: LiveSession) -> None:
        async with live:
            pass

    async def cancel() -> None:
        live = LiveSession(feed.url, bundle=small_bundle, when_late="wait", threads=1)
        live._open_restorer = load  # type: ignore[assignment]
        task = asyncio.create_task(enter(live))
        while not (begun.is_set() or task.done()):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE_S)
        assert not goes_on.is_set()  # it still loads

    asyncio.run(cancel())
    goes_on.set()
    assert closed.wait(PATIENCE_S)
    feed.close()


def ours() -> set[str]:
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if "restoring" in name or "session" in name}


def test_whoever_is_too_slow_sees_it(small_bundle: Bundle) -> None:
    data, seen = transport(100, noise=60, sound=False), threading.Event()

    def recordings() -> Iterator[bytes]:
        while not seen.is_set():
            yield data

    feed = Feed([recordings()], slowly=True)

    async def take() -> LiveSession:
        async with LiveSession(feed.url, bundle=small_bundle, latency="low", threads=1) as live:
            async for _ in live.frames():  # takes one frame, then none
                deadline = asyncio.get_running_loop().time() + PATIENCE_S
                while not live.report().counts.dropped and asyncio.get_running_loop().time() < deadline:
                    await asyncio.sleep(0.02)
                assert live.report().counts.waiting > 0
                break
            return live

    counts = asyncio.run(take()).report().counts
    seen.set()
    assert counts.dropped > 0
    assert counts.frames_out == 1
    feed.close()


def write_hdr(path: Path) -> None:
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(
            "libx264", rate=25, options={"preset": "ultrafast", "x264-params": "colorprim=bt2020:transfer=smpte2084"}
        )
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        for _ in range(8):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.full((32, 48, 3), 90, np.uint8), "rgb24")))
        container.mux(video.encode(None))


def test_hdr_is_converted_or_restored_as_sdr_if_the_program_asks_for_it(small_bundle: Bundle, tmp_path: Path) -> None:
    write_hdr(tmp_path / "a.ts")
    for options, transfer in (({"tonemap": True}, 1), ({"assume_sdr": True}, 16), ({}, None)):
        live = LiveSession(str(tmp_path / "a.ts"), bundle=small_bundle, **options)  # type: ignore[arg-type]
        try:
            if transfer is None:
                with pytest.raises(MediaError, match=r"is HDR \(PQ\)"):
                    live._engine.open()
            else:
                assert live._engine.open().colour.transfer == transfer
        finally:
            live._engine.close()
    with pytest.raises(MisuseError, match="exclude each other"):
        LiveSession(str(tmp_path / "a.ts"), bundle=small_bundle, tonemap=True, assume_sdr=True)


def test_what_cannot_be_is_said_at_once(small_bundle: Bundle) -> None:
    for name in ("speed", "metrics", "out_options"):
        with pytest.raises(MisuseError, match=rf"does not have: .*'{name}'"):
            LiveSession("udp://:5000", bundle=small_bundle, **{name: 2})  # type: ignore[arg-type]
    for latency in (0.05, float("nan"), "fast", 61):
        with pytest.raises(MisuseError, match=r"expected low, normal, or seconds from 0\.1 to 60"):
            LiveSession("udp://:5000", bundle=small_bundle, latency=latency)
    with pytest.raises(MisuseError, match="expected seconds"):
        LiveSession("udp://:5000", bundle=small_bundle, reconnect="soon")
    with pytest.raises(MisuseError, match=r"in_options for udp://:5000 is 'fifosize', .* did you mean fifo_size"):
        LiveSession("udp://:5000", bundle=small_bundle, in_options={"fifosize": 9})
    with pytest.raises(MisuseError, match="pictures of a live stream keep their time"):
        LiveSession("udp://:5000", bundle=small_bundle, vf="setpts=PTS/2")
    LiveSession("udp://:5000", bundle=small_bundle, vf="crop=iw-16:ih")
    LiveSession("udp://:5000", bundle=small_bundle, latency=1.5, reconnect=30, in_options={"fifo_size": 9})

    async def connect() -> None:
        async with LiveSession("tcp://127.0.0.1:1", bundle=small_bundle):
            pass

    with pytest.raises(MachineError, match="cannot open tcp://127"):
        asyncio.run(connect())
