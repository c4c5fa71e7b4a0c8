"""The page of a restored video says what is in the files, and nothing that its JSON does not hold."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from swiftvr_trt.page.document import Chart, Table, Viewer
from swiftvr_trt.page.restored import MOST_POINTS, Witness, page_of_run
from swiftvr_trt.page.write import html_of
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.media.trim import Trim
from swiftvr_trt.runtime.restore.display import Result
from swiftvr_trt.runtime.restore.job import Job
from tests.clips import write_clip

from .examples import Shown, numbers_in, strings_in


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Witness:
    """A run of 24 frames, whose output is another clip of twice the size."""
    folder = tmp_path_factory.mktemp("run")
    source = write_clip(folder / "in & <before>.mp4", 24, 60, 34)
    output = write_clip(folder / "out.mp4", 24, 120, 68)
    return Witness(
        Job(source, str(output)),
        Result(str(source), str(output), "done", "", 24, 12.5),
        ("swiftvr-run", str(source), str(output)),
        15.25,
        ("input:  60x34, 25 frames/s", "  13.0 s  preparing the model", "no NVIDIA driver was found"),
        ("its closed captions are lost",),
        ((2.75, 0), (5.25, 8), (10.25, 16), (15.25, 24)),
    )


def test_every_figure_on_the_page_is_in_its_json(witness: Witness) -> None:
    shown = Shown(html_of(page_of_run(witness)))
    run = shown.data["run"]
    assert len(shown.figures) > 20
    assert {value for value, _ in shown.figures} <= set(numbers_in(run))
    assert (12.5, "0:12") in shown.figures
    assert (24 / 12.5, "1.92") in shown.figures
    assert (24 / 12.5 / 25, "0.08") in shown.figures
    assert "its closed captions are lost" in shown.texts
    assert "no NVIDIA driver was found" in shown.texts
    assert not any("preparing" in text for text in shown.texts), "lines about progress are of no use afterwards"
    assert "its closed captions are lost" in set(strings_in(run))


def test_frames_of_both_files_are_shown_with_what_changed(witness: Witness) -> None:
    page = page_of_run(witness)
    viewer = next(part for section in page.sections for part in section.parts if isinstance(part, Viewer))
    assert [frame.name for frame in viewer.frames] == [f"0:{number / 25:05.2f}" for number in range(1, 24, 3)]
    assert {(frame.width, frame.height) for frame in viewer.frames} == {(120, 68)}
    assert all(frame.before != frame.after for frame in viewer.frames)
    assert [each["frame"] for each in page.run["shown"]] == list(range(1, 24, 3))


def test_the_same_pictures_have_not_changed(witness: Witness, tmp_path: Path) -> None:
    source = Path(shutil.copy(witness.job.output, tmp_path / "in.mp4"))
    same = replace(witness, job=replace(witness.job, source=source))
    for shown in page_of_run(same).run["shown"]:
        assert (shown["Change"], shown["Fine detail"]) == (0, 1)


def test_a_part_is_compared_with_that_part(witness: Witness, tmp_path: Path) -> None:
    output = write_clip(tmp_path / "part.mp4", 10, 60, 34)  # the first 10 frames of the input
    job = replace(witness.job, output=str(output), trim=Trim(frames=10))
    shown = page_of_run(replace(witness, job=job, result=replace(witness.result, frames=10))).run["shown"]
    later = replace(job, trim=Trim(start=Fraction(1, 2), frames=10))
    moved = page_of_run(replace(witness, job=later, result=replace(witness.result, frames=10))).run["shown"]
    assert max(each["Change"] for each in shown) < min(each["Change"] for each in moved)


@pytest.mark.parametrize(
    ("sink", "suffix", "streams"),
    [
        (SinkOptions(), ".mp4", [("audio stream 1 (aac)", "copied unchanged")]),
        (SinkOptions(audio=False), ".mp4", [("audio stream 1 (aac)", "left out: as asked for")]),
        (SinkOptions(), ".webm", [("audio stream 1 (aac)", "converted to opus")]),
    ],
)
def test_what_became_of_the_streams(
    witness: Witness, tmp_path: Path, sink: SinkOptions, suffix: str, streams: list[tuple[str, str]]
) -> None:
    output = tmp_path / f"out{suffix}"
    output.write_bytes(Path(witness.job.output).read_bytes())
    shown = Shown(html_of(page_of_run(replace(witness, job=replace(witness.job, output=str(output), sink=sink)))))
    for stream, fate in streams:
        assert shown.texts[shown.texts.index(stream) + 1] == fate


def test_a_lost_stream_is_told_once(witness: Witness, tmp_path: Path) -> None:
    output = write_clip(tmp_path / "out.mp4", 24, 60, 34)
    job = replace(witness.job, output=str(output), sink=SinkOptions(audio=False))
    lost = ("audio stream 1 (aac) is left out: nobody wants it", "the closed captions of 3 frames are lost")
    run = replace(witness, job=job, result=replace(witness.result, lost=lost))
    table = next(part for section in page_of_run(run).sections for part in section.parts if isinstance(part, Table))
    assert table.rows == (("audio stream 1 (aac)", "left out: as asked for"), (lost[1], "lost"))


def test_the_speed_of_a_resumed_run_is_that_of_this_run(witness: Witness) -> None:
    resumed = replace(
        witness,
        result=replace(witness.result, seconds=4.0, kept=16),
        progress=((2.0, 16), (5.0, 16), (7.0, 20), (9.0, 24)),
    )
    run = page_of_run(resumed).run
    assert (run["frames"], run["kept"], run["frames_per_second"], run["real_time"]) == (24, 16, 2.0, 2.0 / 25)
    assert run["before_first_frame_s"] == 7.0
    assert [(each["frames"], each["speed"]) for each in run["progress"]] == [(20, 4 / 7), (24, 2.0)]
    shown = Shown(html_of(page_of_run(resumed)))
    assert "Kept from before" in shown.texts
    assert (16, "16") in shown.figures
    assert "Kept from before" not in Shown(html_of(page_of_run(witness))).texts
    nothing = page_of_run(replace(resumed, result=replace(resumed.result, kept=24))).run
    assert nothing["frames_per_second"] is nothing["before_first_frame_s"] is None


def test_a_long_run_has_a_chart_of_bounded_size(witness: Witness) -> None:
    progress = tuple((number / 10, number) for number in range(5000))
    page = page_of_run(replace(witness, progress=progress))
    (chart,) = (part for section in page.sections for part in section.parts if isinstance(part, Chart))
    assert MOST_POINTS / 2 < len(chart.points) <= MOST_POINTS + 1
    assert all(abs(point["y"] - 10) < 1e-6 for point in chart.points)
