"""`swiftvr-run --report FILE.html`: a page about a video that was restored. It is written last and fails no run."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MisuseError, SwiftVRError, message_of
from ..runtime.media.pipes import input_name, is_input_pipe, is_output_pipe, output_name
from ..runtime.restore.inputs import find_inputs
from ..runtime.restore.side_file import check_side_file

if TYPE_CHECKING:
    from ..runtime.restore.display import Display, Result
    from ..runtime.restore.run import RunOptions

_MOST_KEPT = 4096
"""Moments of a run's progress that are kept; then every other one is dropped."""


def check_report(options: RunOptions, report: Path) -> None:
    """Raise, before anything is done, if there cannot be a report of this run, or none at this place."""
    output = options.output
    if is_output_pipe(output):
        raise MisuseError(f"--report reads OUTPUT again, but {output_name(output)} is a pipe: write a file")
    for source in options.sources:
        if is_input_pipe(source):
            raise MisuseError(f"--report reads INPUT again, but {input_name(source)} is a pipe: restore from a file")
    if options.preview is not None:
        raise MisuseError("--report and --preview were both given, expected one: the preview shows both pictures")
    batch = options.into_folder
    if batch or find_inputs(options.sources, output, recursive=options.recursive, batch=batch).is_batch:
        raise MisuseError("--report is for one INPUT; restore that file by itself")
    if report.suffix.lower() not in (".html", ".htm"):
        raise MisuseError(f"--report is {report}, expected the name of a page, e.g. report.html")
    check_side_file("--report", report, options.sources[0], Path(output), overwrite=options.sink.overwrite)
    if options.trace is not None and report.absolute() == options.trace.absolute():
        raise MisuseError(f"--report and --trace are both {report}: give each a name of its own")


def restore_and_report(options: RunOptions, report: Path, display: Display) -> None:
    """Restore the only source, and write the report when the output is complete."""
    from ..runtime.restore.run import restore_files

    witness = _Witnessing(display)
    try:
        restore_files(options, witness)
    except SwiftVRError:
        if witness.has_begun:
            display.warn(f"no report was written: {output_name(options.output)} is not complete")
        raise
    witness.write_report(options, report)


class _Witnessing:
    """A display that passes everything on to another one, and remembers what the report tells."""

    def __init__(self, inner: Display) -> None:
        self._inner = inner
        self._began = time.monotonic()
        self._lines: list[str] = []
        self._warnings: list[str] = []
        self._progress: list[tuple[float, int]] = []
        self._result: Result | None = None

    def begin(self, files: Sequence[tuple[str, str]]) -> None:
        self._inner.begin(files)

    def say(self, line: str, name: str = "") -> None:
        self._lines.append(line)
        self._inner.say(line, name)

    def warn(self, line: str, name: str = "") -> None:
        self._warnings.append(line)
        self._inner.warn(line, name)

    def update(self, name: str, done: int, total: int | None, remaining: float | None) -> None:
        self._progress.append((time.monotonic() - self._began, done))
        if len(self._progress) > _MOST_KEPT:
            del self._progress[::2]
        self._inner.update(name, done, total, remaining)

    def show_nodes(self, frames: Mapping[str, int]) -> None:
        self._inner.show_nodes(frames)

    def finish(self, name: str) -> None:
        self._inner.finish(name)

    def result(self, result: Result, name: str = "") -> None:
        self._result = result
        self._inner.result(result, name)

    @property
    def has_begun(self) -> bool:
        """True if frames were written."""
        return any(done for _, done in self._progress)

    def write_report(self, options: RunOptions, report: Path) -> None:
        """Write the page of the run that was shown. Warns in one line if that is impossible."""
        seconds = time.monotonic() - self._began
        if self._result is None or self._result.status != "done":
            self._inner.warn(f"no report was written: {options.output} was not written by this run")
            return
        try:
            from ..page.restored import Witness, page_of_run
            from ..page.write import write_html
            from ..runtime.restore.run import only_job

            self._inner.say("report: reading frames of both files")
            witness = Witness(
                only_job(options),
                self._result,
                ("swiftvr-run", *sys.argv[1:]),
                seconds,
                tuple(self._lines),
                tuple(self._warnings),
                tuple(self._progress),
            )
            write_html(page_of_run(witness), report, overwrite=options.sink.overwrite)
        except Exception as error:  # noqa: BLE001 - the video is complete, which nothing here may hide
            self._inner.warn(f"the report {report} was not written: {message_of(error)}")
        else:
            self._inner.say(f"report: {report}")
