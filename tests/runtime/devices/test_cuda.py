"""The CUDA device on an emulated driver: its frames equal those of the CPU, whatever the delays on its streams.

The driver reports accesses that the program does not order, use of freed memory, writes past the end and leaks.
TensorRT is `fake_trt`, whose stages run in ONNX Runtime.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swiftvr_trt import BundleError, Cancelled, MachineError, MisuseError, Restorer, Session
from swiftvr_trt.runtime.devices import cuda, tensorrt
from swiftvr_trt.runtime.devices.cuda import CudaDevice
from swiftvr_trt.runtime.devices.tensorrt import TensorRTProvider
from swiftvr_trt.runtime.stream.buffers import plan_buffers
from swiftvr_trt.runtime.stream.cuts import chunk_of
from swiftvr_trt.runtime.stream.plan import plan_stream
from swiftvr_trt.runtime.stream.session import Frame
from tests.conftest import BundleFactory
from tests.cuda_emulator import emulated
from tests.patience import PATIENCE_S
from tests.runtime.clips import CLIPS, clip
from tests.sweeps import every, everything

from .cuda_lab import NO_CACHE, Lab, feed, through
from .fake_trt import FakeTensorRT, write_engine_bundle

pytestmark = pytest.mark.cuda_emulator
SCHEDULES = 200 if everything() else 40
"""Each is random and has a number: the same ones in every run."""


@pytest.mark.parametrize("rtx", [True, False], ids=["TensorRT-RTX", "TensorRT"])
@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "direct"])
@pytest.mark.parametrize("name", CLIPS)
def test_frames_equal_those_of_the_cpu(lab: Lab, name: str, graphs: bool, rtx: bool) -> None:
    with emulated() as emulator, lab.opened(emulator, FakeTensorRT(emulator, rtx=rtx), graphs=graphs) as restorer:
        assert lab.same(name, list(restorer.restore(clip(name))))


def test_any_schedule_gives_the_same_frames(lab: Lab) -> None:
    for seed in range(SCHEDULES):
        with emulated(seed) as emulator, lab.opened(emulator) as restorer:
            assert lab.same("long", list(restorer.restore(clip("long")))), f"seed {seed}"


def test_any_schedule_gives_the_same_frames_without_graphs(lab: Lab) -> None:
    for seed in range(SCHEDULES // 5):
        with emulated(seed) as emulator, lab.opened(emulator, graphs=False) as restorer:
            assert lab.same("long", list(restorer.restore(clip("long")))), f"seed {seed}"


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "direct"])
@pytest.mark.parametrize("seed", range(5))
def test_interleaved_sessions_do_not_affect_each_other(lab: Lab, seed: int, graphs: bool) -> None:
    with (
        emulated(seed) as emulator,
        lab.opened(emulator, graphs=graphs) as restorer,
        restorer.session() as a,
        restorer.session() as b,
    ):
        got: tuple[list[Frame], list[Frame]] = ([], [])
        for one, other in itertools.zip_longest(clip("long"), clip("even")):
            got[0].extend(a.feed(one))
            got[1].extend(b.feed(other) if other is not None else [])
        assert lab.same("long", got[0] + a.flush())
        assert lab.same("even", got[1] + b.flush())


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "direct"])
def test_sessions_in_two_threads_do_not_affect_each_other(lab: Lab, graphs: bool) -> None:
    """Captures, launches and warm-ups of one run at the same time as those of the other."""
    for seed in range(5):
        with emulated(seed) as emulator, lab.opened(emulator, graphs=graphs) as restorer:
            right: dict[str, bool] = {}

            def run(name: str, restorer: Restorer = restorer, right: dict[str, bool] = right) -> None:
                right[name] = lab.same(name, list(restorer.restore(clip(name))))

            threads = [threading.Thread(target=run, args=(name,)) for name in ("long", "even")]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert right == {"long": True, "even": True}


def test_flush_and_reset_start_a_new_stream(lab: Lab) -> None:
    for seed in range(5):
        with emulated(seed) as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
            for _ in range(2):
                assert lab.same("edges", through(session, "edges"))
                for frame in clip("long")[:19]:
                    session.feed(frame)
                session.reset()  # with chunks in progress
            assert lab.same("even", through(session, "even"))  # another size, so other buffers
            assert lab.same("long", through(session, "long"))


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "direct"])
def test_a_stream_continues_at_every_cut(lab: Lab, graphs: bool) -> None:
    """To the byte, in one session after another cut was continued there, whatever the schedule. Every third cut."""
    frames = (clip("long") * 5)[:87]
    with emulated(1) as emulator, lab.opened(emulator, graphs=graphs) as restorer, restorer.session() as session:
        whole = list(restorer.restore(frames))
        cuts = [restorer.cut(chunk) for chunk in range(chunk_of(restorer.manifest, len(frames)) + 1)]
        assert cuts[-1].lead > 0  # frames are left out
        for cut in every(3, cuts):
            session.begin_at(cut, frames[cut.lead : cut.frame])
            restored = feed(session, frames[cut.frame :])
            assert len(restored) == len(frames) - cut.emitted
            assert np.array_equal(restored, whole[cut.emitted :])


def test_a_stream_of_the_published_protocol_with_longer_clips_continues(
    tmp_path: Path, lab: Lab, mini_bundle: BundleFactory
) -> None:
    """With two latents in a chunk, a cut lies inside what is restored again, and no frames are repeated at the end."""
    engines = write_engine_bundle(tmp_path / "engines", mini_bundle(clip_len=8, parity=True))
    frames = (clip("long") * 3)[:63]
    with emulated(2) as emulator, replace(lab, engines=engines).opened(emulator) as restorer:
        whole = list(restorer.restore(frames))
        with restorer.session() as session:
            for cut in (restorer.cut(chunk) for chunk in (1, 6)):
                session.begin_at(cut, frames[cut.lead : cut.frame])
                assert np.array_equal(feed(session, frames[cut.frame :]), whole[cut.emitted :])


def test_cancelling_at_any_stage_ends_that_stream_only(lab: Lab) -> None:
    """The stages of a FIRST chunk, of MIDDLE chunks and of a LAST one: every third, all in a campaign."""
    runs: list[str] = []
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library) as restorer, restorer.session() as session:
            session.feed(clip("long")[0])  # allocates and warms up
            library.running = runs.append
            feed(session, clip("long")[1:] + clip("long"))
    for stage in every(3, range(1, len(runs) + 1)):
        with emulated(stage) as emulator:
            library = FakeTensorRT(emulator)
            with lab.opened(emulator, library) as restorer, restorer.session() as other:
                began = [other.feed(frame) for frame in clip("edges")[:5]]
                assert not any(began)
                session, count = restorer.session(), itertools.count(1)
                session.feed(clip("long")[0])  # allocates and warms up

                def cancel_at(_name: str, count: Any = count, session: Session = session, stage: int = stage) -> None:
                    if next(count) == stage:
                        session.cancel()

                library.running = cancel_at
                with pytest.raises(Cancelled):
                    feed(session, clip("long")[1:] + clip("long"))
                for call in (session.flush, lambda session=session: session.feed(clip("long")[0])):
                    with pytest.raises(Cancelled):
                        call()
                session.close()
                assert lab.same("edges", [f for frame in clip("edges")[5:] for f in other.feed(frame)] + other.flush())


@pytest.mark.parametrize("whole_device", [False, True], ids=["session", "device"])
def test_closing_in_another_thread_waits_for_the_thread_that_uses_it(lab: Lab, whole_device: bool) -> None:
    """A thread that opens, records, submits or waits keeps what it uses: closing waits for it."""
    for seed in range(12):
        with emulated(seed, delay_us=300) as emulator:
            library = FakeTensorRT(emulator)
            with lab.opened(emulator, library) as restorer:
                session, ended = restorer.session(), threading.Event()

                def run(session: Session = session, ended: threading.Event = ended) -> None:
                    with suppress(Cancelled, MisuseError):
                        feed(session, clip("long"))
                    ended.set()

                thread = threading.Thread(target=run)
                thread.start()
                time.sleep(0.01 * seed)
                (restorer if whole_device else session).close()
                thread.join(PATIENCE_S)
                assert ended.is_set()
                session.close()
                del session


@pytest.mark.parametrize(("moment", "stages"), [("before its memory is allocated", 0), ("in its first warm-up", 1)])
def test_closing_gives_up_a_workspace_that_another_thread_opens_without_closing_what_it_uses(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, moment: str, stages: int
) -> None:
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library) as restorer:
            device = restorer._device
            assert device is not None
            closing = threading.Thread(target=device.close)

            def begin_closing(*_: Any) -> None:
                if closing.ident is None:
                    closing.start()
                    closing.join(0.2)
                    assert closing.is_alive(), "the device was closed under the workspace that is being opened"

            if moment == "before its memory is allocated":

                def planning(*arguments: Any) -> Any:
                    begin_closing()
                    return plan_stream(*arguments)

                monkeypatch.setattr(cuda, "plan_stream", planning)
            else:
                library.running = begin_closing
            with pytest.raises(MisuseError, match=r"is closed; open (it|the bundle) again with Restorer.open\(\)"):
                device.workspace(plan_buffers(lab.engines.manifest, 21, 27))
            closing.join(PATIENCE_S)
            assert not closing.is_alive()
            # Kernels may take minutes to compile, so closing waits for one stage at most.
            assert library.calls["create_execution_context"] == stages
            assert not emulator.counts().leaks()


def test_a_closed_device_opens_no_workspace(lab: Lab) -> None:
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library) as restorer:
            session = restorer.session()
        assert not emulator.counts().leaks()
        with pytest.raises(MisuseError, match=r"is closed; open (it|the bundle) again with Restorer.open\(\)"):
            session.feed(clip("long")[0])
        assert library.calls["create_execution_context"] == 0


def test_without_the_lock_two_sessions_would_share_the_arena(lab: Lab) -> None:
    """Otherwise the test of two threads would prove nothing."""
    for seed in range(10):
        with emulated(seed, clean=False) as emulator:
            library = FakeTensorRT(emulator)
            device = CudaDevice(lab.engines, TensorRTProvider(library, NO_CACHE), graphs=False)
            device.compute = replace(device.compute, lock=nullcontext())  # type: ignore[arg-type]
            with Restorer(device, lab.engines.manifest) as restorer:
                threads = [
                    threading.Thread(target=lambda name=name: list(restorer.restore(clip(name))))
                    for name in ("long", "even")
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            if any("another stage ran on the arena meanwhile" in problem for problem in library.problems):
                return
    raise AssertionError("no stage noticed that another one used its arena")


def test_a_device_closes_its_open_sessions(lab: Lab) -> None:
    with emulated() as emulator:
        with lab.opened(emulator) as restorer:
            session = restorer.session()
            for frame in clip("long"):
                session.feed(frame)
        with pytest.raises((MisuseError, Cancelled)):
            session.flush()
        del session


@pytest.mark.parametrize(
    ("change", "package", "kind", "words"),
    [
        ({}, "14", MachineError, "driver is for CUDA 13.0, tensorrt-rtx-cu14 needs a driver for CUDA 14"),
        (
            {"driver_cuda": "13.1"},
            "12",
            BundleError,
            "built with a driver for CUDA 13.1, but the driver here is for CUDA 13.0",
        ),
        ({"cuda": "13"}, "12", BundleError, "for CUDA 13, but the installed package is for CUDA 12"),
        ({"compute_capability": "8.9"}, "12", BundleError, "built for compute capability 8.9"),
    ],
)
def test_a_bundle_that_cannot_run_here_is_refused_before_its_engines_are_read(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    package: str,
    kind: type[Exception],
    words: str,
) -> None:
    monkeypatch.setattr(tensorrt, "package_cuda", lambda _module: package)
    manifest = lab.engines.manifest
    bundle = replace(lab.engines, manifest=replace(manifest, toolchain=replace(manifest.toolchain, **change)))
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        with pytest.raises(kind, match=words):
            CudaDevice(bundle, TensorRTProvider(library, NO_CACHE))
        assert library.calls["deserialize_cuda_engine"] == 0
