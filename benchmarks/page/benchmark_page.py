"""The page of a run of `swiftvr-bench`."""

from __future__ import annotations

import json
from pathlib import Path

from ...page.document import Page
from ...page.write import write_html
from ..suite.record import BenchRun, run_to_json
from ..suite.tables import told_apart
from .cells import with_protocols
from .faithful_frames import frame_sections, quality_section
from .resources import memory_section, roofline_section
from .speed import speed_section, stage_section, waiting_section
from .what_was_run import figures_section, first_section, headline_of, peer_section, run_section


def write_page(run: BenchRun, path: Path) -> None:
    """Write the page of a run in place of what is there. It appears complete or not at all.

    Raises `OutputError`, or `MediaError` if `path` is a directory.
    """
    write_html(page_of_benchmark(run), path, overwrite=True)


def page_of_benchmark(run: BenchRun) -> Page:
    """Everything that a run found out. Its JSON is the record, without the pictures, which are in the page already."""
    record, gpu = _without_pictures(json.loads(run_to_json(run))), run.host.gpu
    run = with_protocols(told_apart(run))
    return Page(
        title=gpu.name if gpu is not None else run.host.cpu,
        subtitle=f"swiftvr-bench {run.tool}, {run.began[:16].replace('T', ' ')} UTC",
        headline=headline_of(run),
        sections=(
            first_section(run),
            speed_section(run),
            stage_section(run),
            waiting_section(run),
            memory_section(run),
            quality_section(run),
            *frame_sections(run),
            roofline_section(run),
            peer_section(run),
            figures_section(run),
            run_section(run),
        ),
        run=record,
    )


def _without_pictures(record: dict[str, object]) -> dict[str, object]:
    cases = record["cases"]
    assert isinstance(cases, list)
    for frame in (frame for case in cases for frame in case["frames"]):
        frame["before"] = frame["after"] = ""
    return record
