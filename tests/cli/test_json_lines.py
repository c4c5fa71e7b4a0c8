"""Events as JSON lines: the schema that programs rely on."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from typing import Any

import click
import pytest

from swiftvr_trt.cli import console, json_lines
from swiftvr_trt.runtime.restore.display import Result


def events(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    assert all(event.pop("version") == json_lines.VERSION for event in found)
    return found


def test_every_call_of_the_display_is_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    with console.display(quiet=False, as_json=True) as display:
        display.begin([("a.mp4", "out/a.mp4")])
        display.say("input:  h264")
        display.warn("transparency\nis dropped", "a.mp4")
        display.update("a.mp4", 50, 150, 12.345)
        display.update("a.mp4", 160, 150, 0.0)
        display.show_nodes({"gpu-1": 110, "gpu-2": 50})
        display.finish("a.mp4")
        display.result(Result("a.mp4", "out/a.mp4", "done", "output: out/a.mp4", 160, 1.23456, kept=120), "a.mp4")
        display.result(Result("b.mp4", "out/b.mp4", "failed", "no frames"))
    json_lines.emit_end(2, "1 of 2 files failed")
    json_lines.emit_end(0)
    out, err = capsys.readouterr()
    assert err == ""
    progress = {"event": "progress", "file": "a.mp4"}
    assert events(out) == [
        {"event": "start", "files": [{"input": "a.mp4", "output": "out/a.mp4"}]},
        {"event": "note", "level": "info", "file": None, "text": "input:  h264"},
        {"event": "note", "level": "warning", "file": "a.mp4", "text": "transparency\nis dropped"},
        {**progress, "frames": 50, "total": 150, "percent": 33.3, "remaining_s": 12.3},
        {**progress, "frames": 160, "total": 150, "percent": 100, "remaining_s": 0.0},
        {"event": "nodes", "frames": {"gpu-1": 110, "gpu-2": 50}},
        {
            "event": "result",
            "file": "a.mp4",
            "input": "a.mp4",
            "output": "out/a.mp4",
            "status": "done",
            "frames": 160,
            "seconds": 1.235,
            "text": "output: out/a.mp4",
            "lost": [],
            "kept": 120,
        },
        {
            "event": "result",
            "file": None,
            "input": "b.mp4",
            "output": "out/b.mp4",
            "status": "failed",
            "text": "no frames",
            **{"frames": None, "seconds": None, "lost": [], "kept": 0},
        },
        {"event": "error", "text": "1 of 2 files failed"},
        {"event": "end", "exit_code": 2},
        {"event": "end", "exit_code": 0},
    ]


def test_what_is_not_known_of_progress_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    json_lines.JsonDisplay().update("a.mp4", 0, None, None)
    unknown = {"total": None, "percent": None, "remaining_s": None}
    assert events(capsys.readouterr().out) == [{"event": "progress", "file": "a.mp4", "frames": 0, **unknown}]


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_a_program_that_no_longer_listens_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None
) -> None:
    if stream is not None:
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    json_lines.emit("note", text="x")
    assert json_lines.why_lost() is None


class _Failing(io.StringIO):
    """A stream whose disk is full, or whose reader is gone."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def flush(self) -> None:
        raise OSError(self._number, "No space left on device")


def test_a_program_that_closes_its_end_of_the_pipe_changes_no_exit_code() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = (
        "from swiftvr_trt import leaving\nfrom swiftvr_trt.cli import json_lines\n"
        "leaving.run_process(lambda: json_lines.emit_end(0))"
    )
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=buffered, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 1), (errno.EPIPE, 0)])
def test_events_that_cannot_be_written_are_said_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    @click.command(context_settings={"ignore_unknown_options": True})
    @click.option("--json", is_flag=True)
    def command(**_: object) -> None:
        json_lines.emit("note", text="x")

    command.prints_events = True  # type: ignore[attr-defined]
    monkeypatch.setattr(json_lines, "_lost", None)
    monkeypatch.setattr(sys, "argv", ["swiftvr-run", "--json"])
    monkeypatch.setattr(sys, "stdout", _Failing(number))
    with pytest.raises(SystemExit) as ended:
        console.run(command, "swiftvr-run")
    assert ended.value.code == code
    said = capsys.readouterr().err
    assert said == ("" if code == 0 else f"error: {_LOST}\n")


_LOST = "events may be missing, standard output could not be written: no space left on device; the exit code was 0"
