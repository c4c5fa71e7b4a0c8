"""Frames in all their forms, and what YUV values mean, by the numbers that the standards print."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from swiftvr_trt import MediaError, MisuseError, Restorer
from swiftvr_trt.engines.bundle.pixel_formats import NV12, P010, RGB24, YUV420P, YUV420P10, PixelFormat
from swiftvr_trt.runtime.stream.frames import MATRICES, FrameForm, Planes, YuvColour, codes, form_of, size_of
from tests.conftest import BundleFactory


@pytest.mark.parametrize(
    ("colour", "bits", "rgb", "expected"),
    [
        (YuvColour(1), 8, (1, 1, 1), (235, 128, 128)),
        (YuvColour(1), 8, (0, 0, 0), (16, 128, 128)),
        (YuvColour(1), 8, (1, 0, 0), (63, 102, 240)),  # BT.709's 100 % colour bars
        (YuvColour(1), 8, (0, 1, 0), (173, 42, 26)),
        (YuvColour(1), 8, (0, 0, 1), (32, 240, 118)),
        (YuvColour(6), 8, (1, 0, 0), (81, 90, 240)),  # BT.601's
        (YuvColour(6), 8, (0, 1, 0), (145, 54, 34)),
        (YuvColour(6), 8, (0, 0, 1), (41, 240, 110)),
        (YuvColour(6, full=True), 8, (1, 0, 0), (76, 85, 255.5)),  # JFIF's
        (YuvColour(9), 10, (1, 1, 1), (940, 512, 512)),
        (YuvColour(9), 10, (0, 0, 1), (116, 960, 476)),  # BT.2020's
        (YuvColour(9, full=True), 10, (1, 1, 1), (1023, 512, 512)),
    ],
)
def test_codes_are_those_of_the_standards(
    colour: YuvColour, bits: int, rgb: tuple[int, ...], expected: tuple[float, ...]
) -> None:
    conversion = colour.from_rgb(bits)
    assert np.abs(conversion.matrix @ np.array(rgb) + conversion.offset - expected).max() <= 0.5


@pytest.mark.parametrize("matrix", sorted(MATRICES))
@pytest.mark.parametrize("full", [False, True])
def test_both_directions_undo_each_other(matrix: int, full: bool) -> None:
    colour, rgb = YuvColour(matrix, full), np.array([0.2, 0.7, 0.4])
    for bits in (8, 10):
        there, back = colour.from_rgb(bits), colour.to_rgb(bits)
        assert np.allclose(back.matrix @ (there.matrix @ rgb + there.offset) + back.offset, rgb, atol=1e-12)


UNDER_A_LIMIT = """
import resource
from pathlib import Path
from swiftvr_trt.runtime.stream.frames import YuvColour
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (8 << 20),) * 2)
print(YuvColour().to_rgb(8).matrix[0, 0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of the address space needs Linux")
def test_short_memory_does_not_end_the_process() -> None:
    """OpenBLAS does that, with a line of its own, where it cannot have 32 MB."""
    done = subprocess.run([sys.executable, "-c", UNDER_A_LIMIT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert float(done.stdout) == pytest.approx(1 / 219)


def test_unknown_matrices_and_sitings_are_refused() -> None:
    with pytest.raises(MisuseError, match="colour matrix is 14"):
        YuvColour(14)
    with pytest.raises(MisuseError, match="siting"):
        YuvColour(1, siting=(0.5, 2.0))


@pytest.mark.parametrize("form", [YUV420P, NV12, YUV420P10, P010], ids=lambda form: form.name)
def test_planes_are_views_of_one_block(form: PixelFormat) -> None:
    planes = Planes.empty(FrameForm(form), 6, 8)
    planes.luma[...] = np.arange(48).reshape(6, 8)
    planes.chroma[..., 0], planes.chroma[..., 1] = 100, 200
    flat = planes.data.reshape(-1)
    assert flat[:48].tolist() == list(range(48))
    assert flat[48:].tolist() == ([100, 200] * 12 if form.interleaved else [100] * 12 + [200] * 12)
    assert (form_of(planes).format, size_of(planes), planes.nbytes) == (form, (6, 8), 72 * (1 + form.wide))


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (YUV420P, np.zeros((3, 4, 7), np.uint8)),
        (YUV420P, np.zeros((2, 4, 8), np.uint8)),
        (YUV420P10, np.zeros((3, 4, 8), np.uint8)),
        (RGB24, np.zeros((3, 4, 8), np.uint8)),
    ],
)
def test_other_data_is_no_frame(form: PixelFormat, data: NDArray[Any]) -> None:
    with pytest.raises(MediaError, match="planes are uint8"):
        Planes(data, FrameForm(form))


def test_two_bytes_are_a_code_in_the_same_memory() -> None:
    buffer = np.zeros((2, 3, 4, 5, 2), np.uint8)
    codes(buffer, P010)[0, 0, 0, 0] = 0x1234
    assert buffer[0, 0, 0, 0].tolist() == [0x34, 0x12]


def test_a_stream_gives_what_it_takes_or_what_the_session_asks_for(mini_bundle: BundleFactory) -> None:
    """Planes and RGB of the same picture are restored to the same picture."""
    deep = FrameForm(YUV420P10, YuvColour(9, full=True))
    picture = np.full((24, 36, 3), 90, np.uint8)
    grey = Planes.empty(FrameForm(NV12, YuvColour(6, full=True)), 24, 36)
    grey.luma[...], grey.chroma[...] = 90, 128
    with Restorer.open(mini_bundle(), threads=1) as restorer:
        rgb = list(restorer.restore([picture] * 5))
        planes = list(restorer.restore([grey] * 5))
        wide = list(restorer.restore([picture.astype(np.uint16) * 257] * 5))
        with restorer.session(deep) as session:
            given = [frame for _ in range(5) for frame in session.feed(grey)] + session.flush()
    assert len(planes) == len(rgb) == len(given) == 5
    for one, other, fine, asked in zip(rgb, planes, wide, given, strict=True):
        assert isinstance(other, Planes)
        assert isinstance(asked, Planes)
        assert (other.form, asked.form) == (grey.form, deep)
        assert np.abs(fine / 257 - one).max() <= 0.51
        for found, colour, bits in ((other, grey.form.colour, 8), (asked, deep.colour, 10)):
            conversion = colour.from_rgb(bits)
            luma = one @ conversion.matrix[0] / 255 + conversion.offset[0]
            assert np.abs(found.luma - luma).max() <= 2 * 2 ** (bits - 8)


def test_another_form_in_the_middle_of_a_stream_is_refused(mini_bundle: BundleFactory) -> None:
    with Restorer.open(mini_bundle(), threads=1) as restorer, restorer.session() as session:
        session.feed(np.zeros((8, 8, 3), np.uint8))
        with pytest.raises(MediaError, match=r"frame 1 is rgb48 8x8, the stream began with rgb24"):
            session.feed(np.zeros((8, 8, 3), np.uint16))
