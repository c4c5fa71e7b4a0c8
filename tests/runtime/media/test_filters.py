"""Filters change size, rate, clock and number of frames; what is known of the video follows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from swiftvr_trt.errors import MediaError, MisuseError
from swiftvr_trt.runtime.media import Picture, SourceInfo, open_source
from swiftvr_trt.runtime.media.base import Colour
from swiftvr_trt.runtime.media.colour import (
    BT601,
    BT709,
    BT2020,
    FULL,
    LIMITED,
    RGB,
    UNSPECIFIED,
    from_rgb,
    to_rgb,
    upright,
    usable_matrix,
)
from swiftvr_trt.runtime.media.filters import FilterChain, FilterInput, FrameFilter, filters_of
from swiftvr_trt.runtime.media.index import index_video
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.media.trim import Trim

from .videos import EVEN, UNEVEN, frames_of, make_video

ONE = 1 << 16


def pictures(path: Path, vf: str, trim: Trim | None = None) -> tuple[SourceInfo, list[Picture]]:
    options = SourceOptions(deinterlace="no", vf=vf)
    with open_source(path, options=options, trim=trim) as source:
        return source.info, [item for item in source if isinstance(item, Picture)]


def times(found: list[Picture]) -> list[Fraction]:
    return [picture.stamp.pts * picture.stamp.time_base for picture in found]


@pytest.mark.parametrize(
    ("vf", "count", "size", "rate"),
    [
        ("null", 30, (64, 48), 25),
        ("hflip", 30, (64, 48), 25),
        ("crop=32:40", 30, (32, 40), 25),
        ("transpose", 30, (48, 64), 25),
        ("bwdif=mode=send_frame", 30, (64, 48), 25),
        ("bwdif=mode=send_field", 60, (64, 48), 50),
        ("fps=50", 60, (64, 48), 50),
        ("fps=30000/1001", 36, (64, 48), Fraction(30000, 1001)),
        ("framestep=2", 15, (64, 48), Fraction(25, 2)),
        ("decimate", 24, (64, 48), 20),
        ("split[a][b];[b]vflip[c];[a][c]hstack", 30, (128, 48), 25),
        ("[in]format=rgb24,scale=20:10[out]", 30, (20, 10), 25),
        ("select='not(mod(n\\,3))'", 10, (64, 48), 25),
    ],
)
def test_what_filters_make_of_a_video_is_known(
    tmp_path: Path, vf: str, count: int, size: tuple[int, int], rate: Fraction | int
) -> None:
    info, found = pictures(make_video(tmp_path / "in.mp4", EVEN), vf)
    assert (info.width, info.height) == size
    assert info.rate == rate
    assert len(found) == count
    assert [picture.stamp.index for picture in found] == list(range(count))
    assert {picture.pixels.shape for picture in found} == {(size[1], size[0], 3)}
    moments = times(found)
    assert moments == sorted(set(moments))
    if "select" not in vf:
        assert moments == pytest.approx([moments[0] + n / rate for n in range(count)], abs=1 / 1000)
        assert info.frames == pytest.approx(count, abs=1)


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "in.mkv", UNEVEN)
    with open_source(clip) as source:
        expected = times([item for item in source if isinstance(item, Picture)])
    assert times(pictures(clip, "hflip")[1]) == expected


def test_pixels_are_those_of_the_filter(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "in.mp4", EVEN)
    _, plain = pictures(clip, "null")
    _, flipped = pictures(clip, "hflip")
    for before, after in zip(plain, flipped, strict=True):
        assert np.abs(before.pixels[:, ::-1].astype(int) - after.pixels).max() <= 2  # chroma lies elsewhere


def test_the_aspect_follows(tmp_path: Path) -> None:
    def wide(_: Any, stream: Any) -> None:
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)

    clip = make_video(tmp_path / "in.mp4", EVEN, prepare=wide)
    for vf, aspect in (("null", Fraction(16, 11)), ("scale=128:48", Fraction(8, 11)), ("setsar=1", Fraction(1))):
        assert pictures(clip, vf)[0].sample_aspect == aspect


@pytest.mark.parametrize(
    "matrix",
    [(a, b, c, d) for a, d in ((ONE, ONE), (-ONE, ONE), (ONE, -ONE), (-ONE, -ONE)) for b, c in ((0, 0),)]
    + [(0, b, c, 0) for b in (ONE, -ONE) for c in (ONE, -ONE)],
)
def test_filters_see_what_is_shown(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    """The filters in front of those of the user turn a frame as `upright` does."""
    chain = filters_of(SourceOptions(deinterlace="no", vf="null"), matrix)
    assert chain is not None
    assert chain.upright
    clip = make_video(tmp_path / "in.mp4", EVEN[:2])
    _, plain = pictures(clip, "format=rgb24")
    _, turned = pictures(clip, ",".join(("format=rgb24", *chain.first)) if chain.first else "format=rgb24")
    assert (upright(plain[0].pixels, matrix) == turned[0].pixels).all()


def test_deinterlacing_comes_first_and_turns_nothing() -> None:
    assert filters_of(SourceOptions(deinterlace="no"), (0, ONE, -ONE, 0)) is None
    chain = filters_of(SourceOptions(deinterlace="tff"), (0, ONE, -ONE, 0))
    assert chain == FilterChain(("bwdif=mode=send_frame:parity=tff:deint=all",))
    assert not chain.upright
    both = filters_of(SourceOptions(deinterlace="bwdif", vf="hflip"), None)
    assert str(both) == "bwdif=mode=send_frame:deint=all,hflip"


@pytest.mark.parametrize(
    ("vf", "words"),
    [
        ("crop=9999", "Invalid too big"),
        ("drawbox=c=nonsense", "Cannot find color"),
        ("hflip=nonsense=1", "No such option"),
        ("select=0", "give no frame"),
    ],
)
def test_filters_that_cannot_be_used_are_refused_in_their_words(tmp_path: Path, vf: str, words: str) -> None:
    with pytest.raises(MediaError, match=words):
        pictures(make_video(tmp_path / "in.mp4", EVEN[:3]), vf)


def test_a_size_that_filters_change_in_the_middle_is_fitted(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mkv", EVEN[:6])
    vf = r"scale=w=if(gt(n\,2)\,32\,64):h=48:eval=frame"  # counts from 1
    with open_source(path, options=SourceOptions(vf=vf)) as source:
        shapes = [item.pixels.shape for item in source if isinstance(item, Picture)]
        assert "after --vf, from frame 2 on, frames are 32x48, not 64x48: they are fitted into that" in source.notes
    assert shapes == [(48, 64, 3)] * 6


def test_a_filter_that_needs_two_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="2 open inputs"):
        pictures(make_video(tmp_path / "in.mp4", EVEN[:3]), "hstack")


def test_filtered_frames_have_no_index(tmp_path: Path) -> None:
    info, _ = pictures(make_video(tmp_path / "in.mp4", EVEN), "hflip")
    assert index_video(info) == "its frames go through filters"


def test_a_part_is_a_part_of_the_filtered_video(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "in.mp4", EVEN)
    _, whole = pictures(clip, "fps=50")
    _, part = pictures(clip, "fps=50", Trim(Fraction(2, 10), Fraction(4, 10)))
    assert times(part) == [Fraction(n, 50) for n in range(20)]
    assert all((one.pixels == other.pixels).all() for one, other in zip(whole[10:30], part, strict=True))


COLOURS = ((200, 30, 40), (30, 180, 60), (40, 60, 220))


def coloured(pix_fmt: str, matrix: int = BT601, color_range: int = LIMITED, size: tuple[int, int] = (64, 48)) -> Any:
    """A frame with `COLOURS` from left to right."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for index, colour in enumerate(COLOURS):
        pixels[:, index * size[0] // 4 :] = colour
    frame: Any = from_rgb(pixels, Colour(matrix, full=color_range == FULL), pix_fmt, VideoReformatter())
    frame.time_base = Fraction(1, 25)
    return frame


def is_coloured(frame: Any) -> bool:
    pixels = to_rgb(frame, VideoReformatter())
    found = [pixels[12, (index * 4 + 2) * pixels.shape[1] // 16].astype(int) for index in range(len(COLOURS))]
    return bool(np.abs(np.array(found) - COLOURS).max() <= 3)


KINDS = [
    ("yuv420p", BT601, LIMITED),
    ("yuv444p", BT601, LIMITED),
    ("yuv420p10le", BT601, LIMITED),
    ("yuv420p", BT709, LIMITED),
    ("yuv420p", UNSPECIFIED, LIMITED),
    ("yuv420p", BT601, FULL),
    ("yuv422p10le", BT2020, FULL),
    ("rgb24", RGB, FULL),
]


@pytest.mark.parametrize("name", ["null", "vflip"])
@pytest.mark.parametrize("first", KINDS)
def test_frames_of_any_kind_go_through_filters_as_the_first_one(first: tuple[str, int, int], name: str) -> None:
    """As in joined recordings. FFmpeg only warns of such frames, and reads beyond their end."""
    given = FilterInput(Fraction(1, 25), Fraction(25), None)
    frames = [coloured(*kind) for kind in (first, *KINDS, first)]
    assert all(map(is_coloured, frames))
    filters = FrameFilter(FilterChain((name,)), given, frames[0])
    for number, frame in enumerate(frames):
        frame.pts = number
        (found,) = filters.feed(frame)
        assert found.pts == number
        assert (found.format.name, int(found.color_range)) == (frames[0].format.name, first[2])
        assert usable_matrix(int(found.colorspace), 64, 48) == usable_matrix(first[1], 64, 48)
        assert is_coloured(found), KINDS[number - 1]
    assert list(filters.feed(None)) == []


@pytest.mark.parametrize("options", [SourceOptions(vf="hflip"), SourceOptions(deinterlace="bwdif")])
def test_joined_recordings_of_two_pixel_formats_are_filtered(tmp_path: Path, options: SourceOptions) -> None:
    formats = ("yuv444p", "yuv420p")
    parts = [make_video(tmp_path / f"{name}.ts", EVEN, prepare=frames_of(pix_fmt=name)) for name in formats]
    (tmp_path / "in.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_source(tmp_path / "in.ts", options=options) as source:
        found = [item for item in source if isinstance(item, Picture)]
    assert times(found) == [Fraction(number, 25) for number in range(60)]
    for one, other in zip(found[:30], found[30:], strict=True):
        assert np.abs(one.pixels[:20, 36:].astype(int) - other.pixels[:20, 36:]).max() <= 6
