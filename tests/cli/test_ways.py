"""A command line without a model: each way is a command that can be pasted as it is."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt.cli.ways import ways_to_a_model
from tests.clips import write_clip

SIZE = "640x480"


def commands(*arguments: str) -> list[str]:
    return [line.strip() for line in ways_to_a_model(arguments, SIZE) if line.startswith("    ")]


def test_each_way_is_a_command_with_the_users_own_names() -> None:
    assert list(ways_to_a_model(["in.mp4", "out.mp4"], SIZE)) == [
        "A model is needed. Three ways to get one:",
        "  try the demonstration model, which is small and comes with this package:",
        "    swiftvr-run in.mp4 out.mp4 --checkpoint demo",
        "  download the published weights, once (20 GB):",
        "    swiftvr-run in.mp4 out.mp4 --checkpoint hf:H-oliday/SwiftVR",
        "  build a bundle, here or on another machine, and name it:",
        "    swiftvr-export build-engine --checkpoint hf:H-oliday/SwiftVR --resolution 640x480 -o bundle-640x480",
        "    swiftvr-run in.mp4 out.mp4 --bundle bundle-640x480",
    ]


@pytest.mark.parametrize("given", [["--precision", "fp8", "--target=rtx5090"], ["--target=rtx5090", "--clip-len", "8"]])
def test_options_of_the_build_move_to_the_build(given: list[str]) -> None:
    demo, _, build, run = commands(*given, "a.mkv", "b.mkv", "-y")
    assert demo == f"swiftvr-run {' '.join(given)} a.mkv b.mkv -y --checkpoint demo"
    assert f" {' '.join(given)} " in build
    assert run == "swiftvr-run a.mkv b.mkv -y --bundle bundle-640x480"


def test_after_two_dashes_nothing_is_an_option() -> None:
    demo, *_, run = commands("--crf", "20", "--", "-in.mp4", "--target")
    assert demo == "swiftvr-run --crf 20 --checkpoint demo -- -in.mp4 --target"
    assert run == "swiftvr-run --crf 20 --bundle bundle-640x480 -- -in.mp4 --target"


NAMES = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1)


@pytest.mark.skipif(sys.platform == "win32", reason="the commands are for the shell of the platform")
@given(NAMES, NAMES)
def test_a_shell_reads_back_what_was_typed(source: str, output: str) -> None:
    line = commands("--crf", "20", "--", source, output)[0]
    assert shlex.split(line) == ["swiftvr-run", "--crf", "20", "--checkpoint", "demo", "--", source, output]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("name", ["it's $HOME.mp4", "a b & c;d.mp4", 'quote".mp4', "*.mp4", "новый.mp4"])
def test_a_real_shell_reads_back_what_was_typed(tmp_path: Path, name: str) -> None:
    line = commands(name, "out.mp4")[0].replace("swiftvr-run", "printf '%s\\n'", 1)
    said = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert said.stdout.splitlines() == [name, "out.mp4", "--checkpoint", "demo"]


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        (r"C:\films\a.mp4", r"C:\films\a.mp4"),
        (r"C:\My films\a.mp4", r'"C:\My films\a.mp4"'),
        ("a&b.mp4", '"a&b.mp4"'),
        ("(1).mp4", '"(1).mp4"'),
        ("0,1", '"0,1"'),
        ("C:\\My films\\", '"C:\\My films\\\\"'),
    ],
)
def test_on_windows_names_are_quoted_for_its_shells(monkeypatch: pytest.MonkeyPatch, name: str, quoted: str) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert commands(name, "out.mp4")[0] == f"swiftvr-run {quoted} out.mp4 --checkpoint demo"


def test_the_program_says_them_and_exits_with_2(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "my film.mp4", frames=2)
    line = [sys.executable, "-m", "swiftvr_trt.cli.run", str(source), "out.mp4", "--cache", str(tmp_path / "cache")]
    said = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (said.returncode, said.stdout) == (2, "")
    lines = said.stderr.splitlines()
    assert sum(str(source) in line and line.startswith("    swiftvr-run ") for line in lines) == 3
    assert lines[-1].startswith("error: no model was named, and the cache has none for ")
    quiet = subprocess.run([*line, "-q"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert len(quiet.stderr.splitlines()) == 1
    assert not (tmp_path / "out.mp4").exists()
