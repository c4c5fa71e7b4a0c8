"""A piece of an input, beside the original."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt import Bundle, MachineError, MediaError, MisuseError
from swiftvr_trt.runtime.media import SinkOptions, SourceInfo, open_source
from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.media.index import VideoIndex, index_video
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.restore import hwaccel
from swiftvr_trt.runtime.restore import preview as preview_module
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.preview import Preview
from swiftvr_trt.runtime.restore.run import RunOptions, restore_files
from tests.clips import video_pts, write_clip
from tests.conftest import BundleFactory
from tests.runtime.media.images import folder
from tests.runtime.media.videos import EVEN, make_checked, make_holed, make_unreadable, make_video

from .fleet_lab import RecordingDisplay


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "in.mp4", frames=100)  # 4 s


def test_a_piece_may_lie_behind_a_pause(tmp_path: Path) -> None:
    """What counts is how long the video is shown, not for how long it would be without pauses."""
    path = make_video(tmp_path / "in.mp4", [*EVEN, *(720000 + moment for moment in EVEN)])
    with open_source(path) as source:
        assert Preview(Fraction(1), Fraction(6)).begin(source.info) == 6
        with pytest.raises(MisuseError, match=r"lasts 9\.2 s"):
            Preview(Fraction(1), Fraction(10)).begin(source.info)


def frames(path: Path) -> list[np.ndarray]:
    with av.open(path) as container:
        return [converted(frame, format="rgb24").to_ndarray() for frame in container.decode(video=0)]


def restore(
    bundle: Bundle, source: Path, output: Path, preview: Preview, codec: str | None = None, **options: Any
) -> RecordingDisplay:
    display = RecordingDisplay()
    request, sink = BundleRequest(bundle=bundle.path), SinkOptions(codec=codec)
    asked = RunOptions((source,), str(output), request=request, sink=sink, threads=1, preview=preview, **options)
    restore_files(asked, display)
    return display


def ramp(path: Path, pix_fmt: str, codec: str = "ffv1", opaque: int = 255) -> Path:
    """A video of a ramp with more than 256 steps, which is transparent on the left unless it is opaque."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 56, 34, pix_fmt
        pixels = np.empty((34, 56, 4), np.uint16)
        pixels[..., :3] = np.linspace(0, 65535, 34 * 56).reshape(34, 56, 1)
        pixels[..., 3] = np.maximum(np.linspace(0, 65535, 56), opaque * 257)
        for _ in range(6):
            container.mux(stream.encode(converted(av.VideoFrame.from_ndarray(pixels, "rgba64le"), format=pix_fmt)))
        container.mux(stream.encode(None))
    return path


def test_ten_bits_are_shown_as_such(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    restore(bundle, ramp(tmp_path / "in.mkv", "yuv420p10le"), out, Preview(Fraction(1)), "ffv1")
    with av.open(out) as container:
        frame = next(container.decode(video=0))
    assert frame.format.name == "yuv420p10le"
    assert len(np.unique(frame.to_ndarray()[:132, :100])) > 400  # 8 bits have 256


def test_transparency_is_kept_beside_both_or_refused(bundle: Bundle, tmp_path: Path) -> None:
    source, out = ramp(tmp_path / "in.mkv", "yuva420p", opaque=0), tmp_path / "out.mkv"
    with pytest.raises(MediaError, match=r"is transparent.*--alpha keep"):
        restore(bundle, source, out, Preview(Fraction(1)), "ffv1")
    restore(bundle, source, out, Preview(Fraction(1)), "ffv1", reading=SourceOptions(alpha="keep"))
    with av.open(out) as container:
        alpha = converted(next(container.decode(video=0)), format="rgba").to_ndarray()[..., 3]
    assert np.array_equal(alpha[:, :100], alpha[:, 100:])
    assert (alpha[0, 2] < 30, alpha[0, 97] > 225) == (True, True)


def test_what_is_lost_or_not_as_asked_for_is_said(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hwaccel, "has_driver", lambda: False)
    source = ramp(tmp_path / "in.mkv", "yuv420p10le")
    said = restore(bundle, source, tmp_path / "out.mp4", Preview(Fraction(1)), "mpeg4", hwaccel="cuda").warnings
    assert [word for word in ("no NVIDIA driver", "10 bits") if not any(word in line for line in said)] == []


def test_damage_in_the_piece_is_said_and_strict_fails(bundle: Bundle, tmp_path: Path) -> None:
    source = make_checked(tmp_path / "in.mkv", EVEN[:9], damaged=[4])
    display = restore(bundle, source, tmp_path / "out.mkv", Preview(Fraction(1)))
    assert display.warnings[0] == "1 frame is damaged in the input and was restored as it is"
    with pytest.raises(MachineError, match=r"the input is damaged.*strict.mkv holds what could be restored"):
        restore(bundle, source, tmp_path / "strict.mkv", Preview(Fraction(1)), strict=True)
    assert len(frames(tmp_path / "strict.mkv")) == 9


@pytest.fixture(scope="module")
def holed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_holed(tmp_path_factory.mktemp("holed") / "in.mkv")


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize(
    ("piece", "lacks"),
    [
        (lambda begin, _end: (begin / 2, begin), False),
        (lambda begin, end: (begin / 2, (begin + end) / 2), True),
        (lambda begin, end: ((begin + end) / 2, end + 1), True),
        (lambda _begin, end: (end, 3), False),
    ],
    ids=["before", "to its middle", "from its middle", "to the end of the video"],
)
def test_a_piece_lacks_only_frames_that_it_should_hold(
    holed: Path, monkeypatch: pytest.MonkeyPatch, in_order: bool, piece: Any, lacks: bool
) -> None:
    with open_source(holed) as whole:
        index = index_video(whole.info)
        assert isinstance(index, VideoIndex)
        (hole,) = index.holes_s
        begin, end = map(Fraction, piece(hole.begin, hole.begin + hole.length))
        monkeypatch.setattr(preview_module, "index_video", lambda _: "its clock jumps" if in_order else index)
        with preview_module._Piece(whole, Preview(end - begin, begin)) as shown:
            assert list(shown)
        line = f"frames are missing in the input: {float(hole.length):.2f} s, at {float(hole.begin):.2f} s"
        assert shown.shortfall == (line if lacks else None)


@pytest.mark.parametrize(("begin", "found", "lacks"), [(0, 25, False), (1, 24, True), (2, 25, False)])
def test_a_frame_that_cannot_be_decoded_is_missing_in_the_piece_that_should_hold_it(
    tmp_path: Path, begin: int, found: int, lacks: bool
) -> None:
    path = make_unreadable(tmp_path / "in.mkv", 75, 30)
    with open_source(path) as whole, preview_module._Piece(whole, Preview(Fraction(1), Fraction(begin))) as piece:
        assert len(list(piece)) == found
        line = "this part of the input promises 25 frames, but only 24 could be read"
        assert piece.shortfall == (line if lacks else None)


def test_an_image_that_is_missing_in_the_piece_is_said(bundle: Bundle, tmp_path: Path) -> None:
    source = folder(tmp_path / "in", [f"{number}.png" for number in range(1, 6)], 56, 34)
    (source / "3.png").write_bytes((source / "3.png").read_bytes()[:33] + b"????")
    with pytest.raises(MachineError, match=r"1 of 5 images is left out: .*3\.png"):
        restore(bundle, source, tmp_path / "out.mp4", Preview(Fraction(1)))
    assert len(frames(tmp_path / "out.mp4")) == 4


@pytest.mark.parametrize(("preview", "begin"), [(Preview(Fraction(1)), 38), (Preview(Fraction(1), Fraction(2)), 50)])
def test_the_piece_is_the_one_that_was_asked_for(
    bundle: Bundle, clip: Path, tmp_path: Path, preview: Preview, begin: int
) -> None:
    out = tmp_path / "out.mp4"
    display = restore(bundle, clip, out, preview)
    assert video_pts(out) == [Fraction(number, 25) for number in range(25)]
    assert [(result.status, result.frames) for result in display.results] == [("done", 25)]
    originals = frames(clip)
    for number, both in enumerate(frames(out)):
        assert both.shape == (132, 200, 3)
        before = av.VideoFrame.from_ndarray(originals[begin + number], format="rgb24")
        enlarged = converted(before, width=100, height=132, interpolation="BICUBIC").to_ndarray().astype(float)
        assert np.abs(both[:, :100] - enlarged).mean() < 8  # encoded, so not equal
        others = [np.abs(both[:, :100] - enlarged).mean(), np.abs(both[:, 100:] - enlarged).mean()]
        assert others[0] < others[1]  # the right half is something else
    with av.open(out) as container:
        assert not container.streams.audio
        stream = container.streams.video[0]
        shown = Fraction(stream.width, stream.height) * (stream.sample_aspect_ratio or 1)
    assert abs(shown - 2 * Fraction(56, 34)) < Fraction(1, 20)  # each half keeps its shape


def test_a_short_input_is_shown_in_full(bundle: Bundle, tmp_path: Path) -> None:
    short = write_clip(tmp_path / "short.mkv", frames=9)
    restore(bundle, short, tmp_path / "out.mp4", Preview(Fraction(60)))
    assert len(frames(tmp_path / "out.mp4")) == 9


def test_a_folder_of_images_has_pieces_too(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    request = BundleRequest(bundle=bundle.path)
    restore_files(RunOptions((clip,), f"{tmp_path}/shots/", request=request, threads=1), RecordingDisplay())
    restore(bundle, tmp_path / "shots", tmp_path / "out.mp4", Preview(Fraction(1), Fraction(1)))
    assert len(frames(tmp_path / "out.mp4")) == 25


def test_pieces_that_are_not_there_are_refused(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match=r"--preview-at is 9 s, but .*in.mp4 lasts 4.0 s: choose an earlier moment"):
        restore(bundle, clip, tmp_path / "out.mp4", Preview(Fraction(1), Fraction(9)))
    with pytest.raises(MisuseError, match="--preview is 0 s"):
        Preview(Fraction(0))
    with pytest.raises(MisuseError, match="--preview-at is -1 s"):
        Preview(Fraction(1), Fraction(-1))
    with pytest.raises(MisuseError, match="--preview is for one INPUT"):
        RunOptions((clip, clip), "out/", preview=Preview(Fraction(1)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [38, 40, 62])
def test_where_the_index_is_wrong_the_piece_is_read_in_order(
    bundle: Bundle, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    """The index promises another time stamp for a frame at the beginning, in the middle or at the end of the piece."""

    def mistaken(info: SourceInfo) -> VideoIndex | str:
        index = index_video(info)
        assert not isinstance(index, str)
        times = list(index.times)
        times[wrong] += 1
        return replace(index, times=tuple(times))

    restore(bundle, clip, tmp_path / "right.mkv", Preview(Fraction(1)), "ffv1")
    monkeypatch.setattr(preview_module, "index_video", mistaken)
    restore(bundle, clip, tmp_path / "out.mkv", Preview(Fraction(1)), "ffv1")
    assert video_pts(tmp_path / "out.mkv") == video_pts(tmp_path / "right.mkv")
    ours, theirs = frames(tmp_path / "out.mkv"), frames(tmp_path / "right.mkv")
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one, other)
