"""Parts of a video: restored as a frame-exact cut of the file would be, also after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.video.frame import PictureType

from swiftvr_trt import Bundle, MediaError, Restorer, restore_file
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.media.trim import Trim
from swiftvr_trt.runtime.media.trimmed import TrimmedVideo, open_trimmed
from swiftvr_trt.runtime.restore.pipeline import Progress
from swiftvr_trt.runtime.restore.segments.resumable import Joined, restore_in_pieces
from swiftvr_trt.runtime.restore.segments.task import PiecesTask
from tests.conftest import BundleFactory

from .lab import SINK, Interruption, content, interrupt_after, write_clip

PART = Trim(Fraction(3, 2), Fraction(2))
"""Frames 38 to 87 of a clip with 25 per second: the first is shown at 1.52 s."""
FIRST, STOP = 38, 88
SOUND_S = Fraction(1024, 48000)


PLANES = SourceOptions(planes=True)


def restore(
    source: Path,
    output: Path,
    bundle: Bundle,
    trim: Trim = PART,
    on_progress: Callable[[Progress], None] = lambda _now: None,
) -> Joined:
    """Restore a part of `source` in pieces of two chunks."""
    size = bundle.manifest.recipe
    task = PiecesTask(source, output, size.width, size.height, SINK, seconds=2 * size.clip_len / 25)
    with Restorer.open(bundle, threads=1) as restorer, open_trimmed(source, trim, options=PLANES) as opened:
        excerpt = opened.excerpt if isinstance(opened, TrimmedVideo) else None
        task = replace(task, excerpt=excerpt, reading=opened.info.reading)
        return restore_in_pieces(task, opened, restorer.manifest, restorer.session, on_progress, lambda _line: None)


def cut_without_loss(source: Path, path: Path, first: int, stop: int) -> Path:
    """A file with the same pictures and nothing else, from a decoding of the whole."""
    with av.open(str(source)) as container, av.open(str(path), "w") as target:
        video: Any = target.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        for number, frame in enumerate(list(container.decode(container.streams.video[0]))[first:stop]):
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 25), PictureType.NONE
            target.mux(video.encode(frame))
        target.mux(video.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_part_is_restored_like_a_cut_of_the_file(tmp_path: Path, mini_bundle: BundleFactory, suffix: str) -> None:
    bundle, source = mini_bundle(clip_len=4), write_clip(tmp_path / "in.mp4", 120)
    output = tmp_path / f"out{suffix}"
    done = restore(source, output, bundle)
    assert (done.restored, done.kept, done.shortfall) == (STOP - FIRST, 0, None)
    piece = cut_without_loss(source, tmp_path / "cut.mp4", FIRST, STOP)
    restore(piece, tmp_path / f"expected{suffix}", bundle, Trim())
    found, expected = content(output), content(tmp_path / f"expected{suffix}")
    assert [pixels for _, pixels in found["pictures"]] == [pixels for _, pixels in expected["pictures"]]
    times = [time for time, _ in found["pictures"]]
    assert times == [Fraction(number, 25) for number in range(STOP - FIRST)]
    begin, end = found["sound"][0][0], found["sound"][-1][0] + SOUND_S
    assert abs(begin) < SOUND_S
    assert abs(end - Fraction(2)) < SOUND_S + Fraction(1, 25)
    assert list(tmp_path.glob("*.segments")) == []


def test_a_part_goes_on_after_an_interruption(tmp_path: Path, mini_bundle: BundleFactory) -> None:
    bundle, source = mini_bundle(clip_len=4), write_clip(tmp_path / "in.mp4", 120)
    restore(source, tmp_path / "whole.mp4", bundle)
    output = tmp_path / "out.mp4"
    with pytest.raises(Interruption):
        restore(source, output, bundle, on_progress=interrupt_after(30))
    again = restore(source, output, bundle)
    assert again.kept >= 16
    assert again.kept + again.restored == STOP - FIRST
    assert content(output) == content(tmp_path / "whole.mp4")


def test_pieces_of_another_part_are_not_mixed(tmp_path: Path, mini_bundle: BundleFactory) -> None:
    bundle, source = mini_bundle(clip_len=4), write_clip(tmp_path / "in.mp4", 120)
    with pytest.raises(Interruption):
        restore(source, tmp_path / "out.mp4", bundle, on_progress=interrupt_after(30))
    with pytest.raises(MediaError, match=r"the part of the input was 50 frames, .*, now 49 frames"):
        restore(source, tmp_path / "out.mp4", bundle, Trim(Fraction(3, 2), frames=49))


def test_a_part_by_one_call(tmp_path: Path, mini_bundle: BundleFactory) -> None:
    bundle, source = mini_bundle(clip_len=4), write_clip(tmp_path / "in.mp4", 60)
    seen: list[tuple[int, int | None]] = []
    restored = restore_file(
        source,
        tmp_path / "out.mkv",
        bundle=bundle.path,
        start="500ms",
        duration=1.5,
        frames=12,
        on_progress=lambda done, total, _left: seen.append((done, total)),
    )
    assert restored.frames == 12
    assert seen[-1] == (12, 12)
    images = restore_file(source, f"{tmp_path / 'images'}/", bundle=bundle.path, start=2, frames=3)
    assert images.frames == 3
    assert len(list((tmp_path / "images").iterdir())) == 3
