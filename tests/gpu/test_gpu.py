"""What a GPU must do. `make gpu-test` runs these tests and writes the results to one file."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from swiftvr_trt import Cancelled, Restorer, Session
from swiftvr_trt.engines.bundle.targets import bundle_target
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.export.network.checkpoint import load_checkpoint
from swiftvr_trt.export.verify import verify_bundle
from swiftvr_trt.runtime.stream.session import Frame

from .conftest import CLIP_LEN, FRAME, Record, Route, psnr
from .machine import MOST_GROWTH_PER_CHUNK, gpu_bytes_taken, growth_per_chunk

pytestmark = [pytest.mark.gpu, pytest.mark.alone]

SAMPLE_FRAMES = 3 * CLIP_LEN + 5
"""Chunks: FIRST, MIDDLE twice, LAST."""

READINGS = 10
"""How often the GPU's memory is read while the chunks run."""


def clip(count: int = SAMPLE_FRAMES, start: int = 0) -> list[Frame]:
    return [synthetic_frame(start + index, *FRAME) for index in range(count)]


@pytest.fixture
def restorer(route: Route) -> Iterator[Restorer]:
    """At its end engines must have been launched as CUDA graphs: the way back gives the same frames."""
    with Restorer.open(route.bundle, device=route.device) as opened:
        device: Any = opened._device
        yield opened
        if bundle_target(route.bundle.manifest.recipe.target).compiled:
            assert device.compute.graphs.launched > 0


def test_frames_are_those_of_the_cpu(route: Route, restorer: Restorer, record_property: Record) -> None:
    with Restorer.open(route.reference, device="cpu") as reference:
        theirs = list(reference.restore(clip()))
    ours = list(restorer.restore(clip()))
    agreement = psnr(ours, theirs)
    record_property("psnr_db", round(agreement, 2))
    record_property("largest_difference", int(np.abs(np.asarray(ours, int) - theirs).max()))
    assert np.std(theirs) > 1  # two black pictures would agree
    assert agreement >= route.least_psnr


def test_every_stage_does_what_the_network_does(route: Route, record_property: Record) -> None:
    """Compared as by `swiftvr-export verify`, so a difference has the name of its stage."""
    checkpoint, digest = load_checkpoint(route.checkpoint), route.bundle.manifest.recipe.checkpoint
    rows = list(verify_bundle(route.bundle, checkpoint, digest, device=route.device, frames=SAMPLE_FRAMES))
    for row in rows:
        record_property(f"{row.subject}, {row.unit}, dB", round(min(row.decibels, 200.0), 1))
    assert all(row.finite for row in rows)
    assert [row for row in rows if not row.passed] == []


def test_the_same_frames_come_out_again(restorer: Restorer) -> None:
    first, second = (list(restorer.restore(clip())) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_captured_chunk_is_the_chunk_run_directly(route: Route, restorer: Restorer) -> None:
    target = route.bundle.manifest.recipe.target
    if target == "cpu":
        pytest.skip("the CPU captures no graphs")
    if target == "cuda":
        expected = list(restorer.restore(clip()))
        with Restorer.open(route.bundle, device=route.device, ort_graphs=True) as capturing:
            for _ in range(2):
                assert np.array_equal(list(capturing.restore(clip())), expected)
        return
    from swiftvr_trt.runtime.devices.cuda import CudaDevice
    from swiftvr_trt.runtime.devices.tensorrt import TensorRTProvider, import_tensorrt

    captured = list(restorer.restore(clip()))
    provider = TensorRTProvider(import_tensorrt(route.bundle.manifest.toolchain.compiler))
    with Restorer(CudaDevice(route.bundle, provider, graphs=False), route.bundle.manifest) as direct:
        assert np.array_equal(captured, list(direct.restore(clip())))


def test_two_streams_do_not_touch_each_other(restorer: Restorer) -> None:
    clips = [clip(), clip(start=500)]
    alone = [list(restorer.restore(frames)) for frames in clips]
    with restorer.session() as one, restorer.session() as other:
        together: list[list[Frame]] = [[], []]
        for frames in zip(*clips, strict=True):
            for session, frame, out in zip((one, other), frames, together, strict=True):
                out += session.feed(frame)
        for session, out in zip((one, other), together, strict=True):
            out += session.flush()
    assert np.array_equal(together, alone)


def test_memory_does_not_grow_with_the_chunks(route: Route, restorer: Restorer, record_property: Record) -> None:
    frames, process = clip(), psutil.Process()
    with restorer.session() as session:

        def feed(chunks: int) -> float:
            began = time.perf_counter()
            for index in range(chunks * CLIP_LEN):
                session.feed(frames[index % len(frames)])
            return time.perf_counter() - began

        feed(20)
        gc.collect()
        taken, host = [gpu_bytes_taken(route.device)], process.memory_info().rss
        seconds, chunks = 0.0, route.chunks // READINGS
        for _ in range(READINGS):
            seconds += feed(chunks)
            taken.append(gpu_bytes_taken(route.device))
        gc.collect()
        host_growth = process.memory_info().rss - host
        session.flush()
    record_property("chunks", chunks * READINGS)
    record_property("frames_per_second", round(chunks * READINGS * CLIP_LEN / seconds, 2))
    record_property("gpu_growth_bytes", taken[-1] - taken[0])
    record_property("gpu_growth_bytes_per_chunk", round(growth_per_chunk(taken, chunks)))
    record_property("host_growth_bytes", host_growth)
    assert growth_per_chunk(taken, chunks) <= MOST_GROWTH_PER_CHUNK, taken
    assert host_growth <= 64 << 20


def test_a_cancelled_stream_ends_within_a_second_and_harms_no_other(restorer: Restorer) -> None:
    before = list(restorer.restore(clip()))
    for delay in (0.0, 0.01, 0.05, 0.2):
        session = restorer.session()
        cancelled_at: list[float] = []

        def cancel(session: object = session, cancelled_at: list[float] = cancelled_at) -> None:
            cancelled_at.append(time.monotonic())
            session.cancel()  # type: ignore[attr-defined]

        timer = threading.Timer(delay, cancel)
        timer.start()
        with session, pytest.raises(Cancelled):
            _feed_forever(session)
        assert time.monotonic() - cancelled_at[0] < 1.0
    assert np.array_equal(before, list(restorer.restore(clip())))


def _feed_forever(session: Session) -> None:
    frames = clip()
    while True:
        for frame in frames:
            session.feed(frame)
