"""Every wait of the CUDA device is needed: without it frames are others, or the emulated driver complains."""

from __future__ import annotations

import gc
import itertools
from typing import Any

import pytest

from swiftvr_trt import StageError, SwiftVRError
from swiftvr_trt.runtime.devices.cuda import CudaDevice
from swiftvr_trt.runtime.devices.tensorrt import TensorRTProvider
from swiftvr_trt.runtime.restore import restorer
from swiftvr_trt.runtime.stream.device import Recording
from swiftvr_trt.runtime.stream.plan import plan_memory
from swiftvr_trt.runtime.stream.program import Copy, Download, Upload, View, plan_buffers
from tests.cuda_emulator import emulated
from tests.runtime.clips import OUT, clip

from . import mutants
from .cuda_lab import NO_CACHE, Lab
from .fake_trt import FakeTensorRT

pytestmark = pytest.mark.cuda_emulator


def test_what_is_uploaded_copied_and_downloaded_arrives(lab: Lab) -> None:
    assert not [problem for seed in range(10) if (problem := _round_trip(lab, CudaDevice, seed))]


def _round_trip(lab: Lab, kind: Any, seed: int) -> str | None:
    """Frames up, across, and down again, replayed with other frames each time."""
    views = View("frames_in_0", 0, 8), View("frames_out_1", 0, 8)
    with emulated(seed, delay_us=300, clean=False) as emulator:
        with lab.opened(emulator, kind=kind) as restorer:
            assert restorer._device is not None
            workspace = restorer._device.workspace(plan_buffers(lab.engines.manifest, *OUT))
            recording: Recording = workspace.record([Upload(views[0]), Copy(*views), Download(views[1])])
            for number in range(1, 5):
                workspace.host("frames_in_0")[:8] = number
                recording.replay()
                if not (workspace.host("frames_out_1")[:8] == number).all():
                    return "other frames came down than went up"
            workspace.close()
        return next(iter(emulator.violations()), None)


def _stream(lab: Lab, kind: Any, seed: int) -> str | None:
    with emulated(seed, delay_us=300, clean=False) as emulator:
        with lab.opened(emulator, kind=kind) as restorer:
            if not lab.same("long", list(restorer.restore(clip("long")))):
                return "other frames"
        return next(iter(emulator.violations()), None)


def _early_close(lab: Lab, kind: Any, seed: int) -> str | None:
    with emulated(seed, delay_us=300, clean=False) as emulator:
        with lab.opened(emulator, kind=kind) as restorer:
            session = restorer.session()
            for frame in clip("long"):
                session.feed(frame)
            session.close()
            del session
        gc.collect()
        return next(iter(emulator.violations()), None)


def _reopen(lab: Lab, kind: Any, seed: int) -> str | None:
    """Memory of a closed stream is there for the next one."""
    plan = plan_memory(lab.engines.manifest, 21, 27)
    with emulated(seed, delay_us=300, clean=False) as emulator:
        emulator.limit_bytes(plan.arena_bytes + plan.device.nbytes + plan.weight_bytes)
        with lab.opened(emulator, kind=kind) as restorer:
            for _ in range(3):
                with restorer.session() as session:
                    session.feed(clip("long")[0])
        return None


def _close(lab: Lab, kind: Any, seed: int) -> str | None:
    """When a device is closed its memory is there for the next one."""
    plan = plan_memory(lab.engines.manifest, *OUT)
    with emulated(seed, delay_us=2000, clean=False) as emulator:
        emulator.limit_bytes(plan.weight_bytes + plan.arena_bytes)
        for _ in range(2):
            kind(lab.engines, TensorRTProvider(FakeTensorRT(emulator), NO_CACHE)).close()
        return None


def _first_run(lab: Lab, kind: Any, seed: int) -> str | None:
    """A kernel that fails when it runs first is one of a stage that has a name."""
    with emulated(seed, clean=False) as emulator:
        library = FakeTensorRT(emulator)

        def touch(_stage: str) -> None:
            emulator.touch(16, 1, write=True)

        library.running = touch
        with lab.opened(emulator, library, kind=kind) as restorer:
            try:
                restorer.session().feed(clip("long")[0])
            except StageError as error:
                library.problems.clear()
                return None if "stage encode" in str(error) else f"without its name: {error}"
        return "no error"


BATTERY = (_stream, _round_trip, _early_close, _reopen, _close, _first_run)


@pytest.mark.parametrize("site", mutants.sites(), ids=str)
def test_no_wait_can_be_left_out(lab: Lab, site: mutants.Site, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = mutants.device_without(site)
    monkeypatch.setattr(restorer, "Session", mutants.session_without(site))
    problems: list[str | None] = []
    for seed, run in itertools.product(range(10), BATTERY):
        try:
            problems.append(run(lab, kind, seed))
        except (SwiftVRError, AssertionError) as error:
            problems.append(str(error))
        if any(problems):
            return
    raise AssertionError(f"nothing is wrong without {site}")


def test_with_all_waits_nothing_is_wrong(lab: Lab) -> None:
    for seed, run in itertools.product(range(10), BATTERY):
        assert run(lab, CudaDevice, seed) is None
