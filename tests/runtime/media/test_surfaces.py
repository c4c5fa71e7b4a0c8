"""FFmpeg's frames on a GPU: on the emulated driver, with FFmpeg's own CUDA code."""

from __future__ import annotations

import gc
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import CudaContext, VideoFrame

from swiftvr_trt import FrameForm, MediaError
from swiftvr_trt.engines.bundle.pixel_formats import NV12, P010
from swiftvr_trt.runtime.devices.driver import has_driver
from swiftvr_trt.runtime.devices.gpu import Gpu
from swiftvr_trt.runtime.devices.surface_memory import SurfaceMemory
from swiftvr_trt.runtime.media import Picture, SinkOptions, SourceInfo, Stamp
from swiftvr_trt.runtime.media.base import Colour
from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.media.nvcodec import shared_context, surface_encoder
from swiftvr_trt.runtime.media.side_data import side_data
from swiftvr_trt.runtime.media.surfaces import (
    SurfaceFrames,
    is_on_gpu,
    kind_of,
    on_host,
    surface_formats,
    surface_of,
)
from swiftvr_trt.runtime.media.video_out import VideoSink
from swiftvr_trt.runtime.stream.frames import Surface
from tests.cuda_emulator import emulated
from tests.runtime.fake_nvenc import FakeNvenc
from tests.runtime.gpu_video import Upload

FORMS = {"nv12": FrameForm(NV12), "p010le": FrameForm(P010)}
WIDTH, HEIGHT = 50, 38


@pytest.mark.parametrize(
    ("tried", "size", "formats"),
    [
        (["yuv420p", "nv12", "yuv444p"], (64, 48), ["nv12"]),
        (["p010le", "yuv420p", "yuv444p"], (64, 48), ["p010le", "nv12"]),
        (["yuv420p10le"], (64, 48), ["p010le"]),
        (["yuv444p", "yuv420p"], (64, 48), []),  # on the host, it would be 4:4:4
        (["bgr0"], (64, 48), []),
        (["yuv420p"], (63, 48), []),
        (["yuv420p"], (64, 47), []),
    ],
)
def test_surfaces_have_the_formats_of_the_same_video(
    tried: list[str], size: tuple[int, int], formats: list[str]
) -> None:
    assert surface_formats(tried, *size) == formats


def test_a_frame_on_the_host_stays_as_it_is() -> None:
    frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
    assert on_host(frame) is frame
    assert not is_on_gpu(frame)


@pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver")
def test_a_gpu_that_is_not_there_is_named_in_one_line() -> None:
    with pytest.raises(MediaError, match=r"^GPU 0 cannot be used \(.+\)$") as caught:
        surface_encoder(0)
    assert "\n" not in str(caught.value)


def frame_of(name: str, number: int = 0) -> VideoFrame:
    """Noise, with everything else that a decoder sets."""
    top, dtype = (1024, np.uint16) if name == "p010le" else (256, np.uint8)
    levels = np.random.default_rng(number).integers(0, top, (HEIGHT * 3 // 2, WIDTH), np.uint16)
    frame = VideoFrame(WIDTH, HEIGHT, name)
    codes = (levels << 6 if name == "p010le" else levels).astype(dtype)
    for plane, part in zip(frame.planes, (codes[:HEIGHT], codes[HEIGHT:]), strict=True):
        rows = np.zeros((len(part), plane.line_size // dtype().itemsize), dtype)
        rows[:, :WIDTH] = part
        plane.update(rows.tobytes())
    frame.pts, frame.duration, frame.time_base = 7, 3, Fraction(1, 30)
    frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = 1, 1, 1, 1
    return frame


def pixels(frame: VideoFrame) -> Any:
    """Both planes, without gaps between their rows."""
    dtype = np.dtype(np.uint16 if frame.format.name == "p010le" else np.uint8)
    planes = (np.frombuffer(plane, dtype).reshape(plane.height, -1) for plane in frame.planes)  # type: ignore[call-overload]
    return np.concatenate([rows[:, :WIDTH] for rows in planes])


@pytest.mark.cuda_emulator
@pytest.mark.parametrize("name", FORMS)
def test_what_comes_back_is_what_went_up(name: str) -> None:
    with emulated() as emulator:
        emulator.allow_pageable()
        frame = frame_of(name)
        uploaded = Upload()(frame)
        assert is_on_gpu(uploaded)
        assert kind_of(uploaded) == (name, WIDTH, HEIGHT, 1, 1)
        back = on_host(uploaded)
        assert back.format.name == name
        assert np.array_equal(pixels(back), pixels(frame))
        assert (back.pts, back.duration, back.time_base) == (uploaded.pts, uploaded.duration, uploaded.time_base)
        assert (back.colorspace, back.color_range, back.color_primaries, back.color_trc) == (1, 1, 1, 1)
        assert side_data(uploaded) == side_data(frame) == {}
        del uploaded


@pytest.mark.cuda_emulator
@pytest.mark.parametrize("name", FORMS)
def test_frames_of_restored_surfaces_are_read_without_a_copy(name: str) -> None:
    form = FORMS[name]
    with emulated() as emulator:
        emulator.allow_pageable()
        gpu, frame = Gpu(0), frame_of(name)
        memory = SurfaceMemory(gpu, pixels(frame).nbytes)
        surface = copied(surface_of(Upload()(frame), form), memory, gpu)
        frames = SurfaceFrames()
        made = frames.frame(surface, name)
        assert [plane.line_size for plane in made.planes] == [WIDTH * pixels(frame).itemsize] * 2
        address = surface.memory.address
        del surface
        assert memory.lend().block.address != address  # the frame is still there
        assert np.array_equal(pixels(on_host(made)), pixels(frame))
        del made
        assert memory.lend().block.address == address
        memory.close()
        held = emulator.counts().device
        del frames  # when the encoder is closed
        assert emulator.counts().device == held - 1


@pytest.mark.cuda_emulator
def test_nvenc_encodes_surfaces_and_lets_go_of_them(tmp_path: Path) -> None:
    """Their bytes are read when FFmpeg fetches packets, some pictures later."""
    count, info = 9, SourceInfo(Path(), WIDTH, HEIGHT, 9, Fraction(25), Fraction(1, 25), Colour(), None, "noise")
    frames = [frame_of("nv12", number) for number in range(count)]
    with emulated() as emulator:
        emulator.allow_pageable()
        nvenc, gpu = FakeNvenc(emulator), Gpu(0)
        memory, upload = SurfaceMemory(gpu, pixels(frames[0]).nbytes), Upload()
        with VideoSink(tmp_path / "out.mkv", info, WIDTH, HEIGHT, SinkOptions(crf=0, gpu=0, surfaces=True)) as sink:
            assert (sink.notes, sink.surfaces, sink.frames.format) == ((), True, NV12)
            for number, frame in enumerate(frames):
                surface = copied(surface_of(upload(frame), sink.frames), memory, gpu)
                sink.write(Picture(surface, Stamp(number, number, 1, Fraction(1, 25))))
                del surface
            sink.commit()
        assert (nvenc.pictures, nvenc.problems) == (count, [])
        assert nvenc.most_registered < count  # blocks are used again
        del sink, upload
        gc.collect()
        assert nvenc.open == 0
        memory.close()
    with av.open(str(tmp_path / "out.mkv")) as video:
        shown = [converted(frame, format="nv12") for frame in video.decode(video=0)]
    assert len(shown) == count
    assert all(np.array_equal(pixels(ours), pixels(theirs)) for ours, theirs in zip(shown, frames, strict=True))


def copied(surface: Surface, memory: SurfaceMemory, gpu: Gpu) -> Surface:
    """A surface with the same pixels, in a block as the CUDA device gives it."""
    from swiftvr_trt.runtime.devices.cuda_surfaces import SurfaceCopies

    class Session:
        """As much of a session's memory as copies need: one place for a frame."""

        def __init__(self) -> None:
            self.place = memory.lend()

        def address(self, _view: Any) -> int:
            return self.place.block.address

        def on_device(self, _view: Any) -> Any:
            return gpu.core.Buffer.from_handle(self.place.block.address, surface.nbytes, owner=self.place)

    stream = gpu.device.create_stream()
    copies = SurfaceCopies(gpu, Session(), stream)  # type: ignore[arg-type]
    copies.take(surface, [None])  # type: ignore[list-item]
    copies._blocks = memory
    made = copies.give(None, surface.form, surface.size)  # type: ignore[arg-type]
    stream.close()
    return made


@pytest.mark.cuda_emulator
def test_ffmpeg_uses_the_context_of_the_bundle() -> None:
    """Asked for the primary context by that name, it refuses: cuda-core has made that without FFmpeg's flags."""
    from cuda.bindings import driver

    with emulated() as emulator:
        memory = SurfaceMemory(Gpu(0), WIDTH * HEIGHT * 3 // 2)
        block = memory.lend()
        planes = planes_at(block)
        driver.cuDevicePrimaryCtxRetain(0)
        with pytest.raises(av.FFmpegError):
            VideoFrame.from_dlpack(planes, "nv12", cuda_context=CudaContext(0), primary_ctx=True)
        driver.cuDevicePrimaryCtxRelease(0)
        assert shared_context(0) == {"primary_ctx": "0", "current_ctx": "1"}
        context = CudaContext(0, primary_ctx=False, current_ctx=True)
        frame = VideoFrame.from_dlpack(planes, "nv12", cuda_context=context)
        assert is_on_gpu(frame)
        assert emulator.calls("cuCtxCreate_v2") == 0
        del frame, context, planes, block
        memory.close()


def planes_at(loan: Any) -> tuple[Any, Any]:
    from cuda.core import Buffer
    from cuda.core.utils import StridedMemoryView

    luma = WIDTH * HEIGHT
    parts = ((0, luma, (HEIGHT, WIDTH)), (luma, luma // 2, (HEIGHT // 2, WIDTH // 2, 2)))
    buffers = ((Buffer.from_handle(loan.block.address + at, size, owner=loan), shape) for at, size, shape in parts)
    first, second = (
        StridedMemoryView.from_buffer(buffer, shape, dtype=np.dtype(np.uint8)) for buffer, shape in buffers
    )
    return first, second
