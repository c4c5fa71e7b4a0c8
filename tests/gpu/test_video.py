"""Video through the GPU's decoder and encoder. Not every GPU has both, and not every container exposes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from swiftvr_trt import restore_file
from swiftvr_trt.benchmarks.suite.clips import write_video
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.runtime.media import Picture, SinkOptions, open_sink, open_source
from swiftvr_trt.runtime.stream.session import Frame

from .conftest import Record, Route, psnr
from .machine import need_video, no_encoder

pytestmark = [pytest.mark.gpu, pytest.mark.alone]

WIDTH, HEIGHT, FRAMES = 320, 180, 25


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "in.mp4"
    write_video(path, (synthetic_frame(index, HEIGHT, WIDTH) for index in range(FRAMES)), crf="10")
    return path


def decoded(path: Path) -> list[Frame]:
    """The frames of a video, decoded in software."""
    with open_source(path) as source:
        return [item.pixels for item in source if isinstance(item, Picture)]


def test_video_is_decoded_by_the_gpu(rehearsal: bool, video: Path, record_property: Record) -> None:
    """NVDEC gives the same pictures as software."""
    if not rehearsal:
        need_video("decode")
    with open_source(video, gpu=None if rehearsal else 0) as source:
        hardware = [item.pixels for item in source if isinstance(item, Picture)]
        assert source.notes == ()
    agreement = psnr(hardware, decoded(video))
    record_property("decoded_psnr_db", round(agreement, 2))
    assert agreement >= 45  # the same numbers, but another pixel format on the way


def test_video_is_encoded_by_the_gpu(rehearsal: bool, video: Path, tmp_path: Path, record_property: Record) -> None:
    """NVENC's file can be read and looks like the original."""
    if not rehearsal:
        need_video("encode")
    options = SinkOptions(gpu=None if rehearsal else 0)
    with (
        open_source(video) as source,
        open_sink(tmp_path / "out.mp4", source.info, WIDTH, HEIGHT, options) as sink,
    ):
        if not rehearsal:
            _skip_without_encoder(sink.notes)
        assert sink.notes == ()
        record_property("encoder", sink.description)
        for item in source:
            sink.write(item)
        sink.commit()
    agreement = psnr(decoded(tmp_path / "out.mp4"), decoded(video))
    record_property("encoded_psnr_db", round(agreement, 2))
    assert agreement >= 22  # many colours in a small file; an unrelated picture has 10


@pytest.mark.parametrize("route", ["graphs-fp32", "engines-fp16"], indirect=True)
def test_frames_that_stay_on_the_gpu_make_the_same_video(
    route: Route, rehearsal: bool, video: Path, tmp_path: Path, record_property: Record
) -> None:
    """`--hwaccel surfaces` writes what `--hwaccel cuda` writes, frame by frame."""
    if not rehearsal:
        need_video("decode")
        need_video("encode")
    found: dict[str, list[Frame]] = {}
    for mode in ("cuda", "surfaces"):
        output = tmp_path / f"{mode}.mkv"
        hwaccel = "none" if rehearsal else mode
        restored = restore_file(video, output, bundle=route.bundle.path, device=route.device, hwaccel=hwaccel, crf=1)
        if not rehearsal:
            _skip_without_encoder(restored.notes)
        assert restored.notes == ()  # such as that frames went through the host
        found[mode] = decoded(output)
    assert len(found["cuda"]) == FRAMES
    differing = sum(not np.array_equal(*pair) for pair in zip(found["cuda"], found["surfaces"], strict=True))
    agreement = psnr(found["surfaces"], found["cuda"])
    record_property("surfaces_psnr_db", round(agreement, 2))
    record_property("surfaces_differing_frames", differing)
    assert agreement >= 50  # the same numbers, whose order in memory the encoder may prefer


def _skip_without_encoder(notes: tuple[str, ...]) -> None:
    from swiftvr_trt.runtime.devices.gpu import Gpu

    why = no_encoder(notes, Gpu(0).compute_capability)
    if why:
        pytest.skip(why)
