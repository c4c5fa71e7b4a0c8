"""Other programs: run without a shell, their frames counted, their failures told."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt.benchmarks.suite.clips import count_frames
from swiftvr_trt.benchmarks.suite.commands import arguments_of, measure_command, measure_our_program
from swiftvr_trt.benchmarks.suite.record import How
from swiftvr_trt.benchmarks.suite.work import CaseOrder
from swiftvr_trt.errors import MachineError, MisuseError

from .lab import order_for, trial_bundle

COPY = f'"{sys.executable}" -c "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])" {{input}} {{output}}'


def asked(folder: Path, command: str) -> CaseOrder:
    order = order_for(trial_bundle(), folder, "file")
    return replace(order, subject=replace(order.subject, side=command))


def test_arguments_are_no_shell() -> None:
    found = arguments_of("prog '{input}' -o={output} ; rm $HOME", "a b.mp4", "c;d.mp4")
    assert found == ["prog", "a b.mp4", "-o=c;d.mp4", ";", "rm", "$HOME"]
    with pytest.raises(MisuseError, match="unclosed quotes"):
        arguments_of("prog '{input} {output}", "a", "b")


@pytest.mark.parametrize(
    ("command", "windows", "expected"),
    [
        (r"C:\bin\run.exe {input} {output}", True, [r"C:\bin\run.exe", r"D:\a b.mp4", "c.mp4"]),
        (r'"C:\Program Files\run.exe" -x#1', True, [r"C:\Program Files\run.exe", "-x#1"]),
        (r"/opt/my\ run {input}", False, ["/opt/my run", r"D:\a b.mp4"]),
    ],
)
def test_a_backslash_is_what_the_system_takes_it_for(command: str, windows: bool, expected: list[str]) -> None:
    assert arguments_of(command, r"D:\a b.mp4", "c.mp4", windows=windows) == expected


def test_a_program_is_timed_and_its_frames_are_counted(tmp_path: Path) -> None:
    figures = {one.name: one.value for one in measure_command(asked(tmp_path, COPY), 60).figures}
    assert figures["frames_in"] == figures["frames_out"] == 12
    assert figures["program_fps"] == pytest.approx(12 / figures["program_s"])
    memory = figures.pop("program_rss_bytes", 2e6)  # nobody sees that of a program that is over at once
    assert set(figures) == {"program_fps", "program_s", "frames_in", "frames_out"}
    assert memory > 1e6


def test_a_program_gets_the_whole_clip(tmp_path: Path) -> None:
    order = asked(tmp_path, COPY)
    findings = measure_command(replace(order, protocol=replace(order.protocol, frames=5, requests=1)), 60)
    counts = {one.name: one.value for one in findings.figures if one.unit == "frames"}
    assert counts == {"frames_in": 12, "frames_out": 12}
    assert findings.notes == ()


def test_our_program_is_timed_in_the_same_way(tmp_path: Path) -> None:
    order = order_for(trial_bundle(), tmp_path, "file")
    figures = measure_our_program(replace(order, protocol=replace(order.protocol, requests=1)), 60, How.EMULATED)
    assert {one.name for one in figures} == {"program_fps", "program_s", "program_rss_bytes"}
    assert {one.how for one in figures} == {How.EMULATED}
    assert count_frames(tmp_path / "ours.mp4") == 12


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/no/such/program {input} {output}", "/no/such/program cannot be started"),
        (f"{sys.executable} -c 'import sys; sys.exit(\"no memory\")' {{input}} {{output}}", "exit code 1: no memory"),
        (f"{sys.executable} -c 'pass' {{input}} {{output}}", "ended without an output"),
    ],
)
def test_a_failure_is_one_line(tmp_path: Path, command: str, words: str) -> None:
    with pytest.raises(MachineError) as caught:
        measure_command(asked(tmp_path, command), 60)
    assert words in str(caught.value)


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    command = f"{sys.executable} -c 'import time; time.sleep(60)' {{input}} {{output}}"
    with pytest.raises(MachineError, match="took more than 0 s; give it more time with --limit"):
        measure_command(asked(tmp_path, command), 0.2)
    assert time.monotonic() - began < 30
