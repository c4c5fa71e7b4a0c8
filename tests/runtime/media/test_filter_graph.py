"""Filter graphs as text: what FFmpeg would make of it, and nothing that opens other files."""

from __future__ import annotations

import string

import av.filter
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt.errors import MisuseError
from swiftvr_trt.runtime.media.filter_graph import (
    SAFE,
    FilterStep,
    Link,
    check_built_in,
    deinterlacer_of,
    links,
    parse_graph,
)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("bwdif", [("bwdif", "", (), (), False)]),
        (" crop = 10:20 , hflip ", [("crop", "10:20", (), (), False), ("hflip", "", (), (), True)]),
        ("crop=h='min(20,ih)'", [("crop", "h=min(20,ih)", (), (), False)]),
        (r"select=not(mod(n\,2))", [("select", "not(mod(n,2))", (), (), False)]),
        (r"fade=t='it'\''s'", [("fade", "t=it's", (), (), False)]),
        ("scale@big=2:2", [("scale", "2:2", (), (), False)]),
        (
            "[in]split[a][b];[b]vflip[c];[a][c]hstack[out]",
            [
                ("split", "", ("in",), ("a", "b"), False),
                ("vflip", "", ("b",), ("c",), False),
                ("hstack", "", ("a", "c"), ("out",), False),
            ],
        ),
    ],
)
def test_a_graph_is_read(text: str, steps: list[tuple[str, str, tuple[str, ...], tuple[str, ...], bool]]) -> None:
    assert parse_graph(text) == tuple(FilterStep(*step) for step in steps)


@pytest.mark.parametrize("text", [",", "bwdif,", "bwdif;;hflip", "[a", "[]hflip", "hflip]", "=3", "hflip[a]b"])
def test_what_is_no_graph_is_refused(text: str) -> None:
    with pytest.raises(MisuseError, match=r"^--vf is .*no filter graph at"):
        parse_graph(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "--vf is '', expected filters as"),
        (" ", "--vf is ' ', expected filters as"),
        ("bwdif,", "--vf is 'bwdif,', which is no filter graph at its end, expected filters as"),
        ("=3", "--vf is '=3', which is no filter graph at '=3', expected filters as"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(MisuseError) as error:
        parse_graph(text)
    assert str(error.value).startswith(said)


OPENS_FILES = (
    "movie", "amovie", "lut3d", "lut1d", "haldclut", "subtitles", "ass", "drawtext", "metadata", "ametadata", "psnr",
    "ssim", "sendcmd", "zmq", "frei0r", "ladspa", "removelogo", "curves", "selectivecolor", "deshake", "fieldhint",
    "vidstabdetect", "vidstabtransform", "nnedi", "libvmaf", "libplacebo", "dnn_processing", "sr", "derain", "ocr",
    "signature", "find_rect", "cover_rect", "lensfun", "fsync", "xpsnr", "vmafmotion", "drawvg", "concat", "showinfo",
)  # fmt: skip
WITHOUT_END = ("loop", "reverse", "tpad", "color", "testsrc", "nullsrc", "thumbnail", "random", "realtime", "buffer")


@pytest.mark.parametrize("name", [*OPENS_FILES, *WITHOUT_END])
@pytest.mark.parametrize("text", ["{}=x", "hflip,{}", "split[a];[a]{}", "{}@hflip=x", " \\{} "])
def test_what_may_open_files_or_never_ends_is_refused(name: str, text: str) -> None:
    with pytest.raises(MisuseError, match=r"^--vf has the filter .*ffmpeg -i old.mkv"):
        parse_graph(text.format(name))


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        ("nosuch", "which this FFmpeg does not have: apply"),
        ("hqdn4d", "which this FFmpeg does not have"),
        ("nlmean", r"which this FFmpeg does not have \(it has nlmeans"),
        ("reverse", "keeps the whole video in memory"),
        ("volume=2", "is for sound: apply it to OUTPUT"),
        ("afade", "is for sound"),
        ("movie=x", "may read other files"),
    ],
)
def test_the_reason_is_the_true_one(graph: str, why: str) -> None:
    with pytest.raises(MisuseError, match=why):
        parse_graph(graph)


@pytest.mark.parametrize(
    ("graph", "name"),
    [
        ("hflip,nlmeans", None),
        ("drawbox=c=yadif", None),
        ("yadif=1", "yadif"),
        ("crop=iw-8, bwdif@x=1", "bwdif"),
        ("[in]fieldmatch,decimate[out]", "fieldmatch"),
    ],
)
def test_deinterlacers_are_found_by_their_names(graph: str, name: str | None) -> None:
    assert deinterlacer_of(graph) == name


def test_a_filter_that_this_ffmpeg_lacks_is_named() -> None:
    """As those that take the GPL are lacking, `hqdn3d` and `eq`, where PyAV comes from its wheel."""
    lacking = sorted(SAFE - set(av.filter.filters_available))
    for name in lacking:
        with pytest.raises(MisuseError, match=f"^--vf has the filter '{name}', which this FFmpeg does not have"):
            check_built_in(parse_graph(name))
    check_built_in(parse_graph("nlmeans"))


def test_the_example_is_a_graph_that_works() -> None:
    with pytest.raises(MisuseError, match=r"e\.g\. ") as error:
        parse_graph(";")
    check_built_in(parse_graph(str(error.value).split("e.g. ")[1]))


def test_safe_filters_exist() -> None:
    """Apart from those that this FFmpeg was built without."""
    missing = SAFE - set(av.filter.filters_available)
    assert missing <= {
        "boxblur", "eq", "fspp", "hqdn3d", "kerndeint", "mcdeint", "mpdecimate", "owdenoise", "phase", "pp7", "pullup",
        "repeatfields", "smartblur", "spp", "stereo3d", "uspp", "vaguedenoiser", "zscale",
    }  # fmt: skip


@given(st.text(string.ascii_letters + "[],;='\\ :@0", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        steps = parse_graph(text)
    except MisuseError:
        return
    assert {step.name for step in steps} <= SAFE


def test_chains_and_labels_are_joined() -> None:
    steps = parse_graph("split[a],hflip[b];[a][b]hstack")
    assert links(steps, [(1, 2), (1, 1), (2, 1)]) == [
        Link(None, (0, 0)),
        Link((0, 1), (1, 0)),
        Link((0, 0), (2, 0)),
        Link((1, 0), (2, 1)),
        Link((2, 0), None),
    ]


def test_a_label_may_be_used_before_it_is_made() -> None:
    steps = parse_graph("[x]hflip;vflip[x]")
    assert links(steps, [(1, 1), (1, 1)]) == [Link(None, (1, 0)), Link((1, 0), (0, 0)), Link((0, 0), None)]


@pytest.mark.parametrize(
    ("text", "pads"),
    [("overlay", [(2, 1)]), ("split", [(1, 2)]), ("hflip;vflip", [(1, 1), (1, 1)])],
)
def test_a_graph_has_one_input_and_one_output(text: str, pads: list[tuple[int, int]]) -> None:
    with pytest.raises(MisuseError, match=r"\d open inputs? and \d open outputs?, expected one of each"):
        links(parse_graph(text), pads)
