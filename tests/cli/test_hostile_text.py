"""Text from files and their names never reaches a terminal as anything but text, whatever the command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from safetensors.torch import load_file, save_file

from swiftvr_trt import Bundle
from swiftvr_trt.cli import console
from swiftvr_trt.cli.export import command as export_command
from swiftvr_trt.cli.run import command as run_command
from tests.conftest import BundleFactory

from .program import Said

HOSTILE = "a\N{ESCAPE}[31mred\N{ESCAPE}]0;title\a\x9b1m\r\N{RIGHT-TO-LEFT OVERRIDE}\u2028\nerror: b"
"""Colours, a window title, the same in one byte, a return, text that runs backwards, and lines of their own."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no files with such names")

Arguments = list[str | Path]


class Place:
    """A folder with hostile content, of which commands are told."""

    def __init__(self, folder: Path, bundle: Path, checkpoint: Path) -> None:
        self.folder, self.bundle, self.checkpoint = folder, bundle, checkpoint

    def named(self, suffix: str = "", content: bytes | None = None) -> Path:
        """A path with a hostile name; a file if there is content for it."""
        path = self.folder / f"{HOSTILE}{suffix}"
        if content is not None:
            path.write_bytes(content)
        return path

    def video(self, suffix: str = ".mkv") -> Path:
        """A video with a hostile name, hostile tags, and a hostile name of its subtitles."""
        path = self.named(suffix)
        with av.open(str(path), "w", format="matroska") as container:
            container.metadata.update({"title": HOSTILE, "comment": HOSTILE, HOSTILE.replace("=", ""): "x"})
            stream: Any = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 56, 34, "yuv420p"
            stream.metadata.update({"title": HOSTILE, "language": HOSTILE})
            for _ in range(3):
                container.mux(stream.encode(av.VideoFrame(56, 34, "yuv420p")))
            container.mux(stream.encode(None))
        return path

    def copy_of_bundle(self, **changes: object) -> Path:
        """The bundle in a folder with a hostile name. changes: of its manifest."""
        path = Path(shutil.copytree(self.bundle, self.named("-bundle")))
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({**manifest, **changes}))
        return path

    def copy_of_checkpoint(self, file: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
        """The checkpoint in a folder with a hostile name, with the tensors of a file changed."""
        path = Path(shutil.copytree(self.checkpoint, self.named("-checkpoint")))
        save_file(change(load_file(path / file)), path / file)
        return path


@pytest.fixture
def place(tmp_path: Path, mini_bundle: BundleFactory, mini_checkpoint: Path) -> Place:
    (tmp_path / "place").mkdir()
    return Place(tmp_path / "place", mini_bundle().path, mini_checkpoint)


def call(command: Any, arguments: Arguments, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Said:
    """A command in this process."""
    monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        console.run(command, "program")
    out, err = capsys.readouterr()
    return Said(caught.value.code, out, err)


def assert_harmless(said: Said) -> None:
    for text in (said.out, said.err):
        assert all(line.isprintable() for line in text.split("\n")), repr(text)
        assert "Traceback" not in text
    assert not any(line.startswith("error: b") for line in said.err.split("\n")), said.err
    assert said.err.split("\n")[-2:-1] == [] or "internal error" not in said.err, said.err


RUNS: dict[str, Callable[[Place], Arguments]] = {
    "missing": lambda p: [p.named(".mp4"), p.folder / "o.mp4", "--bundle", p.bundle],
    "rubbish": lambda p: [p.named(".mp4", b"rubbish" * 99), p.folder / "o.mp4", "--bundle", p.bundle],
    "empty": lambda p: [p.named(".mp4", b""), p.folder / "o.mp4", "--bundle", p.bundle],
    "playlist": lambda p: [
        p.named(".mp4", b"ffconcat version 1.0\nfile x\n"),
        p.folder / "o.mp4",
        "--bundle",
        p.bundle,
    ],
    "entry": lambda p: [
        p.named(".mp4", f"#EXTM3U\n{HOSTILE}\n#EXT-X-ENDLIST".encode()),
        "o.mp4",
        "--allow-playlist",
        "--bundle",
        p.bundle,
    ],
    "image": lambda p: [p.named(".png", b"\x89PNG\r\n\x1a\nrubbish"), p.folder / "o.png", "--bundle", p.bundle],
    "no bundle": lambda p: [p.video(), p.folder / "o.mp4", "--bundle", p.named("-bundle")],
    "no checkpoint": lambda p: [p.video(), p.folder / "o.mp4", "--checkpoint", p.named("-checkpoint")],
    "hub": lambda p: [p.video(), p.folder / "o.mp4", "--checkpoint", f"me/{HOSTILE}"],
    "output folder": lambda p: [p.video(), p.named("-no") / "o.mp4", "--bundle", p.bundle],
    "container": lambda p: [p.video(), p.named(f".{HOSTILE}"), "--bundle", p.bundle],
    "itself": lambda p: [p.video(), p.named(".mkv"), "--bundle", p.bundle, "-y"],
    "codec": lambda p: [p.video(), p.folder / "o.mp4", "--bundle", p.bundle, "--codec", HOSTILE],
    "pix_fmt": lambda p: [p.video(), p.folder / "o.mp4", "--bundle", p.bundle, "--pix-fmt", HOSTILE],
    "preset": lambda p: [p.video(), p.folder / "o.mp4", "--bundle", p.bundle, "--preset", HOSTILE],
    "device": lambda p: [p.video(), p.folder / "o.mp4", "--bundle", p.bundle, "--device", HOSTILE],
    "devices": lambda p: [p.video(), p.folder / "o.mp4", "--bundle", p.bundle, "--devices", HOSTILE],
    "trace": lambda p: [p.video(), p.folder / "o.mp4", "--bundle", p.bundle, "--trace", p.named("-no") / "t"],
    "format": lambda p: [p.video(), p.folder / "o.mp4", "--bundle", p.bundle, "--in-format", HOSTILE],
    "option": lambda p: [p.video(), p.folder / "o.mp4", f"--{HOSTILE}"],
    "resolution": lambda p: [p.video(), p.folder / "o.mp4", "--resolution", HOSTILE],
    "time": lambda p: [p.video(), p.folder / "o.mp4", "--bundle", p.bundle, "--start", HOSTILE],
    "suffix": lambda p: [p.video(), f"{p.folder}/o/", "--devices", "cpu", "--bundle", p.bundle, "--suffix", HOSTILE],
    "manifest": lambda p: [p.video(), p.folder / "o.mp4", "--bundle", p.copy_of_bundle(tool=HOSTILE, format=HOSTILE)],
    "cache": lambda p: [p.video(), p.folder / "o.mp4", "--cache", p.named("-file", b"")],
    "dry run": lambda p: [p.video(), p.named("-o.mkv"), "--bundle", p.copy_of_bundle(), "--dry-run"],
    "dry run, json": lambda p: [p.video(), p.named("-o.mkv"), "--bundle", p.bundle, "--dry-run", "--json"],
    "run": lambda p: [p.video(), p.named("-o.mkv"), "--bundle", p.copy_of_bundle(), "-vv", "--trace", p.named("-t")],
    "run, json": lambda p: [p.video(), p.named("-o.mkv"), "--bundle", p.copy_of_bundle(), "-vv", "--json"],
    "preview": lambda p: [p.video(), p.named("-o.mkv"), "--bundle", p.bundle, "--preview", "1s"],
}
"""What `swiftvr-run` is told."""

EXPORTS: dict[str, Callable[[Place], Arguments]] = {
    "inspect nothing": lambda p: ["inspect", p.named("-bundle")],
    "inspect": lambda p: ["inspect", p.copy_of_bundle()],
    "inspect, json": lambda p: ["inspect", p.copy_of_bundle(), "--json"],
    "manifest": lambda p: ["inspect", p.copy_of_bundle(recipe=HOSTILE)],
    "keys": lambda p: ["inspect", p.copy_of_bundle(**{HOSTILE: 1})],
    "card": lambda p: ["inspect", p.bundle, "--card", HOSTILE],
    "verify": lambda p: ["verify", p.copy_of_bundle(), "--checkpoint", p.named("-no")],
    "target": lambda p: ["build-engine", "--checkpoint", p.checkpoint, "--resolution", "64x64", "--target", HOSTILE],
    "no checkpoint": lambda p: ["onnx", "--checkpoint", p.named("-no"), "--resolution", "64x64", "-o", p.folder / "b"],
    "size": lambda p: ["onnx", "--checkpoint", p.checkpoint, "--resolution", HOSTILE, "-o", p.folder / "b"],
    "tensor": lambda p: [
        "onnx", "--resolution", "64x64", "-o", p.folder / "b", "--checkpoint",
        p.copy_of_checkpoint("reae.safetensors", lambda held: {**held, HOSTILE: next(iter(held.values())).clone()}),
    ],
    "output": lambda p: ["onnx", "--checkpoint", p.checkpoint, "--resolution", "64x64", "-o", p.named("-f", b"") / "b"],
    "calibration": lambda p: [
        "build-engine", "--checkpoint", p.checkpoint, "--resolution", "64x64", "--target", "rtx5090", "--precision",
        "fp8", "-o", p.folder / "b", "--calibration", p.named(".json", json.dumps({HOSTILE: HOSTILE}).encode()),
    ],
    "doctor": lambda p: ["doctor", "--cache", p.named("-cache")],
    "doctor, json": lambda p: ["doctor", "--cache", p.named("-cache"), "--json"],
    "download": lambda p: ["download", "-o", p.named("-file", b"")],
    "command": lambda _: [HOSTILE],
}  # fmt: skip
"""What `swiftvr-export` is told."""


@pytest.mark.parametrize("name", RUNS)
def test_no_run_prints_hostile_text(
    place: Place, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place.folder)
    assert_harmless(call(run_command, RUNS[name](place), monkeypatch, capsys))


@pytest.mark.parametrize("name", EXPORTS)
def test_no_export_prints_hostile_text(
    place: Place, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_harmless(call(export_command, EXPORTS[name](place), monkeypatch, capsys))


@pytest.mark.parametrize("order", [["list"], ["list", "--json"], ["remove", "--all", "--dry-run"], ["remove", "--all"]])
def test_the_cache_prints_no_hostile_text(
    place: Place, order: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = place.named("-cache")
    (cache / "bundles").mkdir(parents=True)
    shutil.copytree(place.bundle, cache / "bundles" / HOSTILE)
    (cache / "bundles" / f"{HOSTILE}.partial-00000000").mkdir()
    (cache / "bundles" / f"{HOSTILE}2").mkdir()
    assert_harmless(call(export_command, ["cache", *order, "--cache", cache], monkeypatch, capsys))


def test_a_batch_in_a_terminal_prints_no_hostile_text(place: Place) -> None:
    """In a terminal, progress is drawn with sequences of our own, but with none from a name."""
    import pty

    folder = place.named("-in")
    folder.mkdir()
    for number in (1, 2):
        shutil.copy(place.video(), folder / f"{number}{HOSTILE}.mkv")
    (folder / f"3{HOSTILE}.mp4").write_bytes(b"rubbish")
    (folder / f"4{HOSTILE}.txt").write_bytes(b"rubbish")
    command: Arguments = [
        sys.executable,
        "-m",
        "swiftvr_trt.cli.run",
        folder,
        f"{place.named('-out')}/",
        "--bundle",
        place.bundle,
    ]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    command += ["--devices", "cpu,cpu"]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as it:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                more = os.read(ours, 1 << 16)
            except OSError:  # the terminal is gone
                break
            drawn += more
            if not more:
                break
        os.close(ours)
        assert it.wait(60) == 1
    text = drawn.decode(errors="replace")
    for sequence in ("\N{ESCAPE}[31mred", "\N{ESCAPE}]0", "\a", "\x9b", "\N{RIGHT-TO-LEFT OVERRIDE}", "\u2028"):
        assert sequence not in text
    assert "\nerror: b" not in text


def test_the_bundle_of_this_test_is_harmless_otherwise(place: Place) -> None:
    """The hostile names do not break what they are names of."""
    assert Bundle.open(place.copy_of_bundle()).manifest.recipe.width == 100
