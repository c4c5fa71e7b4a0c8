"""Colours: what the scaler does, against the formulas of the standards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from swiftvr_trt.runtime.media import Colour, Picture, open_sink, open_source
from swiftvr_trt.runtime.media.colour import (
    converted,
    display_matrix,
    from_rgb,
    output_colour,
    to_rgb,
    upright,
    usable_matrix,
)
from swiftvr_trt.runtime.media.source_options import SourceOptions

WEIGHTS = {5: (0.299, 0.114), 1: (0.2126, 0.0722), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
COLOURS = [(200, 60, 40), (30, 180, 90), (20, 50, 220), (128, 128, 128), (255, 255, 255), (0, 0, 0), (250, 240, 10)]


def yuv(rgb: tuple[int, int, int], matrix: int, full: bool) -> list[float]:
    """Y, Cb, Cr in 8 bits by the formulas of BT.601, BT.709, SMPTE 240M and BT.2020."""
    red, green, blue = (value / 255 for value in rgb)
    kr, kb = WEIGHTS[matrix]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    scaled = [luma * 255, cb * 255 + 128, cr * 255 + 128] if full else [16 + 219 * luma, 128 + 224 * cb, 128 + 224 * cr]
    return [min(255.0, max(0.0, value)) for value in scaled]


def solid(rgb: tuple[int, int, int], height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), rgb, np.uint8)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", WEIGHTS)
def test_yuv_becomes_the_rgb_of_its_matrix_and_range(matrix: int, full: bool) -> None:
    for rgb in COLOURS:
        frame = av.VideoFrame(64, 48, "yuv420p")
        for plane, value in zip(frame.planes, yuv(rgb, matrix, full), strict=True):
            plane.update(bytes([round(value)]) * plane.buffer_size)
        frame.colorspace, frame.color_range = matrix, 2 if full else 1
        assert np.abs(to_rgb(frame, VideoReformatter()).astype(int) - solid(rgb)).max() <= 2


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", WEIGHTS)
def test_rgb_becomes_the_yuv_of_its_matrix_and_range(matrix: int, full: bool) -> None:
    for rgb in COLOURS:
        frame = from_rgb(solid(rgb), Colour(matrix, full=full), "yuv420p", VideoReformatter())
        found = [np.frombuffer(bytes(plane), np.uint8)[plane.line_size * 5 + 5] for plane in frame.planes]
        assert np.abs(np.subtract(found, yuv(rgb, matrix, full))).max() <= 1.5
        assert frame.color_range == (2 if full else 1)
        assert frame.colorspace == (6 if matrix == 5 else matrix)  # 5 and 6 are two names of one matrix


ANY = SourceOptions(assume_sdr=True)


def write_solid(path: Path, rgb: tuple[int, int, int], colour: Colour, size: tuple[int, int] = (64, 48)) -> None:
    """A tagged video of one colour, encoded by the formulas above and not by the code under test."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = colour.matrix, 2 if colour.full else 1
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        matrix = usable_matrix(colour.matrix, *size)
        for _ in range(2):
            frame = av.VideoFrame(*size, "yuv420p")
            for plane, value in zip(frame.planes, yuv(rgb, matrix, colour.full), strict=True):
                plane.update(bytes([round(value)]) * plane.buffer_size)
            frame.colorspace, frame.color_range = context.colorspace, context.color_range
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    "colour",
    [
        Colour(1, 1, 1),
        Colour(1, 1, 1, True),
        Colour(6, 6, 6),
        Colour(5, 5, 6, True),
        Colour(9, 9, 14),
        Colour(9, 9, 16),
    ],
)
def test_a_solid_colour_and_its_tags_survive_the_way_through(tmp_path: Path, colour: Colour) -> None:
    rgb = (200, 60, 40)
    write_solid(tmp_path / "in.mp4", rgb, colour)
    with open_source(tmp_path / "in.mp4", options=ANY) as source:
        with open_sink(tmp_path / "out.mp4", source.info, 128, 96) as sink:
            for item in source:
                assert isinstance(item, Picture)
                assert np.abs(item.pixels.astype(int) - solid(rgb)).max() <= 2
                sink.write(item.with_pixels(item.pixels.repeat(2, 0).repeat(2, 1)))
            sink.commit()
        assert source.info.colour == colour
    with open_source(tmp_path / "out.mp4", options=ANY) as result:
        assert result.info.colour == colour
        for item in result:
            assert isinstance(item, Picture)
            assert np.abs(item.pixels.astype(int) - solid(rgb, 96, 128)).max() <= 3


def test_an_untagged_video_is_guessed_and_comes_out_tagged(tmp_path: Path) -> None:
    rgb = (200, 60, 40)
    write_solid(tmp_path / "in.mkv", rgb, Colour())
    with open_source(tmp_path / "in.mkv") as source, open_sink(tmp_path / "o.mp4", source.info, 1280, 720) as sink:
        assert source.info.colour == Colour()
        for item in source:
            assert isinstance(item, Picture)
            assert np.abs(item.pixels.astype(int) - solid(rgb)).max() <= 2
            sink.write(item.with_pixels(solid(rgb, 720, 1280)))
        sink.commit()
    with open_source(tmp_path / "o.mp4") as result:
        assert result.info.colour == Colour(matrix=1)
        assert max(np.abs(i.pixels.astype(int) - rgb).max() for i in result if isinstance(i, Picture)) <= 3


@pytest.mark.parametrize(
    ("size", "matrix"),
    [
        ((640, 480), 6),
        ((720, 576), 6),
        ((1024, 576), 6),
        ((1279, 576), 6),
        ((1280, 544), 1),  # a film of 720 lines without its black bars
        ((1920, 800), 1),
        ((720, 577), 1),
        ((960, 720), 1),
        ((608, 1080), 1),
    ],
)
def test_an_untagged_matrix_is_guessed_as_players_do(size: tuple[int, int], matrix: int) -> None:
    """mpv, VLC and Kodi take video for HD that is at least 1280 pixels wide or more than 576 high."""
    assert usable_matrix(2, *size) == matrix


def test_an_untagged_source_is_tagged_for_the_size_of_the_output() -> None:
    assert output_colour(Colour(), (640, 480), "yuv420p").matrix == 6
    assert output_colour(Colour(), (1280, 544), "yuv420p").matrix == 1
    assert output_colour(Colour(6, 6, 6), (1920, 1080), "yuv420p") == Colour(6, 6, 6)


def test_rgb_outputs_have_no_matrix() -> None:
    assert output_colour(Colour(1, 1, 1), (1920, 1080), "gbrp") == Colour(0, 1, 1, full=True)


@pytest.mark.parametrize("name", ["gray", "rgba", "bgra", "gbrp", "rgb48le", "yuvj420p", "yuv444p10le", "nv12", "pal8"])
def test_every_pixel_format_becomes_rgb(name: str) -> None:
    grey = av.VideoFrame.from_ndarray(solid((90, 90, 90)), "rgb24")
    if name == "pal8":
        frame = av.VideoFrame(64, 48, "pal8")
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.planes[1].update(bytes([90, 90, 90, 255]) * 256)
    else:
        full = name.startswith(("gray", "yuvj"))
        frame = converted(grey, format=name, src_color_range=2, dst_color_range=2 if full else 1, dst_colorspace=5)
    assert np.abs(to_rgb(frame, VideoReformatter()).astype(int) - 90).max() <= 2


ONE = 65536


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (None, [[1, 2, 3], [4, 5, 6]]),
        ((ONE, 0, 0, ONE), [[1, 2, 3], [4, 5, 6]]),
        ((0, ONE, -ONE, 0), [[4, 1], [5, 2], [6, 3]]),  # a quarter turn clockwise
        ((0, -ONE, ONE, 0), [[3, 6], [2, 5], [1, 4]]),
        ((-ONE, 0, 0, -ONE), [[6, 5, 4], [3, 2, 1]]),
        ((-ONE, 0, 0, ONE), [[3, 2, 1], [6, 5, 4]]),  # mirrored
        ((ONE, 0, 0, -ONE), [[4, 5, 6], [1, 2, 3]]),
        ((0, ONE, ONE, 0), [[1, 4], [2, 5], [3, 6]]),
        ((0, -ONE, -ONE, 0), [[6, 3], [5, 2], [4, 1]]),
    ],
)
def test_all_eight_orientations_come_out_upright(
    matrix: tuple[int, int, int, int] | None, expected: list[list[int]]
) -> None:
    stored = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)[:, :, None].repeat(3, 2)
    shown = upright(stored, matrix)
    assert shown[:, :, 0].tolist() == expected
    assert shown.flags.c_contiguous


_AT_THE_EDGE = """
import ctypes, mmap, sys
import numpy as np
from av.video.reformatter import VideoReformatter
from swiftvr_trt.runtime.media import Colour
from swiftvr_trt.runtime.media.colour import from_rgb

page, (width, height) = mmap.PAGESIZE, map(int, sys.argv[1:])
count = width * height * 3
size = -(-count // page) * page
memory = mmap.mmap(-1, size + page)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + size), page, 0) == 0
pixels = np.frombuffer(memory, np.uint8, count, size - count).reshape(height, width, 3)
for pix_fmt in ("yuv420p", "yuv444p", "gbrp"):
    from_rgb(pixels, Colour(1, 1, 1), pix_fmt, VideoReformatter())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is protected by mprotect")
@pytest.mark.parametrize(("width", "height"), [(100, 132), (57, 33), (1, 1), (1366, 768)])
def test_nothing_is_read_behind_the_last_pixel(width: int, height: int) -> None:
    """swscale does, and one run in a hundred ended in a segmentation fault."""
    done = subprocess.run([sys.executable, "-c", _AT_THE_EDGE, str(width), str(height)], capture_output=True)
    assert done.returncode == 0


def test_a_frame_is_freed_as_soon_as_nobody_needs_it() -> None:
    frame = av.VideoFrame(64, 48, "yuv420p")
    references = sys.getrefcount(frame)
    assert display_matrix(frame) is None
    assert sys.getrefcount(frame) == references
