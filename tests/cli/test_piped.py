"""`swiftvr-run - -` between other programs: real processes, real pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import av
import pytest

from swiftvr_trt import Bundle
from tests.clips import video_pts, write_clip
from tests.conftest import BundleFactory
from tests.patience import PATIENCE_S

from .test_run import RUN, SECOND, assert_one_error_line, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its pipes have not been tried")


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle()


@pytest.fixture(scope="module")
def nut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with sound in a format that needs no seeking."""
    return write_clip(tmp_path_factory.mktemp("clip") / "in.nut")


def piped(*arguments: object, data: bytes | None = None, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [*RUN, *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, timeout=60, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_a_video_goes_through(bundle: Bundle, nut: Path, tmp_path: Path) -> None:
    """Standard output holds the video and nothing else."""
    done = piped("-", "-", "--bundle", bundle.path, "--threads", 1, data=nut.read_bytes(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"output: standard output, 30 frames" in done.stderr
    assert list(tmp_path.iterdir()) == []
    out = tmp_path / "out.nut"
    out.write_bytes(done.stdout)
    with av.open(out) as container, av.open(nut) as source:
        packets = [[bytes(packet) for packet in each.demux(audio=0) if packet.size] for each in (container, source)]
    assert packets[0] == packets[1]
    assert video_pts(out) == video_pts(nut)


def test_a_redirected_file_may_need_seeking(bundle: Bundle, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=5)
    with clip.open("rb") as file:
        done = piped("-", tmp_path / "out.mkv", "--bundle", bundle.path, "--threads", 1, stdin=file)
    assert done.returncode == 0, done.stderr


def test_a_video_that_breaks_off_is_said(bundle: Bundle, nut: Path, tmp_path: Path) -> None:
    with av.open(str(nut)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pos is not None and packet.size]
    middle = packets[len(packets) // 2]
    data = nut.read_bytes()[: cast(int, middle.pos) + middle.size // 2]  # between two packets nothing would tell
    done = piped("-", "-", "--bundle", bundle.path, "--threads", 1, data=data, cwd=tmp_path)
    assert done.returncode == 1
    assert b"standard output was given what could be restored" in done.stderr.splitlines()[-1]


def test_a_reader_that_leaves_ends_the_run_and_the_writer(bundle: Bundle, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.nut", frames=200).read_bytes()
    pipe = subprocess.PIPE
    command = [*RUN, "-", "-", "--bundle", str(bundle.path), "--threads", "1"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=tmp_path, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(clip)  # it stays open: more could follow
        assert process.stdout.read(1000)
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 1
        with pytest.raises(BrokenPipeError):
            process.stdin.write(bytes(1 << 20))
        said = process.stderr.read().decode()
    assert said.splitlines()[-1].startswith("error: standard output was closed by the program that reads it")
    assert "Traceback" not in said


@pytest.mark.alone
@pytest.mark.parametrize("sent", [0, 1])
def test_ctrl_c_ends_a_run_whose_pipe_is_silent(bundle: Bundle, nut: Path, tmp_path: Path, sent: int) -> None:
    out, pipe = tmp_path / "out.mkv", subprocess.PIPE
    command = [*RUN, "-", str(out), "--bundle", str(bundle.path), "--threads", "1"]
    process = subprocess.Popen(command, stdin=pipe, stderr=pipe, cwd=tmp_path)
    assert process.stdin is not None
    process.stdin.write(nut.read_bytes() * sent)
    process.stdin.flush()
    time.sleep(3)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    code = process.wait(10)
    assert time.monotonic() - began < SECOND
    assert code == 130
    assert list(tmp_path.iterdir()) == []
    process.communicate()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-", "o.mkv", "--resume"), ("--resume", "pipe")),
        (("-", "o.mkv", "--devices", "cpu,cpu"), ("--devices", "--device")),
        (("-", "o.mkv", "--start", "1"), ("--start", "ffmpeg -ss")),
        (("-", "o.mkv", "--in-format", "yuv420p"), ("--in-format", "yuv420p:720x576:25")),
        (("a.mkv", "o.mkv", "-f", "y4m"), ("--out-format y4m",)),
    ],
)
def test_what_pipes_do_not_allow_is_one_line(
    bundle: Bundle, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    done = run(*arguments, "--bundle", bundle.path, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert_one_error_line(done, 2, *words)


def test_events_and_a_video_cannot_share_standard_output(tmp_path: Path) -> None:
    done = piped("a.mkv", "-", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert b"--json prints on standard output, which is also OUTPUT" in done.stdout


@pytest.mark.parametrize("terminal", [0, 1])
def test_a_terminal_holds_no_video(bundle: Bundle, nut: Path, terminal: int) -> None:
    ours, theirs = os.openpty()
    paths = ("-", "o.mkv") if terminal == 0 else (str(nut), "-")
    streams = {"stdin": theirs} if terminal == 0 else {"stdin": subprocess.DEVNULL, "stdout": theirs}
    process = subprocess.run(
        [*RUN, *paths, "--bundle", str(bundle.path)], stderr=subprocess.PIPE, check=False, **streams
    )  # type: ignore[call-overload]
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 2
    assert b"which is a terminal" in process.stderr.splitlines()[-1]
