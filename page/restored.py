"""The page of a restored video: frames before and after, how long it took, and what became of its streams."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..installing import tool_version
from ..runtime.media import OutputForm, SourceInfo, open_sink
from ..runtime.restore.display import Result
from ..runtime.restore.job import Job
from .document import Chart, Facts, Frame, Lines, Number, Page, Section, Table, Viewer
from .pictures import as_webp, data_uri, detail_ratio, mean_change, resized, thumbnail
from .samples import Sample, SampledFile, spread

MOST_FRAMES, LEAST_FRAMES = 8, 3
_PIXELS = 25_000_000
"""Of all output frames on a page, at most, unless they are fewer than `LEAST_FRAMES`; that is about 10 MB."""
_BYTES = 16_000_000
"""Of all pictures on a page: noise takes more, and is compressed more."""
MOST_POINTS = 200
"""Of the chart of speed."""
_ELAPSED = re.compile(r" *[0-9.]+ s  ")
"""Begins lines about the progress of a build."""
_METRICS = ("Change", "Fine detail")


@dataclass(frozen=True)
class Witness:
    """What was seen of a run that is over.

    job        its input and output
    result     how it ended
    argv       the command
    seconds    from the start of the command's work to its end
    lines      what it said, in order
    warnings   what it warned about, in order
    progress   (seconds since the start, frames written), increasing
    """

    job: Job
    result: Result
    argv: tuple[str, ...] = ()
    seconds: float = 0.0
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    progress: tuple[tuple[float, int], ...] = ()


def page_of_run(witness: Witness) -> Page:
    """The page of a run that has written its output. Reads a few frames of both files; raises if it cannot."""
    job, output = witness.job, Path(witness.job.output)
    with ExitStack() as stack:
        before = stack.enter_context(SampledFile(job.source, rate=job.rate, trim=job.trim, options=job.reading))
        after = stack.enter_context(SampledFile(output, rate=_rate_of_images(output, before.info)))
        streams = _streams(job, before.info, after.info)
        frames = tuple(_frames(before, after, witness.result.frames or 1))
    run = _json(witness, before.info, after.info, streams, frames)
    return Page(
        title=output.name,
        subtitle=f"Restored from {job.source.name} on {run['date'][:10]}",
        headline=_headline(run),
        sections=(
            Section("Before and after", (_viewer(frames),) if frames else (), lead=_lead(before.info)),
            Section("Time", tuple(_time(run))),
            Section("Files and streams", tuple(_files(run))),
            Section("Notes", (Lines(tuple(run["notes"])),) if run["notes"] else ()),
            Section("The run", tuple(_said(run))),
        ),
        run=run,
    )


@dataclass(frozen=True)
class _Shown:
    """A frame as it is shown, and what is said of it."""

    frame: Frame
    number: int
    seconds: float


def _frames(before: SampledFile, after: SampledFile, count: int) -> Iterator[_Shown]:
    """Frames of both files, one pair in memory at a time."""
    width, height = after.info.width, after.info.height
    most = min(max(_PIXELS // (width * height), LEAST_FRAMES), MOST_FRAMES)
    within_reach = min(reach for reach in (before.within_reach, after.within_reach, count) if reach is not None)
    numbers = spread(within_reach, most)
    pairs = zip(numbers, before.samples(numbers), after.samples(numbers), strict=False)
    for number, old, new in pairs:
        yield _shown(number, old, new, _BYTES // (2 * len(numbers)))


def _shown(number: int, old: Sample, new: Sample, most_bytes: int) -> _Shown:
    height, width = new.pixels.shape[:2]
    larger = resized(old.pixels, width, height)
    metrics = (
        Number(mean_change(larger, new.pixels), "", 1),
        Number(detail_ratio(larger, new.pixels), "×", 2),
    )
    before, after, small = (
        data_uri(as_webp(pixels, most_bytes)) for pixels in (larger, new.pixels, thumbnail(new.pixels))
    )
    name = new.name or _clock(new.seconds)
    return _Shown(Frame(name, before, after, small, width, height, metrics), number, new.seconds)


def _clock(seconds: float) -> str:
    """When a frame is shown: 1:02.40, or 1:01:02.40."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest / 100:05.2f}" if hours else f"{minutes}:{rest / 100:05.2f}"


def _viewer(frames: Sequence[_Shown]) -> Viewer:
    return Viewer("Input, enlarged", "Restored", tuple(shown.frame for shown in frames), _METRICS)


def _lead(info: SourceInfo) -> str:
    treated = f", after these filters: {info.treatment}" if info.treatment else ""
    return (
        f"The input is enlarged with bicubic interpolation{treated}. Change is the mean difference in brightness, of "
        "255. Fine detail compares the steps between neighbouring pixels: below 1 often means less noise, and above 1 "
        "is not always truer."
    )


def _rate_of_images(output: Path, info: SourceInfo) -> Any:
    return info.rate if output.is_dir() else None


def _streams(job: Job, info: SourceInfo, written: SourceInfo) -> OutputForm:
    """What became of the streams, as planned: a trial of the same output."""
    options = replace(job.sink, trial=True, overwrite=True)
    with open_sink(job.output, info, written.width, written.height, options) as sink:
        return sink.form


def _json(  # many parameters: everything that the page is made of
    witness: Witness, before: SourceInfo, after: SourceInfo, streams: OutputForm, frames: Sequence[_Shown]
) -> dict[str, Any]:
    result, job = witness.result, witness.job
    count, seconds = result.frames or 0, result.seconds or 0.0
    speed = (count - result.kept) / seconds if seconds and count > result.kept else None
    return {
        "kind": "restored",
        "version": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "tool": tool_version(),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "argv": list(witness.argv),
        "input": _file(job.source, before),
        "output": {
            **_file(Path(job.output), after),
            "container": streams.container,
            "codec": streams.codec,
            "pixel_format": streams.pix_fmt,
        },
        "frames": count,
        "kept": result.kept,
        "seconds": seconds,
        "total_seconds": witness.seconds,
        "before_first_frame_s": next((moment for moment, done in witness.progress if done > result.kept), None),
        "frames_per_second": speed,
        "real_time": None if speed is None or job.rate is not None else speed / float(before.rate),
        "copied": list(streams.copied),
        "converted": [{"stream": stream, "format": name} for stream, name in streams.converted],
        "left_out": [{"stream": stream, "reason": reason} for stream, reason in streams.left_out],
        "lost": list(result.lost),
        "notes": list(witness.warnings),
        "said": list(witness.lines),
        "progress": _speeds(witness.progress, result.kept),
        "shown": [
            {
                "frame": shown.number,
                "seconds": shown.seconds,
                "name": shown.frame.name,
                **dict(zip(_METRICS, (figure and figure.value for figure in shown.frame.metrics), strict=True)),
            }
            for shown in frames
        ],
    }


def _file(path: Path, info: SourceInfo) -> dict[str, Any]:
    nbytes = None if path.is_dir() else path.stat().st_size
    return {
        "path": str(path),
        "description": info.description,
        "width": info.width,
        "height": info.height,
        "rate": float(info.rate),
        "bytes": nbytes,
    }


def _speeds(progress: Sequence[tuple[float, int]], kept: int) -> list[dict[str, float]]:
    """Frames per second between moments of the run, at most `MOST_POINTS`. kept: frames there at its start."""
    step = max(-(-len(progress) // MOST_POINTS), 1)
    chosen = [*progress[::step], *progress[-1:]]
    speeds = []
    last = (0.0, kept)
    for moment, done in chosen:
        if moment > last[0] and done > last[1]:
            speeds.append({"seconds": moment, "frames": done, "speed": (done - last[1]) / (moment - last[0])})
            last = moment, done
    return speeds


def _headline(run: dict[str, Any]) -> tuple[tuple[str, Number], ...]:
    figures = (
        ("Frames", Number(run["frames"])),
        ("Kept from before", Number(run["kept"] or None)),
        ("Speed", Number(run["frames_per_second"], "frames/s", 2)),
        ("Of real time", Number(run["real_time"], "×", 2)),
        ("Time to restore", Number(run["seconds"], "duration")),
        ("Size of the output", Number(run["output"]["bytes"], "bytes")),
    )
    return tuple((name, figure) for name, figure in figures if figure.is_known)


def _time(run: dict[str, Any]) -> Iterator[Facts | Chart]:
    rows = (
        ("The whole run", Number(run["total_seconds"], "s")),
        ("Before the first frames were written", Number(run["before_first_frame_s"], "s")),
        ("Reading, restoring and writing", Number(run["seconds"], "s")),
    )
    yield Facts(tuple((name, figure) for name, figure in rows if figure.is_known))
    if len(run["progress"]) >= 3:
        yield _speed_chart(run["progress"])


def _speed_chart(speeds: Sequence[dict[str, float]]) -> Chart:
    points = tuple({"x": each["seconds"], "y": each["speed"], "name": "speed"} for each in speeds)
    table = Table(
        "Speed during the run",
        ("After", "Frames written", "Speed since the line above"),
        tuple(
            (Number(each["seconds"], "s"), Number(each["frames"]), Number(each["speed"], "frames/s", 2))
            for each in speeds
        ),
    )
    options = {"x": "seconds since the start", "y": "frames/s", "zero": True, "step": True, "wide": True}
    return Chart("line", "Speed during the run", points, table, options)


def _files(run: dict[str, Any]) -> Iterator[Facts | Table]:
    source, output = run["input"], run["output"]
    yield Facts(
        (
            ("Input", source["description"]),
            ("Output", output["description"]),
            ("Encoder", f"{output['codec']}, {output['pixel_format']}"),
            ("Container", output["container"]),
            ("Size of the input", Number(source["bytes"], "bytes", 1)),
            ("Size of the output", Number(output["bytes"], "bytes", 1)),
        )
    )
    rows = (
        *((stream, "copied unchanged") for stream in run["copied"]),
        *((each["stream"], f"converted to {each['format']}") for each in run["converted"]),
        *((each["stream"], f"left out: {each['reason']}") for each in run["left_out"]),
        *(
            (line, "lost")
            for line in run["lost"]
            if not line.startswith(tuple(each["stream"] for each in run["left_out"]))
        ),
    )
    if rows:
        yield Table("What became of the other streams", ("Stream", "In the output"), rows)


def _said(run: dict[str, Any]) -> Iterator[Facts | Lines]:
    """What the run said, without the lines about its progress."""
    named, others = [], []
    for line in run["said"]:
        name, colon, rest = line.partition(":")
        if colon and name.isalpha():
            named.append((name.capitalize(), rest.strip()))
        elif not _ELAPSED.match(line):
            others.append(line)
    yield Facts(
        (
            *named,
            ("Machine", run["machine"]),
            ("Version", f"swiftvr-trt {run['tool']}"),
            ("Command", " ".join(run["argv"])),
        )
    )
    if others:
        yield Lines(tuple(others))
