"""One input into one output: what is opened in which order, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, MachineError, MediaError, OutputError, Restorer
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.restore import job as module
from swiftvr_trt.runtime.restore.job import Job, restore_job
from swiftvr_trt.runtime.restore.selection import BundleRequest
from tests.clips import video_pts, write_clip

from .fleet_lab import RecordingDisplay

SIZE = Resolution(100, 132)
REQUEST = BundleRequest(resolution=str(SIZE))


def test_a_job_survives_the_way_to_another_process() -> None:
    job = Job(Path("a b.mp4"), "out/", Fraction(25), SinkOptions(crf=20, extra=(("tune", "film"),)), "auto", "cuda:1")
    assert Job.from_dict(job.to_dict()) == job


def test_a_job_is_named_by_its_input() -> None:
    assert Job(Path("tapes/one.avi"), "out.mp4").name == "one.avi"
    assert Job(Path(), "out").name == "."


class Opening:
    """`open_restorer` for one bundle; remembers the sizes that it was called with."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.sizes = bundle, list[Resolution]()

    @contextmanager
    def __call__(self, size: Resolution) -> Iterator[Restorer]:
        self.sizes.append(size)
        with Restorer.open(self.bundle, threads=1) as restorer:
            yield restorer


def test_a_file_is_restored_and_described(
    bundle: Bundle, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    display, opening, asked = RecordingDisplay(), Opening(bundle), list[tuple[int, int]]()

    def output_size(request: BundleRequest, width: int, height: int) -> Resolution:
        assert request is REQUEST
        asked.append((width, height))
        return SIZE

    monkeypatch.setattr(module, "output_size", output_size)
    out = tmp_path / "out.mp4"
    said = restore_job(Job(clips[0], str(out)), REQUEST, opening, display)
    assert said.startswith(f"output: {out}, 20 frames in 0:0")
    assert (asked, opening.sizes) == ([(56, 34)], [SIZE])
    assert display.lines[0].startswith("input:  ")
    assert display.open == set()
    assert video_pts(out) == video_pts(clips[0])


@pytest.mark.parametrize(
    ("output", "kind"), [("out.xyz", MediaError), ("no/out.mp4", OutputError), ("there.mp4", MediaError)]
)
def test_an_output_that_cannot_be_written_is_known_before_a_bundle_is_opened(
    bundle: Bundle, clips: list[Path], tmp_path: Path, output: str, kind: type[Exception]
) -> None:
    (tmp_path / "there.mp4").write_text("precious")
    opening = Opening(bundle)
    with pytest.raises(kind):
        restore_job(Job(clips[0], str(tmp_path / output)), REQUEST, opening, RecordingDisplay())
    assert opening.sizes == []


def test_an_incomplete_input_is_an_error_and_its_output_stays(bundle: Bundle, tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", 250).read_bytes()
    cut, out = tmp_path / "cut.mkv", tmp_path / "out.mkv"
    cut.write_bytes(whole[: len(whole) // 5])
    with pytest.raises(MachineError, match=r"promises 10\.0 s, .*out\.mkv holds what could be restored$"):
        restore_job(Job(cut, str(out)), REQUEST, Opening(bundle), RecordingDisplay())
    assert 10 < len(video_pts(out)) < 100
