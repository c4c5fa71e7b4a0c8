"""Every command line in README and docs runs, or says why it does not; every option and Python block in them is real.

The commands of a document run in order, in one folder with small files and the demonstration model in place of the
published weights. A block that cannot run here has a line above it that readers do not see:

    <!-- not run: GPU, network -->
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest

from swiftvr_trt.cli.bench import command as bench_command
from swiftvr_trt.cli.export import command as export_command
from swiftvr_trt.cli.run import command as run_command
from swiftvr_trt.export.moving_picture import synthetic_frame

from .clips import write_clip

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))
KINDS = ("sh", "python", "json", "text", "yaml", "ini")
PROGRAMS = {
    "swiftvr-run": "swiftvr_trt.cli.run",
    "swiftvr-export": "swiftvr_trt.cli.export",
    "swiftvr-bench": "swiftvr_trt.cli.bench",
}
OTHERS = ("pip", "python", "py", "make", "docker", "uv", "pytest", ".venv/bin/python", r".venv\Scripts\activate")
REASONS = {
    "GPU": r"--device cuda|--devices 0|--hwaccel|bundle-5090",
    "a decoder's surfaces": r"HWAccel|hwaccel=|video\.decode|Surface|from_dlpack|session\.flush",
    "weights": r"hf:|swiftvr-export download",
    "network": r"pip install|^docker build|^py -m venv|--live|LiveSession",
    "minutes": r"^make |^python -m benchmarks\.|^python tests/oracle/|--tile|^swiftvr-bench --(preset|checkpoint)",
    "records": r"^swiftvr-bench --compare",
    "Docker": r"^docker ",
    "Windows": r"^py |\\",
    "VapourSynth": r"swiftvr_trt|vapoursynth|vs\.",
    "other programs": r" \| |av1an",
    "cluster": r"--cluster|^pip install",
    "several machines": r"^ray |--cluster|^pip install",
    "Kubernetes": r"^kubectl |^helm |--cluster",
}
"""What a marker may say, and what a command that it excuses looks like."""
SMALLER = {
    "1920x1080": "128x96",
    "10s": "0.2s",
    "--start 1:30": "--start 0.1",
    "crop=iw-8:ih-4": "crop=iw:ih",  # needs no bundle of its own
    "--target rtx5090": "--target rtx5090 --precision fp16",  # is not calibrated
}
RTX = importlib.util.find_spec("tensorrt_rtx") is not None

_FENCE = re.compile(r"^```(.*)$")
_MARKER = re.compile(r"^<!-- not run: (.*) -->$")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")


@dataclass(frozen=True)
class Block:
    """A block of code. kind: its language. reasons: why it does not run; empty if it does."""

    document: str
    line: int
    kind: str
    text: str
    reasons: tuple[str, ...]

    def commands(self) -> list[str]:
        joined = self.text.replace("\\\n", " ")
        return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def blocks(document: str) -> Iterator[Block]:
    """The fenced blocks of a document, and the indented ones that hold commands."""
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        opened = _FENCE.match(lines[number])
        if opened:
            end = next(index for index in range(number + 1, len(lines)) if lines[index] == "```")
            yield Block(document, number, opened[1], "\n".join(lines[number + 1 : end]), reasons(lines, number))
            number = end
        elif lines[number].startswith("    ") and is_command(lines[number]):
            end = number
            while end < len(lines) and lines[end].startswith("    "):
                end += 1
            yield Block(document, number, "sh", "\n".join(lines[number:end]), reasons(lines, number))
            number = end
        number += 1


def reasons(lines: list[str], number: int) -> tuple[str, ...]:
    """What the marker above line `number` says. One blank line may lie between."""
    above = next((line for line in reversed(lines[max(0, number - 2) : number]) if line), "")
    marker = _MARKER.match(above)
    return tuple(marker[1].split(", ")) if marker else ()


def is_command(line: str) -> bool:
    words = line.split()
    return len(words) > 1 and words[0] in (*PROGRAMS, *OTHERS)


ALL = [block for document in DOCUMENTS for block in blocks(document)]
COMMANDS = [(block, line) for block in ALL if block.kind == "sh" for line in block.commands()]


def test_there_is_something_to_test() -> None:
    run = [line for block, line in COMMANDS if not block.reasons]
    assert len(run) > 20
    assert {"swiftvr-run", "swiftvr-export"} <= {line.split()[0] for line in run} <= set(PROGRAMS)
    assert {reason for block in ALL for reason in block.reasons} <= set(REASONS)


@pytest.mark.parametrize("block", ALL, ids=lambda block: f"{block.document}:{block.line + 1}")
def test_a_block_names_its_language_and_hides_no_command(block: Block) -> None:
    assert block.kind in KINDS
    if block.kind != "sh":
        assert not any(is_command(line) for line in block.text.splitlines())
    for line in block.commands() if block.reasons else ():
        assert any(re.search(REASONS[reason], line) for reason in block.reasons), f"{line} could run"


def command_of(line: str) -> click.Command:
    """The command of ours that a line calls."""
    program, *words = shlex.split(line, comments=True)
    ours: dict[str, click.Command] = {"swiftvr-run": run_command, "swiftvr-bench": bench_command}
    command = ours.get(program, export_command)
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    return command


def options_of(command: click.Command) -> set[str]:
    own = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union({"--help"}, *(options_of(each) for each in below))


def test_a_command_line_has_only_options_that_exist() -> None:
    for _, line in COMMANDS:
        if line.split()[0] in PROGRAMS:
            assert set(_OPTION.findall(line.split("  #")[0])) <= options_of(command_of(line)), line


@pytest.mark.parametrize("document", DOCUMENTS)
def test_an_option_in_the_text_exists(document: str) -> None:
    known = options_of(run_command) | options_of(export_command) | options_of(bench_command)
    text = re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`\n]+)`", text):
        first = span.split()[0]
        if first.startswith("--") or first in (*PROGRAMS, "doctor", "inspect", "cache", "verify", "build-engine"):
            assert set(_OPTION.findall(span)) <= known, f"{document}: {span}"


def test_what_other_commands_name_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    spans = [span for name in DOCUMENTS for span in re.findall(r"`([^`\n]+)`", (ROOT / name).read_text("utf-8"))]
    for line in [*(line for _, line in COMMANDS), *spans]:
        if "pip install" in line:
            named = re.search(r"\.\[([\w,-]+)\]", line)
            assert named is None or set(named[1].split(",")) <= set(extras), line
        if made := re.match(r"make ([a-z-]+)", line):
            assert made[1] in targets, line
        if module := re.match(r"python -m (benchmarks[\w.]+)", line):
            assert ROOT.joinpath(*module[1].split(".")).with_suffix(".py").exists(), line


class World:
    """A folder with everything that the documents name. Every command runs in it once, whoever names it."""

    def __init__(self, folder: Path) -> None:
        from swiftvr_trt.runtime.media.images_out import encode_image

        self.folder = folder
        self._codes: dict[str, int] = {}
        for name in ("old.mp4", "export/sample.mp4", "tapes/a.avi", "tapes/more/b.avi"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_clip(folder / name, frames=13)
        (folder / "frames").mkdir()
        for index in range(5):
            (folder / "frames" / f"{index:04d}.png").write_bytes(encode_image(synthetic_frame(index, 34, 56), ".png"))
        shutil.copytree(ROOT / "export" / "demo", folder / "SwiftVR")
        assert self.run("swiftvr-export build-engine --checkpoint SwiftVR --resolution 1920x1080 -o bundle-1080p") == 0

    def run(self, line: str) -> int:
        """The exit code of one of our commands, with smaller sizes. Removes what an earlier one made."""
        for large, small in SMALLER.items():
            line = line.replace(large, small)
        program, *words = shlex.split(line, comments=True)
        key = shlex.join([program, *words])
        if key in self._codes:
            return self._codes[key]
        output = words[words.index("-o") + 1] if "-o" in words else words[1] if program == "swiftvr-run" else ""
        if output and (self.folder / output).is_dir():
            shutil.rmtree(self.folder / output)
        elif output:
            (self.folder / output).unlink(missing_ok=True)
        environment = {**os.environ, "SWIFTVR_CACHE": str(self.folder / "cache"), "PYTHONPATH": str(ROOT)}
        call = [sys.executable, "-m", PROGRAMS[program], *words]
        done = subprocess.run(call, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300)
        print(f"$ {key}\n{done.stdout}{done.stderr}")  # shown if the test fails
        assert "Traceback" not in done.stderr
        if done.returncode == 0 and output:
            assert (self.folder / output).exists() is ("--dry-run" not in words)
        self._codes[key] = done.returncode
        return done.returncode


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.mark.slow
@pytest.mark.parametrize("document", sorted({block.document for block, _ in COMMANDS if not block.reasons}))
def test_the_commands_of_a_document_run(world: World, document: str) -> None:
    for block, line in COMMANDS:
        if block.document == document and not block.reasons:
            code = world.run(line)
            assert code == 0 if RTX or "5090" not in line else code in (1, 2), line


@pytest.mark.slow
@pytest.mark.parametrize(
    "block",
    [block for block in ALL if block.kind == "python" and not block.reasons],
    ids=lambda block: f"{block.document}:{block.line + 1}",
)
def test_a_python_block_runs(world: World, block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.folder)
    (world.folder / "new.mp4").unlink(missing_ok=True)
    frames = [synthetic_frame(index, 34, 56) for index in range(6)]
    exec(
        compile(block.text, f"{block.document}:{block.line}", "exec"),
        {"frames": frames, "camera": frames, "data": np.zeros((3, 17, 56), np.uint8)},
    )
