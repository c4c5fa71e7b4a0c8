"""One input into one output: what is opened in which order, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, MachineError, MediaError, OutputError, Restorer
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.errors import NameTakenError
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.restore import job as module
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.job import Job, Restored, restore_job
from swiftvr_trt.runtime.restore.segments.resumable import Joined
from tests.clips import video_pts, write_clip
from tests.runtime.media.images import folder
from tests.runtime.media.videos import EVEN, add_tone, make_checked, make_video, mux_tone

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
    assert said.describe().startswith(f"output: {out}, 20 frames in 0:0")
    assert (said.path, said.frames, said.notes) == (out, 20, ())
    assert display.warnings == []
    assert (asked, opening.sizes) == ([(56, 34)], [SIZE])
    assert display.lines[0].startswith("input:  ")
    assert display.open == set()
    assert video_pts(out) == video_pts(clips[0])


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (0, "250 frames in 0:10 (25.00 frames/s)"),
        (200, "250 frames, 50 of them in 0:10 (5.00 frames/s), 200 kept from before"),
        (250, "250 frames, all kept from before"),
    ],
)
def test_the_speed_counts_only_what_this_run_restored(kept: int, words: str) -> None:
    restored = Restored(Path("new.mp4"), 250, 10.0, kept=kept)
    assert restored.describe() == f"output: new.mp4, {words}"
    assert Job(Path("old.mp4"), "new.mp4").done(restored).kept == kept


def test_frames_of_an_interrupted_run_are_told_apart(
    bundle: Bundle, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "restore_in_pieces", lambda *_: Joined(5, 15, 2.0, (), (), None))
    said = restore_job(Job(clips[0], str(tmp_path / "out.mp4")), REQUEST, Opening(bundle), RecordingDisplay())
    assert (said.frames, said.kept, said.seconds) == (20, 15, 2.0)


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


def test_images_that_are_too_fast_for_a_gif_are_refused_before_a_bundle_is_opened(
    bundle: Bundle, tmp_path: Path
) -> None:
    source, opening = folder(tmp_path / "in", ["1.png", "2.png"], 50, 66), Opening(bundle)
    job = Job(source, str(tmp_path / "out.gif"), Fraction(120))
    with pytest.raises(MediaError, match=r"a GIF holds 100 frames per second at most, but .* has 120: add --rate 50"):
        restore_job(job, REQUEST, opening, RecordingDisplay())
    assert opening.sizes == []


def test_an_image_that_cannot_be_read_costs_no_other_one(bundle: Bundle, tmp_path: Path) -> None:
    source, out = folder(tmp_path / "in", ["1.png", "2.png", "3.png"], 50, 66), tmp_path / "out"
    data = (source / "2.png").read_bytes()
    (source / "2.png").write_bytes(data[:33] + b"?" * (len(data) - 33))
    with pytest.raises(MachineError, match=r"1 of 3 images is left out: .*2\.png cannot be read.*out holds what could"):
        restore_job(Job(source, str(out)), REQUEST, Opening(bundle), RecordingDisplay())
    assert sorted(file.name for file in out.iterdir()) == ["1.png", "3.png"]


def test_an_incomplete_input_is_an_error_and_its_output_stays(bundle: Bundle, tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", 250).read_bytes()
    cut, out = tmp_path / "cut.mkv", tmp_path / "out.mkv"
    cut.write_bytes(whole[: len(whole) // 5])
    with pytest.raises(MachineError, match=r"promises 10\.0 s, .*out\.mkv holds what could be restored$"):
        restore_job(Job(cut, str(out)), REQUEST, Opening(bundle), RecordingDisplay())
    assert 10 < len(video_pts(out)) < 100


def test_an_incomplete_video_is_an_error_into_images_too(bundle: Bundle, tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", 250).read_bytes()
    cut, out = tmp_path / "cut.mkv", tmp_path / "out"
    cut.write_bytes(whole[: len(whole) // 5])
    with pytest.raises(MachineError, match=r"promises 10\.0 s, .*out holds what could be restored$"):
        restore_job(Job(cut, str(out)), REQUEST, Opening(bundle), RecordingDisplay())
    assert 10 < len(list(out.glob("*.png"))) < 100


@pytest.mark.parametrize("output", ["out.mkv", "out"])
def test_a_name_that_is_taken_meanwhile_is_an_error_that_says_where_the_result_is(
    bundle: Bundle, clips: list[Path], tmp_path: Path, output: str
) -> None:
    def take(size: Resolution) -> AbstractContextManager[Restorer]:
        place = tmp_path / output
        place.mkdir(exist_ok=True)
        (place / "mine.txt").write_text("precious")
        return Opening(bundle)(size)

    with pytest.raises(NameTakenError) as error:
        restore_job(Job(clips[0], str(tmp_path / output)), REQUEST, take, RecordingDisplay())
    assert error.value.exit_code == 1
    assert error.value.kept_as.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([output, error.value.kept_as.name])
    assert (tmp_path / output / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize("strict", [False, True])
def test_damage_is_a_warning_and_with_strict_a_failure(bundle: Bundle, tmp_path: Path, strict: bool) -> None:
    clip, out, display = tmp_path / "in.avi", tmp_path / "out.mkv", RecordingDisplay()
    make_checked(clip, EVEN[:9], damaged=[5])
    job = Job(clip, str(out), strict=strict)
    if strict:
        with pytest.raises(MachineError, match=r"^the input is damaged; .*out\.mkv holds what could be restored$"):
            restore_job(job, REQUEST, Opening(bundle), display)
    else:
        assert restore_job(job, REQUEST, Opening(bundle), display).frames == 9
    assert len(video_pts(out)) == 9
    assert display.warnings[0] == "1 frame is damaged in the input and was restored as it is"


@pytest.mark.parametrize("suffix", [".gif", ".apng"])
def test_an_animation_longer_than_a_piece_is_one(bundle: Bundle, tmp_path: Path, suffix: str) -> None:
    """Its encoder writes a header with the first picture: joined, a second one lay in the middle."""
    clip, out = make_video(tmp_path / "in.mkv", EVEN), tmp_path / f"out{suffix}"
    restore_job(Job(clip, str(out), piece_s=0.1), REQUEST, Opening(bundle), RecordingDisplay())
    assert len(video_pts(out)) == len(EVEN)
    assert sum(map(out.read_bytes().count, (b"GIF89a", b"IHDR"))) == 1


@pytest.mark.parametrize(
    ("after", "lost"), [(".mkv", ()), (".gif", ("audio stream 1 (aac) is left out",)), (".mp4", ())]
)
def test_streams_that_the_output_lacks_are_told_in_the_end(
    bundle: Bundle, tmp_path: Path, after: str, lost: tuple[str, ...]
) -> None:
    sounding = make_video(tmp_path / "in.mp4", EVEN[:5], prepare=lambda c, _: add_tone(c), extra=mux_tone)
    request = BundleRequest(resolution="100x132")
    restored = restore_job(Job(sounding, str(tmp_path / f"out{after}")), request, Opening(bundle), RecordingDisplay())
    assert len(restored.lost) == len(lost)
    assert all(found.startswith(expected) for found, expected in zip(restored.lost, lost, strict=True))
    assert set(restored.lost) <= set(restored.notes)
