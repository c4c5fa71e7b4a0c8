"""The shape of pixels reaches y4m and NUT, which PyAV leaves without one."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.runtime.media import pixel_shape
from swiftvr_trt.runtime.media.muxer import open_muxer
from swiftvr_trt.runtime.media.pyav import fraction


def write(path: Path | io.BytesIO, format_name: str, aspect: Fraction | None, codec: str = "rawvideo") -> None:
    target = io.BytesIO() if isinstance(path, Path) else path
    file = pixel_shape.shaped(target, format_name, aspect)
    with open_muxer(file, format_name) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((72, 64), 40 * number, np.uint8), format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if isinstance(path, Path):
        path.write_bytes(target.getvalue())


@pytest.mark.parametrize(
    ("format_name", "codec"), [("yuv4mpegpipe", "rawvideo"), ("nut", "rawvideo"), ("nut", "ffv1"), ("nut", "libx264")]
)
@pytest.mark.parametrize("aspect", [Fraction(32, 27), Fraction(8, 9), Fraction(64, 45)])
def test_readers_find_the_shape_and_every_picture(
    format_name: str, codec: str, aspect: Fraction, tmp_path: Path
) -> None:
    write(tmp_path / "film", format_name, aspect, codec)
    with av.open(str(tmp_path / "film")) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == aspect
        assert [frame.to_ndarray()[0, 0] // 10 for frame in container.decode(stream)] == [0, 4, 8, 12]


def test_nothing_else_changes() -> None:
    for format_name in ("yuv4mpegpipe", "nut"):
        plain, shaped = io.BytesIO(), io.BytesIO()
        write(plain, format_name, None)
        write(shaped, format_name, Fraction(4, 3))
        assert len(plain.getvalue()) == len(shaped.getvalue())
        assert sum(a != b for a, b in zip(plain.getvalue(), shaped.getvalue(), strict=True)) <= 6


def test_y4m_keeps_a_shape_that_is_known() -> None:
    header = b"YUV4MPEG2 W64 H48 F25:1 Ip A8:9 C420\n A0:0 "
    assert pixel_shape.shape_y4m(header, Fraction(4, 3)) == header
    unknown = header.replace(b"A8:9", b"A0:0")
    assert pixel_shape.shape_y4m(unknown, Fraction(128, 117)) == header.replace(b"A8:9", b"A128:117")


@pytest.mark.parametrize(
    "aspect", [Fraction(128, 117), Fraction(117, 128), Fraction(1000, 3), Fraction(1, 500), Fraction(1015, 1024)]
)
def test_nut_gets_the_nearest_shape_that_its_header_has_room_for(aspect: Fraction) -> None:
    file = io.BytesIO()
    write(file, "nut", aspect)
    file.seek(0)
    with av.open(file) as container:
        found = fraction(container.streams.video[0].sample_aspect_ratio)
    assert found is not None
    assert max(found.as_integer_ratio()) < 128
    within = min(max(aspect, Fraction(1, 127)), Fraction(127))
    assert abs(found / within - 1) < Fraction(1, 250)


@pytest.mark.parametrize("cut", [0, 20, 116, 118, 130])
def test_a_header_that_is_not_whole_stays(cut: int) -> None:
    file = io.BytesIO()
    write(file, "nut", None)
    head = file.getvalue()[:cut]
    assert pixel_shape.shape_nut(head, Fraction(4, 3)) == head


def test_what_cannot_seek_still_cannot() -> None:
    class Pipe:
        closed = False

        def write(self, data: bytes) -> int:
            return len(data)

    assert not hasattr(pixel_shape.shaped(Pipe(), "nut", Fraction(4, 3)), "seek")
    assert hasattr(pixel_shape.shaped(io.BytesIO(), "nut", Fraction(4, 3)), "seek")
