"""Interlaced video is recognised by its flags and by its frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.filter import Graph

from swiftvr_trt.runtime.media import Picture, open_source
from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.media.interlacing import Deinterlacing, FieldOrders, judge
from swiftvr_trt.runtime.media.source_options import SourceOptions

from .videos import EVEN, make_video

SIZE = (160, 576)
SCENE = np.kron(np.random.default_rng(3).integers(0, 256, (76, 34, 3), np.uint8), np.ones((8, 8, 1), np.uint8))


def moving(number: int) -> np.ndarray:
    return np.ascontiguousarray(np.roll(SCENE, 5 * number, axis=1)[: SIZE[1], : SIZE[0]])


def make(path: Path, *, interlaced: bool, flagged: bool, first: str = "top") -> Path:
    """A moving picture of 24 frames, from two moments each if `interlaced`. flagged: the frames say so."""
    codec = "mpeg2video" if flagged else "libx264"
    options = {"flags": "+ilme+ildct", "qscale": "2"} if flagged else {"preset": "ultrafast", "crf": "10"}
    graph, order = Graph(), "tff" if first == "top" else "bff"
    filters = [graph.add("buffer", "video_size=720x576:pix_fmt=yuv420p:time_base=1/50:pixel_aspect=1/1")]
    filters += [graph.add("setfield", order if flagged else "prog"), graph.add("buffersink")]
    graph.link_nodes(*filters).configure()
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(24):
            pixels = moving(2 * number)
            if interlaced:
                pixels[(1 if first == "top" else 0) :: 2] = moving(2 * number + 1)[(1 if first == "top" else 0) :: 2]
            frame = converted(av.VideoFrame.from_ndarray(pixels, "rgb24"), format="yuv420p")
            frame.pts = number
            graph.push(frame)
            shown: Any = graph.pull()
            shown.pts, shown.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(shown))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("fields", "flagged", "deinterlace"),
    [
        (FieldOrders(40, 0, 0), True, "flagged"),
        (FieldOrders(0, 0, 40), True, "no"),
        (FieldOrders(0, 0, 0), True, "flagged"),  # black frames tell nothing: the flags are believed
        (FieldOrders(0, 0, 3), True, "flagged"),
        (FieldOrders(40, 0, 0), False, "tff"),
        (FieldOrders(0, 40, 1), False, "bff"),
        (FieldOrders(30, 0, 10), False, "no"),
        (FieldOrders(5, 0, 0), False, "no"),
        (FieldOrders(0, 0, 0), False, "no"),
    ],
)
def test_flags_and_frames_are_weighed(fields: FieldOrders, flagged: bool, deinterlace: str) -> None:
    assert judge(fields, flagged=flagged).deinterlace == deinterlace


@pytest.mark.parametrize(
    ("interlaced", "flagged", "first", "decided"),
    [
        (True, True, "top", "flagged"),
        (False, True, "top", "no"),
        (True, False, "top", "tff"),
        (True, False, "bottom", "bff"),
        (False, False, "top", "no"),
    ],
)
def test_a_short_look_decides(tmp_path: Path, interlaced: bool, flagged: bool, first: str, decided: str) -> None:
    clip = make(tmp_path / "in.mkv", interlaced=interlaced, flagged=flagged, first=first)
    with open_source(clip) as source:
        assert source.info.reading.deinterlace == decided
        assert ("bwdif" in source.info.description) == (interlaced or flagged)


def combing(pixels: np.ndarray) -> float:
    """How much neighbouring lines differ, against lines two apart."""
    lines = pixels.astype(float).mean(2)
    return float(np.abs(lines[1:-1] - lines[:-2]).mean() / np.abs(lines[2:] - lines[:-2]).mean())


@pytest.mark.parametrize(("vf", "decided"), [("yadif=1", "no"), ("hflip", "flagged")])
def test_a_deinterlacer_of_the_user_is_the_only_one(tmp_path: Path, vf: str, decided: str) -> None:
    clip = make(tmp_path / "in.mkv", interlaced=True, flagged=True)
    with open_source(clip, options=SourceOptions(vf=vf)) as source:
        assert source.info.reading.deinterlace == decided
        assert ("deinterlaced by --vf alone (yadif)" in source.info.description) == (decided == "no")
        assert not any("--deinterlace" in note for note in source.notes)


def test_frames_are_deinterlaced_one_by_one(tmp_path: Path) -> None:
    clip = make(tmp_path / "in.mkv", interlaced=True, flagged=True)
    found = {}
    for mode in ("auto", "bwdif", "no"):
        with open_source(clip, options=SourceOptions(deinterlace=mode)) as source:
            pictures = [item for item in source if isinstance(item, Picture)]
            found[mode] = [picture.stamp for picture in pictures], combing(pictures[8].pixels)
            assert any("interlaced input is restored frame by frame" in note for note in source.notes) == (mode == "no")
    assert found["no"][1] > 2 > 1 > found["auto"][1]
    assert found["auto"] == found["bwdif"]
    assert [stamp.index for stamp in found["auto"][0]] == list(range(24))
    assert [stamp.pts * stamp.time_base for stamp in found["auto"][0]] == [
        stamp.pts * stamp.time_base for stamp in found["no"][0]
    ]


def test_other_sizes_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swiftvr_trt.runtime.media.interlacing._look", None)  # fails if it is called
    with open_source(make_video(tmp_path / "in.mp4", EVEN[:3])) as source:
        assert source.info.reading.deinterlace == "no"


def test_a_decision_has_a_value_that_options_take() -> None:
    for fields in (FieldOrders(40), FieldOrders(0, 40), FieldOrders(0, 0, 40), FieldOrders()):
        for flagged in (False, True):
            decided: Deinterlacing = judge(fields, flagged=flagged)
            assert SourceOptions(deinterlace=decided.deinterlace).deinterlace != "auto"
