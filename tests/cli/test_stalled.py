"""Inputs that never answer: Ctrl-C ends every command within a second, and pipes hold no batch up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from swiftvr_trt import Bundle
from tests.clips import write_clip
from tests.conftest import BundleFactory
from tests.runtime.media.images import folder
from tests.stalling import build, environment

from .test_run import RUN, SECOND, assert_one_error_line, run

TRIES = 3
SAID = "error: interrupted; nothing was left half-written\n"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None, reason="needs Linux and gcc, to make files that stall"
)


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle()


@pytest.fixture(scope="module")
def stalling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("stalling"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "in.mkv", 600)


def interrupted(command: list[str | Path], stalling: Path, place: Path) -> tuple[float, int, str]:
    """Seconds from Ctrl-C in the terminal to the end of a command that waits for a file, its code and its error."""
    stamp = place / "stamp"
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment(stalling, stamp)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    while not stamp.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    time.sleep(0.2)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    stamp.unlink()
    return time.monotonic() - began, process.returncode, said


def names(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))


@pytest.mark.alone
@pytest.mark.parametrize("call", ["stat", "open", "read", "read-all"])
@pytest.mark.parametrize("kind", ["video", "playlist", "batch", "batch on two devices"])
def test_ctrl_c_ends_a_run_whose_input_does_not_answer(
    bundle: Bundle, clip: Path, stalling: Path, tmp_path: Path, kind: str, call: str
) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    out.mkdir()
    stalled = Path(shutil.copy(clip, inputs / f"stalls-{call}.mkv"))
    command: list[str | Path] = [*RUN, "--bundle", bundle.path, "--threads", "1", "-y"]
    if kind == "video":
        command += [stalled, out / "o.mkv"]
    elif kind == "playlist":
        (inputs / "list").write_text(f"ffconcat version 1.0\nfile {stalled.name}\n")
        command += [inputs / "list", out / "o.mkv", "--allow-playlist"]
    else:
        command += [shutil.copy(clip, inputs / "a.mkv"), stalled, f"{out / 'batch'}/"]
    if kind == "batch on two devices":
        command += ["--devices", "cpu,cpu"]
    took: list[float] = []
    while not took or (took[-1] >= SECOND and len(took) < TRIES):
        seconds, code, said = interrupted(command, stalling, tmp_path)
        took.append(seconds)
        assert code == 130, said
        assert said.endswith(SAID)
        assert "Traceback" not in said
        assert [name for name in names(out) if name != "batch/a.mkv" and name != "batch"] == []  # it may be complete
    assert min(took) < SECOND, took


@pytest.mark.alone
@pytest.mark.parametrize("what", ["image folder", "bundle", "checkpoint", "cached bundle"])
def test_ctrl_c_ends_a_run_that_waits_for_something_else(
    bundle: Bundle, clip: Path, stalling: Path, mini_checkpoint: Path, tmp_path: Path, what: str
) -> None:
    out, source, options = tmp_path / "out", clip, ["--bundle", str(bundle.path)]
    out.mkdir()
    if what == "image folder":
        source = folder(tmp_path / "images", ["1.png", "2.png", "3-stalls-read-all.png"])
    elif what == "bundle":
        options = ["--bundle", str(shutil.copytree(bundle.path, tmp_path / "stalls-read-bundle"))]
    elif what == "checkpoint":
        options = ["--checkpoint", str(shutil.copytree(mini_checkpoint, tmp_path / "stalls-open-checkpoint"))]
    else:
        options = ["--cache", str(tmp_path / "stalls-open-cache")]
        shutil.copytree(bundle.path, tmp_path / "stalls-open-cache" / "bundles" / "b")
        options += ["--resolution", "100x132", "--target", "cpu", "--clip-len", "8"]
    command: list[str | Path] = [*RUN, source, out / "o.mkv", *options]
    took: list[float] = []
    while not took or (took[-1] >= SECOND and len(took) < TRIES):
        seconds, code, said = interrupted(command, stalling, tmp_path)
        took.append(seconds)
        assert (code, said.splitlines(keepends=True)[-1]) == (130, SAID)
        assert names(out) == []
    assert min(took) < SECOND, took


@pytest.mark.parametrize("name", ["in.mp4", "in.png", "in.m3u8", "in"])
def test_a_pipe_is_no_input_of_a_batch(bundle: Bundle, tmp_path: Path, name: str) -> None:
    """It would be waited for until somebody writes into it."""
    os.mkfifo(tmp_path / name)
    outcome = run(tmp_path / name, f"{tmp_path / 'out'}/", "--bundle", bundle.path, "--devices", "cpu")
    assert_one_error_line(outcome, 2, name)
    assert names(tmp_path) == [name]


def test_a_pipe_in_a_folder_of_images_is_skipped(bundle: Bundle, tmp_path: Path) -> None:
    source = folder(tmp_path / "images", ["1.png", "2.png", "3.png"])
    os.mkfifo(source / "0009.png")
    assert run(source, tmp_path / "out", "--bundle", bundle.path).returncode == 0
    assert len(names(tmp_path / "out")) == 3


@pytest.mark.alone
@pytest.mark.parametrize("options", [[], ["--allow-playlist"]], ids=["refused", "allowed"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{pipe}\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile '{pipe}'\n"),
        ("list.mp4", "ffconcat version 1.0\nfile '{pipe}'\n"),
    ],
)
def test_a_playlist_that_names_a_pipe_holds_nothing_up(
    bundle: Bundle, tmp_path: Path, name: str, text: str, options: list[str]
) -> None:
    """Either it is refused at once, or Ctrl-C ends the run."""
    os.mkfifo(tmp_path / "pipe.ts")
    playlist = tmp_path / name
    playlist.write_text(text.format(pipe="pipe.ts"))
    command: list[str | Path] = [*RUN, playlist, tmp_path / "out.mp4", "--bundle", bundle.path, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            assert time.monotonic() - began < SECOND
        else:
            assert process.returncode in (1, 2)
        _, said = process.communicate()
    assert said.splitlines()[-1].startswith("error: ")
    assert names(tmp_path) == sorted([name, "pipe.ts"])


def test_keep_going_finishes_what_a_broken_disk_gave(
    bundle: Bundle, clip: Path, stalling: Path, tmp_path: Path
) -> None:
    """Without the option the run ends with 1, no output and the advice; with it, it exits with 1 all the same."""
    broken, out = Path(shutil.copy(clip, tmp_path / "fails-read.mkv")), tmp_path / "o.mkv"
    assert broken.stat().st_size > 100_000
    environ = {**os.environ, **environment(stalling, tmp_path / "stamp")}
    outcome = run(broken, out, "--bundle", bundle.path, "--threads", "1", env=environ)
    assert_one_error_line(outcome, 1, "Input/output error", "--keep-going")
    assert not out.exists()
    outcome = run(broken, out, "--bundle", bundle.path, "--threads", "1", "--keep-going", env=environ)
    assert_one_error_line(outcome, 1, "Input/output error", "holds what could be restored")
    with av.open(str(out)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert 50 < frames < 600
    assert names(tmp_path) == ["fails-read.mkv", "o.mkv"]
