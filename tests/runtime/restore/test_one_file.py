"""`restore_file`: one call from Python, with the options of `swiftvr-run`."""

from __future__ import annotations

import inspect
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

import swiftvr_trt
from swiftvr_trt import Bundle, BundleError, MachineError, MediaError, MisuseError
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.media.trim import Trim
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.one_file import RestoreOptions, restore_file
from swiftvr_trt.runtime.restore.run import RunOptions
from tests.clips import video_pts, write_clip
from tests.conftest import BundleFactory


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "in.mp4", frames=9)


def test_every_option_of_a_single_run_is_there() -> None:
    """Apart from those of the command line, of batches and dry runs, and what runs work out: GPUs, clocks, forms."""
    kinds = (BundleRequest, SinkOptions, SourceOptions, Trim, RunOptions)
    ours = {each.name for kind in kinds for each in fields(kind)}
    missing = ours - set(RestoreOptions.__annotations__)
    assert set(RestoreOptions.__annotations__) <= ours
    assert missing == {
        "sources",
        "output",
        "request",
        "sink",
        "trim",
        "reading",
        "again",
        "planes",
        "deep",
        "surfaces",
        "clock",
        "cluster",
        "ship",
        "gpu",
        "host",
        "trial",
        "devices",
        "suffix",
        "preview",
        "recursive",
        "skip_existing",
    }


def test_a_file_is_restored_and_described(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None, float | None]] = []
    restored = swiftvr_trt.restore_file(
        clip, tmp_path / "out.mp4", bundle=bundle.path, threads=1, crf=30, on_progress=lambda *now: seen.append(now)
    )
    assert (restored.path, restored.frames, restored.notes) == (tmp_path / "out.mp4", 9, ())
    assert restored.seconds > 0
    assert video_pts(restored.path) == video_pts(clip)
    assert seen[-1] == (9, 9, 0.0)


def test_a_slash_names_a_folder_and_what_is_lost_is_noted(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    folder = f"{tmp_path}/frames.d/"
    restored = restore_file(str(clip), folder, bundle=str(bundle.path), threads=1)
    assert restored.notes == ("images cannot hold audio stream 1 (aac): left out",)
    again = restore_file(folder, tmp_path / "film.mkv", bundle=bundle.path, rate="10", threads=1)
    assert (again.frames, again.notes) == (9, ())
    assert video_pts(again.path) == [Fraction(number, 10) for number in range(9)]


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"bundle": "none"}, BundleError, "none: no such directory"),
        ({"bundle": "b", "checkpoint": "c"}, MisuseError, "--bundle and --checkpoint were both given"),
        ({"crf": 900}, MisuseError, "crf is 900"),
        ({"rate": "fast"}, MisuseError, "rate is 'fast'"),
        ({"colour": "blue"}, TypeError, "unexpected option 'colour'"),
    ],
)
def test_misuse_is_an_error_of_ours(
    clip: Path, tmp_path: Path, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        restore_file(clip, tmp_path / "out.mp4", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("pix_fmt", "options", "suffix", "expected"),
    [
        ("yuv420p10le", {"codec": "libx265", "preset": "ultrafast"}, ".mp4", "yuv420p10le"),
        ("yuv420p10le", {"codec": "libsvtav1", "preset": "12"}, ".mkv", "yuv420p10le"),
        ("yuv420p10le", {"codec": "prores_ks"}, ".mov", "yuv422p10le"),
        ("yuv420p10le", {"codec": "dnxhd", "extra": (("profile", "dnxhr_hqx"),)}, ".mov", "yuv422p10le"),
        ("yuv422p10le", {"codec": "ffv1"}, ".mkv", "yuv420p10le"),
        ("yuv420p", {"codec": "ffv1"}, ".mkv", "yuv420p"),
        ("yuv420p", {"codec": "ffv1", "pix_fmt": "yuv420p10le"}, ".mkv", "yuv420p10le"),
        ("yuv420p10le", {"codec": "ffv1", "pix_fmt": "yuv444p"}, ".mkv", "yuv444p"),
        ("nv12", {"codec": "ffv1"}, ".mkv", "yuv420p"),
        ("gray", {"codec": "ffv1"}, ".mkv", "yuv420p"),
    ],
)
def test_the_output_has_the_depth_of_the_input_or_the_one_asked_for(
    mini_bundle: BundleFactory, tmp_path: Path, pix_fmt: str, options: Any, suffix: str, expected: str
) -> None:
    codec, held = ("rawvideo", ".nut") if pix_fmt == "nv12" else ("ffv1", ".mkv")
    before, after = tmp_path / f"in{held}", tmp_path / f"out{suffix}"
    with av.open(str(before), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(synthetic_frame(index, 48, 64), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    restored = restore_file(before, after, bundle=mini_bundle(256, 128, 4).path, threads=1, **options)
    with av.open(str(after)) as container:
        frames = list(container.decode(video=0))
    assert [frame.format.name for frame in frames] == [expected] * 5
    assert ("frames are converted to" in " ".join(restored.notes)) == (pix_fmt in ("yuv422p10le", "gray"))


def test_an_incomplete_input_is_an_error_and_its_output_stays(bundle: Bundle, tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", 250).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 5])
    with pytest.raises(MachineError, match="holds what could be restored"):
        restore_file(tmp_path / "cut.mkv", tmp_path / "out.mkv", bundle=bundle.path, threads=1)
    assert len(video_pts(tmp_path / "out.mkv")) > 10


def test_a_folder_of_videos_is_not_one_file(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="is a folder of videos, expected one input"):
        restore_file(clip.parent, tmp_path / "out", bundle=bundle.path)
    with pytest.raises(MediaError, match="does not exist"):
        restore_file(tmp_path / "none.mp4", tmp_path / "out.mp4", bundle=bundle.path)


def test_what_the_callback_raises_ends_the_run(bundle: Bundle, tmp_path: Path) -> None:
    long = write_clip(tmp_path / "long.mp4", frames=400)

    def stop(*_: object) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        restore_file(long, tmp_path / "out.mp4", bundle=bundle.path, threads=1, on_progress=stop)
    assert list(tmp_path.iterdir()) == [long]


def test_its_documentation_names_its_errors() -> None:
    assert "SwiftVRError" in (inspect.getdoc(swiftvr_trt.restore_file) or "")
