"""Video through the GPU's decoder and encoder. Not every GPU has both, and not every container exposes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.clips import write_video
from swiftvr_trt.export.verify import synthetic_frame
from swiftvr_trt.runtime.media import Picture, SinkOptions, open_sink, open_source
from swiftvr_trt.runtime.stream.session import Frame

from .conftest import Record, psnr
from .machine import need_video, no_encoder

pytestmark = [pytest.mark.gpu, pytest.mark.alone]

WIDTH, HEIGHT = 320, 180


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "in.mp4"
    write_video(path, (synthetic_frame(index, HEIGHT, WIDTH) for index in range(25)), crf="10")
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


def _skip_without_encoder(notes: tuple[str, ...]) -> None:
    from swiftvr_trt.runtime.devices.gpu import Gpu

    why = no_encoder(notes, Gpu(0).compute_capability)
    if why:
        pytest.skip(why)
