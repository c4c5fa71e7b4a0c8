"""Which frames stay on the GPU, and that a video whose frames do is the one whose frames come to the host.

NVDEC and NVENC are stood in for (`gpu_video`, `fake_nvenc`). Real are FFmpeg's CUDA code and its code for NVENC, PyAV's
frames and their DLPack, cuda-core, and the streams of a bundle.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt import FrameForm, MediaError, Restorer
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.pixel_formats import NV12, P010, RGB24, YUV420P
from swiftvr_trt.runtime.media import SinkOptions, encoder, surfaces, video_in
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.media.surfaces import Residence
from swiftvr_trt.runtime.media.trim import Trim
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.job import Job, restore_job
from swiftvr_trt.runtime.restore.passage import Passage
from swiftvr_trt.runtime.restore.segments.sink import PieceSink
from tests.cuda_emulator import Emulator, emulated
from tests.runtime.devices.cuda_lab import Lab
from tests.runtime.devices.fake_trt import FakeTensorRT
from tests.runtime.fake_nvenc import FakeNvenc
from tests.runtime.gpu_video import decode_with_stand_in

from .fleet_lab import RecordingDisplay
from .segments.lab import content, write_clip

STAYS = {"on_gpu": True, "filtered": False, "turned": False, "alpha": False, "form": FrameForm(NV12)}


@pytest.mark.parametrize(
    ("video", "run", "hindrance"),
    [
        ({}, {}, None),
        ({"form": FrameForm(P010)}, {}, None),
        ({"on_gpu": False}, {}, "the video is decoded in software"),
        ({"in_order": False}, {}, "--start leads into the middle"),
        ({"filtered": True}, {}, "filters change them"),
        ({"turned": True}, {}, "stored turned"),
        ({"alpha": True}, {}, "transparency"),
        ({"form": FrameForm(YUV420P)}, {}, "restored as yuv420p"),
        ({"form": FrameForm(RGB24)}, {}, "restored as rgb24"),
        ({}, {"on_cpu": True}, "the CPU restores them"),
        ({}, {"tiled": True}, "in tiles"),
        ({}, {"divided_by_scenes": True}, "--scene-cut reset"),
        ({}, {"shrunk": True}, "much larger than the output"),
    ],
)
def test_frames_stay_unless_something_looks_at_them(
    video: dict[str, Any], run: dict[str, bool], hindrance: str | None
) -> None:
    found = Passage(Residence(**{**STAYS, **video}), **run).hindrance
    assert found is None if hindrance is None else hindrance in str(found)


def test_images_do_not_stay() -> None:
    assert Passage(None).hindrance == "images are decoded in software"


class Bench:
    """Restores a clip on the emulated GPU. encoded: pictures by NVENC. fetched: frames that came to the host."""

    def __init__(self, lab: Lab, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
        self._lab, self._emulator = lab, emulator
        self.nvenc = FakeNvenc(emulator)
        self.fetched = 0
        on_host = surfaces.on_host

        def noted(frame: Any) -> Any:
            self.fetched += frame.format.name == "cuda"
            return on_host(frame)

        monkeypatch.setattr(video_in, "on_host", noted)

    @property
    def encoded(self) -> int:
        return self.nvenc.pictures

    def restore(self, clip: Path, output: Path, mode: str, **options: Any) -> list[str]:
        """Without loss. Returns the warnings."""

        @contextmanager
        def opened(_size: Resolution) -> Iterator[Restorer]:
            with self._lab.opened(self._emulator, FakeTensorRT(self._emulator)) as restorer:
                yield restorer

        display = RecordingDisplay()
        sink = SinkOptions(crf=0 if output.suffix else None)
        job = Job(clip, str(output), sink=sink, hwaccel=mode, device="cuda:0", **{"piece_s": 0.4, **options})
        engines = self._lab.engines
        request = BundleRequest(bundle=engines.path, resolution=str(engines.manifest.recipe.resolution))
        restore_job(job, request, opened, display)
        return display.warnings


@pytest.fixture
def bench(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    decode_with_stand_in(monkeypatch)
    with emulated() as emulator:
        emulator.allow_pageable()  # FFmpeg copies from and to ordinary memory
        opened = Bench(lab, emulator, monkeypatch)
        yield opened
        gc.collect()  # PyAV's containers and encoders keep each other
        assert opened.nvenc.problems == []
        assert opened.nvenc.open == 0


FRAMES = 23


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "in.mp4", FRAMES)


@pytest.fixture
def through_host(bench: Bench, clip: Path, tmp_path: Path) -> Path:
    """The clip, restored with frames that go through the host."""
    output = tmp_path / "host.mp4"
    bench.restore(clip, output, "none")
    assert (bench.encoded, bench.fetched) == (0, 0)
    return output


@pytest.mark.cuda_emulator
@pytest.mark.parametrize("options", [{}, {"tile": "auto"}])  # the output is one tile
def test_the_video_is_the_same_and_nothing_goes_through_the_host(
    bench: Bench, clip: Path, through_host: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    output = tmp_path / "out.mp4"
    assert bench.restore(clip, output, "surfaces", **options) == []
    assert (bench.encoded, bench.fetched) == (FRAMES, 0)
    assert content(output) == content(through_host)
    assert bench.nvenc.most_registered < 16  # surfaces are used again


@pytest.mark.cuda_emulator
def test_frames_that_the_decoder_gives_on_the_host_go_up(
    bench: Bench, clip: Path, through_host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.mp4"
    decode_with_stand_in(monkeypatch, stays=lambda number: number in (1, 9, 10, FRAMES - 1))
    assert bench.restore(clip, output, "surfaces") == []
    assert (bench.encoded, bench.fetched) == (FRAMES, 0)
    assert content(output) == content(through_host)


@pytest.mark.cuda_emulator
def test_frames_unlike_the_first_come_to_the_host_and_go_up_again(
    bench: Bench, clip: Path, through_host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind_of, numbers = surfaces.kind_of, count()

    def changing(frame: Any) -> tuple[object, ...]:
        return (*kind_of(frame), next(numbers) in (4, 5, 12))

    monkeypatch.setattr(video_in, "kind_of", changing)
    output = tmp_path / "out.mp4"
    assert bench.restore(clip, output, "surfaces") == []
    assert (bench.encoded, bench.fetched) == (FRAMES, 3)
    assert content(output) == content(through_host)


@pytest.mark.cuda_emulator
@pytest.mark.parametrize("mode", ["surfaces", "cuda"])
def test_an_interrupted_run_goes_on_from_the_middle(
    bench: Bench, clip: Path, through_host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Its frames are decoded in software, and stay on the GPU from there on, or not."""
    output, write = tmp_path / "out.mp4", PieceSink.write

    def failing(sink: PieceSink, item: Any) -> None:
        if item.stamp.index == 14:
            raise MediaError("the encoder is gone")
        write(sink, item)

    with monkeypatch.context() as patch:
        patch.setattr(PieceSink, "write", failing)
        with pytest.raises(MediaError, match="the encoder is gone"):
            bench.restore(clip, output, "surfaces")
    gc.collect()  # what the error holds: encoders, with memory on the GPU
    begun = bench.encoded
    assert 0 < begun < FRAMES
    bench.restore(clip, output, mode)
    assert begun < bench.encoded < begun + FRAMES  # what was finished was not encoded again
    assert content(output) == content(through_host)


@pytest.mark.cuda_emulator
@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"scene_cut": "reset"}, "frames go through the host: --scene-cut reset looks at them"),
        ({"trim": Trim(start=Fraction(1, 2))}, "frames go through the host: --start leads into the middle"),
        ({"reading": SourceOptions(vf="hflip")}, "frames go through the host: filters change them"),
    ],
)
def test_what_looks_at_frames_gets_them_on_the_host_and_a_line_says_so(
    bench: Bench, clip: Path, tmp_path: Path, options: dict[str, Any], line: str
) -> None:
    host, output = tmp_path / "host.mp4", tmp_path / "out.mp4"
    bench.restore(clip, host, "none", **options)
    assert [text for text in bench.restore(clip, output, "surfaces", **options) if line in text]
    assert bench.encoded > 0  # the way out does not depend on the way in
    assert content(output) == content(host)


@pytest.mark.cuda_emulator
def test_images_get_their_frames_from_the_gpu(bench: Bench, clip: Path, tmp_path: Path) -> None:
    host, output = tmp_path / "host", tmp_path / "out"
    warnings = bench.restore(clip, host, "none")
    assert bench.restore(clip, output, "surfaces") == warnings  # no sound
    assert (bench.encoded, bench.fetched) == (0, 0)
    names = sorted(path.name for path in host.iterdir())
    assert len(names) == FRAMES
    assert [(output / name).read_bytes() for name in names] == [(host / name).read_bytes() for name in names]


@pytest.mark.cuda_emulator
def test_an_encoder_that_takes_no_surfaces_gets_frames_through_the_host(
    bench: Bench, clip: Path, through_host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_gpu: int) -> None:
        raise MediaError("no NVENC here")

    monkeypatch.setattr(encoder, "surface_encoder", refused)
    output = tmp_path / "out.mp4"
    (line,) = bench.restore(clip, output, "surfaces")
    assert line.startswith("h264_nvenc gets its frames through the host: ")
    assert line.endswith(": no NVENC here")
    assert (bench.encoded, bench.fetched) == (FRAMES, 0)
    assert content(output) == content(through_host)
