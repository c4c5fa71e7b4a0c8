"""Surfaces on an emulated driver: the same frames as through memory of the host, to the byte.

What stands in for a decoder's surface is memory of the emulated GPU that speaks DLPack, with gaps between its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import numpy as np
import pytest

from swiftvr_trt import Bundle, FrameForm, MediaError, MisuseError, Restorer, Session
from swiftvr_trt.engines.bundle.pixel_formats import NV12, P010, RGB24
from swiftvr_trt.errors import StageError
from swiftvr_trt.runtime.devices.cuda_surfaces import SurfaceCopies, _exported
from swiftvr_trt.runtime.devices.gpu import Gpu
from swiftvr_trt.runtime.stream.frames import Planes, Surface, YuvColour
from tests.cuda_emulator import emulated

from .cuda_lab import OUT_OF_MEMORY, UNKNOWN, Lab

pytestmark = pytest.mark.cuda_emulator
HEIGHT, WIDTH, COUNT, GAP = 18, 26, 13, 38
FORMS = {"nv12": FrameForm(NV12), "p010": FrameForm(P010, YuvColour(9))}


def planes(form: FrameForm, count: int = COUNT) -> list[Planes]:
    generator = np.random.default_rng(7)
    shape = (count, *form.format.shape(HEIGHT, WIDTH))
    levels = generator.integers(0, 1 << form.format.bits, shape, np.uint16) * form.format.unit
    return [Planes(each, form) for each in levels.astype(form.format.host_dtype)]


class Decoder:
    """Hands out surfaces, and overwrites one before it hands out the next, as a decoder with a single one would."""

    def __init__(self, form: FrameForm) -> None:
        from cuda.core import LegacyPinnedMemoryResource

        self._form, self._gpu = form, Gpu(0)
        item = np.dtype(form.format.host_dtype).itemsize
        self._pitch = WIDTH + GAP
        self._stream = self._gpu.device.create_stream()
        nbytes = self._pitch * (HEIGHT + HEIGHT // 2) * item
        self._memory = self._gpu.device.allocate(nbytes, stream=self._stream)
        self._host = LegacyPinnedMemoryResource().allocate(nbytes)
        self._rows = np.from_dlpack(self._host).view(form.format.host_dtype).reshape(-1, self._pitch)
        self._stream.sync()

    def surface(self, frame: Planes) -> Surface:
        self._rows[:] = 0
        self._rows[:HEIGHT, :WIDTH] = frame.luma
        self._rows[HEIGHT:, :WIDTH] = frame.data[2].reshape(HEIGHT // 2, WIDTH)
        self._memory.copy_from(self._host, stream=self._stream)
        self._stream.sync()
        luma, chroma = self._plane(0, (HEIGHT, WIDTH)), self._plane(HEIGHT, (HEIGHT // 2, WIDTH // 2, 2))
        return Surface((luma, chroma), self._form, (HEIGHT, WIDTH))

    def overwrite(self) -> None:
        """As a decoder does that reads on."""
        self._memory.fill(0xA5, stream=self._stream)
        self._stream.sync()

    def _plane(self, row: int, shape: tuple[int, ...]) -> Any:
        from cuda.core import Buffer
        from cuda.core.utils import StridedMemoryView

        dtype = np.dtype(self._form.format.host_dtype)
        skipped = row * self._pitch * dtype.itemsize
        rest = Buffer.from_handle(int(self._memory.handle) + skipped, self._memory.size - skipped, owner=self._memory)
        strides = (self._pitch, *((2, 1) if len(shape) == 3 else (1,)))
        return StridedMemoryView.from_buffer(rest, shape, strides, dtype=dtype)

    def close(self) -> None:
        del self._rows
        self._host.close()
        self._memory.close(self._stream)
        self._stream.sync()
        self._stream.close()


def on_host(surface: Surface) -> Planes:
    """A copy of a restored surface."""
    from cuda.core import LegacyPinnedMemoryResource
    from cuda.core.utils import StridedMemoryView

    gpu, (height, width) = Gpu(0), surface.size
    stream = gpu.device.create_stream()
    parts = []
    for plane, rows in zip(surface.planes, (height, height // 2), strict=True):
        view = StridedMemoryView.from_dlpack(plane, stream_ptr=-1)
        nbytes = rows * width * view.dtype.itemsize
        host = LegacyPinnedMemoryResource().allocate(nbytes)
        gpu.core.Buffer.from_handle(int(view.ptr), nbytes).copy_to(host, stream=stream)
        stream.sync()
        parts.append(np.from_dlpack(host).view(view.dtype).reshape(-1, width).copy())
        host.close()
    stream.close()
    return Planes(np.concatenate(parts).reshape(surface.form.format.shape(height, width)), surface.form)


def restored(session: Session, frames: Iterator[Any], decoder: Decoder | None) -> list[np.ndarray]:
    out = []
    for frame in frames:
        out += [_data(each) for each in session.feed(frame)]
        if decoder:
            decoder.overwrite()
    return out + [_data(each) for each in session.flush()]


def _data(frame: Any) -> np.ndarray:
    return (on_host(frame) if isinstance(frame, Surface) else frame).data


@pytest.fixture(scope="module")
def lab(engines: Bundle) -> Lab:
    return Lab(engines, {})


def run(restorer: Restorer, form: FrameForm, *, takes: bool, gives: bool, count: int = COUNT) -> list[np.ndarray]:
    decoder = Decoder(form) if takes else None
    frames = (decoder.surface(each) if decoder else each for each in planes(form, count))
    with restorer.session(surfaces=gives) as session:
        found = restored(session, frames, decoder)
    if decoder:
        decoder.close()
    Gpu(0).core.LEGACY_DEFAULT_STREAM.sync()  # surfaces are released there
    return found


@pytest.mark.parametrize(("name", "overlap"), [("nv12", False), ("nv12", True), ("p010", False)])
def test_surfaces_give_the_same_frames(lab: Lab, name: str, overlap: bool) -> None:
    form = FORMS[name]
    with emulated(1) as emulator, lab.opened(emulator, overlap=overlap) as restorer:
        expected = run(restorer, form, takes=False, gives=False)
        assert len(expected) == COUNT
        for takes, gives in ((True, True), (True, False), (False, True)):
            assert np.array_equal(run(restorer, form, takes=takes, gives=gives), expected), (takes, gives)


@pytest.mark.parametrize("count", [1, 8, 12])  # LAST alone, FIRST filled up or full; above, LAST with a frame
def test_the_end_is_right_though_the_decoder_has_its_surface_back(lab: Lab, count: int) -> None:
    form = FORMS["nv12"]
    with emulated() as emulator, lab.opened(emulator) as restorer:
        expected = run(restorer, form, takes=False, gives=False, count=count)
        assert len(expected) == count
        assert np.array_equal(run(restorer, form, takes=True, gives=True, count=count), expected)


def test_a_refused_surface_costs_no_other_frame(lab: Lab) -> None:
    form = FORMS["nv12"]
    with emulated() as emulator, lab.opened(emulator) as restorer:
        expected = run(restorer, form, takes=False, gives=False, count=2)
        decoder = Decoder(form)
        with restorer.session(surfaces=False) as session:
            for each in planes(form, 2):
                assert session.feed(decoder.surface(each)) == []
                with pytest.raises(MisuseError, match="expected one that speaks DLPack"):
                    session.feed(Surface((object(), object()), form, each.size))
            assert np.array_equal([_data(frame) for frame in session.flush()], expected)
        decoder.close()


def test_frames_that_do_not_fit_end_the_stream(lab: Lab) -> None:
    form = FORMS["nv12"]
    host = planes(form, 1)[0]
    with emulated() as emulator, lab.opened(emulator) as restorer, restorer.session(surfaces=True) as session:
        session.feed(host)
        emulator.fail("allocation", 1, OUT_OF_MEMORY)
        with pytest.raises(StageError, match=r"[\d.]+ [kM]?i?B of GPU memory for a restored surface could not be allo"):
            session.flush()
        with pytest.raises(MisuseError, match="its state is lost"):
            session.feed(host)
        session.reset()
        session.feed(host)
        assert len(session.flush()) == 1
    Gpu(0).core.LEGACY_DEFAULT_STREAM.sync()


@pytest.mark.parametrize("name", ["nv12", "p010"])
def test_planes_on_the_host_may_come_between_surfaces(lab: Lab, name: str) -> None:
    form = FORMS[name]
    with emulated() as emulator, lab.opened(emulator) as restorer:
        emulator.allow_pageable()
        expected = run(restorer, form, takes=False, gives=False)
        decoder = Decoder(form)
        frames = (frame if number % 3 else decoder.surface(frame) for number, frame in enumerate(planes(form)))
        with restorer.session() as session:
            assert np.array_equal(restored(session, frames, decoder), expected)
        decoder.close()
    Gpu(0).core.LEGACY_DEFAULT_STREAM.sync()


def test_a_stream_on_the_host_takes_no_surface_in_its_middle(lab: Lab) -> None:
    form = FORMS["nv12"]
    with emulated() as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
        decoder = Decoder(form)
        session.feed(planes(form, 1)[0])
        with pytest.raises(MediaError, match=r"frame 1 lies on the GPU, the stream began with frames in memory"):
            session.feed(decoder.surface(planes(form, 1)[0]))
        decoder.close()


@pytest.mark.parametrize("nth", [1, 2, 4])  # the first copy of luma, that of chroma, and that of the second copy
def test_a_copy_that_fails_ends_the_stream(lab: Lab, nth: int) -> None:
    form = FORMS["nv12"]
    host = planes(form, 2)
    with emulated() as emulator, lab.opened(emulator) as restorer, restorer.session(surfaces=False) as session:
        expected = run(restorer, form, takes=False, gives=False, count=2)
        decoder = Decoder(form)
        session.feed(decoder.surface(host[0]))
        emulator.fail("cuMemcpy2DAsync", nth, UNKNOWN)
        with pytest.raises(StageError, match="a surface could not be copied"):
            session.feed(decoder.surface(host[1]))
        for again in (lambda: session.feed(decoder.surface(host[1])), session.flush):
            with pytest.raises(MisuseError, match="its state is lost"):
                again()
        session.reset()
        assert np.array_equal(restored(session, map(decoder.surface, host), decoder), expected)
        decoder.close()
    Gpu(0).core.LEGACY_DEFAULT_STREAM.sync()


def test_nothing_passes_through_the_host(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from swiftvr_trt.runtime.devices.cuda import CudaWorkspace
    from swiftvr_trt.runtime.stream.program import Download, Upload

    recorded: list[Any] = []
    record = CudaWorkspace.record

    def noted(workspace: CudaWorkspace, steps: Any, *, once: bool = False) -> Any:
        recorded.extend(steps)
        return record(workspace, steps, once=once)

    monkeypatch.setattr(CudaWorkspace, "record", noted)
    with emulated() as emulator, lab.opened(emulator) as restorer:
        run(restorer, FORMS["nv12"], takes=True, gives=True)
    moved = [step.view.buffer for step in recorded if isinstance(step, Upload | Download)]
    assert {name.split("_")[0] for name in moved} == {"take", "give"}  # how colours are converted, once


def test_a_restored_surface_outlives_its_session(lab: Lab) -> None:
    form = FORMS["nv12"]
    with emulated() as emulator:
        with lab.opened(emulator) as restorer, restorer.session(surfaces=True) as session:
            kept: list[Any] = [frame for each in planes(form) for frame in session.feed(each)]
            kept += session.flush()
        assert [bool(on_host(surface).data.any()) for surface in kept] == [True] * COUNT
        encoder = Thread(target=kept.clear)  # where no context is current
        encoder.start()
        encoder.join()
        Gpu(0).core.LEGACY_DEFAULT_STREAM.sync()


def addresses(surface: Surface) -> tuple[int, int]:
    from cuda.core.utils import StridedMemoryView

    luma, chroma = (StridedMemoryView.from_dlpack(plane, stream_ptr=-1) for plane in surface.planes)
    return int(luma.ptr), int(chroma.ptr)


@pytest.mark.parametrize("name", ["nv12", "p010"])
def test_luma_and_chroma_of_a_restored_surface_lie_in_one_block_without_a_gap(lab: Lab, name: str) -> None:
    form = FORMS[name]
    with emulated() as emulator, lab.opened(emulator) as restorer, restorer.session(surfaces=True) as session:
        session.feed(planes(form, 1)[0])
        (surface,) = session.flush()
        (height, width), (luma, chroma) = surface.size, addresses(surface)
        assert chroma - luma == height * width * np.dtype(form.format.host_dtype).itemsize
        assert surface.nbytes == 3 * (chroma - luma) // 2
        assert surface.memory.address == luma
        del surface


def test_what_is_no_surface_of_this_gpu_is_refused(lab: Lab) -> None:
    form = FORMS["nv12"]
    host = planes(form, 1)[0]
    in_host_memory = Surface((host.luma, host.data[2]), form, host.size)
    mute = Surface((object(), object()), form, host.size)
    with emulated() as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
        with pytest.raises(MisuseError, match="lies on DLPack's device 1, expected GPU 0"):
            session.feed(in_host_memory)
        with pytest.raises(MisuseError, match="expected one that speaks DLPack"):
            session.feed(mute)
        decoder = Decoder(form)
        right = decoder.surface(host)
        wrong = Surface((right.planes[1], right.planes[0]), form, host.size)
        with pytest.raises(MisuseError, match=r"a plane of a surface is uint8 \[9, 13, 2\].*expected uint8 \[18, 26\]"):
            session.feed(wrong)
        del right, wrong
        decoder.close()
        with restorer.session(FrameForm(RGB24), surfaces=True) as rgb, pytest.raises(MisuseError, match="nv12 or p010"):
            rgb.feed(host)


class Exporter:
    """A plane on the GPU that is what a caller says."""

    def __init__(self, export: Callable[[], Any], device: Any = (2, 0)) -> None:
        self._export, self._device = export, device

    def __dlpack__(self, **_: Any) -> Any:
        return self._export()

    def __dlpack_device__(self) -> Any:
        return self._device


def failing(error: Exception) -> Callable[[], Any]:
    def export() -> Any:
        raise error

    return export


class Unplaced(Exporter):
    def __dlpack_device__(self) -> Any:
        raise NotImplementedError("no device")


WRONG_PLANES: list[tuple[str, Any, str]] = [
    ("nv12", np.zeros((), np.uint8), r"is uint8 \[\] "),
    ("nv12", np.zeros(HEIGHT, np.uint8), r"is uint8 \[18\] "),
    ("nv12", np.zeros((HEIGHT, WIDTH, 1), np.uint8), r"is uint8 \[18, 26, 1\] "),
    ("nv12", np.zeros((HEIGHT, WIDTH), np.int8), r"is int8 \[18, 26\] .*expected uint8 \[18, 26\]"),
    ("nv12", np.zeros((HEIGHT, WIDTH), np.bool_), "is bool "),
    ("p010", np.zeros((HEIGHT, WIDTH), np.int16), r"is int16 .*expected uint16 \[18, 26\]"),
    ("p010", np.zeros((HEIGHT, WIDTH), np.float16), "is float16 "),
    ("p010", np.zeros((HEIGHT, WIDTH), np.uint8), "is uint8 "),
]
BROKEN_EXPORTERS = [
    (Exporter(failing(BufferError("it needs a gradient"))), r"a Exporter that DLPack cannot export \(it needs"),
    (Exporter(failing(NotImplementedError("not yet\nsecond line"))), r"cannot export \(not yet"),
    (Exporter(lambda: None), "DLPack cannot export"),
    (Exporter(lambda: None, device=None), "DLPack cannot export"),
    (Unplaced(lambda: None), r"cannot export \(no device\)"),
]


@pytest.mark.parametrize(
    ("name", "plane", "message"),
    [
        *((name, Exporter(array.__dlpack__), message) for name, array, message in WRONG_PLANES),
        *(("nv12", exporter, message) for exporter, message in BROKEN_EXPORTERS),
    ],
)
def test_planes_that_are_something_else_are_refused(name: str, plane: Exporter, message: str) -> None:
    with emulated():
        copies = SurfaceCopies(Gpu(0), None, None)  # type: ignore[arg-type]  # nothing may be copied
        with pytest.raises(MisuseError, match=message) as caught:
            copies.take(Surface((plane, plane), FORMS[name], (HEIGHT, WIDTH)), [])
        assert "\n" not in str(caught.value)


def test_the_stride_over_a_single_row_does_not_matter() -> None:
    single = np.lib.stride_tricks.as_strided(np.zeros(26, np.uint8), (1, 13, 2), (1, 2, 1))
    assert _exported(single).strides == (26, 2, 1)
