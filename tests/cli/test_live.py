"""`swiftvr-run --live`: what is refused, and what is said."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path

import av
import pytest

from swiftvr_trt.cli import console
from swiftvr_trt.cli.live import _LogLines
from swiftvr_trt.cli.run import command
from swiftvr_trt.runtime.restore.live.counts import LiveStatistics
from tests.conftest import BundleFactory
from tests.patience import PATIENCE_S, wait_until
from tests.runtime.restore.live.lab import Feed, transport

from .program import Call, Said


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`swiftvr-run` in this process."""

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["swiftvr-run", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            console.run(command, "swiftvr-run")
        out, err = capsys.readouterr()
        return Said(caught.value.code, out, err)

    return call


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["rtsp://me:hunter2@host/a", "out.mkv"], 2, "rtsp://***@host/a is a URL or a device, expected a file"),
        (["a.mp4", "b.mp4", "--latency", "low"], 2, "--latency was given without --live"),
        (["udp://:5000", "b.mkv", "--live", "--start", "5"], 2, "--start was given with --live, which has no use"),
        (["udp://:5", "b.mkv", "--live", "--bundle", "b", "--clip-len", "8"], 2, "--clip-len and --bundle were both"),
        (["udp://:5", "b.mkv", "--live", "--bundle", "b", "--precision", "fp32"], 2, "--precision and --bundle were"),
        (["udp://:5000", "b.mkv", "--live", "-n", "-y"], 2, "-n and -y were both given"),
        (["udp://:5000", "--live"], 2, "1 names were given, expected INPUT and OUTPUT"),
        (["udp://:5000", "b.mkv", "--live", "--in-option", "passphrase"], 2, "is 'passphrase' without a value"),
        (["udp://me:hunter2@:5000", "b.mkv", "--live", "--in-option", "fifosize=9"], 2, "did you mean fifo_size?"),
        (["udp://:5000", "b.mp4", "--live", "--out-option", "movflag=hunter2"], 2, "did you mean movflags?"),
        (["udp://:5000", "b.mkv", "--live", "--in-format", "yuv420p:8x8:25"], 2, "name a device like this: v4l2:/dev"),
        (["udp://:5000", "b.mkv", "--live", "--vf", "setpts=PTS/2"], 2, "pictures of a live stream keep their time"),
        (["udp://:5000", "b.mkv", "--live", "--latency", "never"], 2, "--latency is 'never', expected low, normal"),
        (["rtps://me:hunter2@host/a", "b.mkv", "--live"], 2, "cannot read rtps://***@host/a: expected one of rtsp://"),
        (["udp://:5000", "b.avi", "--live"], 2, "stays playable after a kill"),
        (["rtsp://me:hunter2@127.0.0.1:1/a", "b.mkv", "--live"], 1, "cannot open rtsp://***@127.0.0.1:1/a: "),
        (["srt://127.0.0.1:1?passphrase=hunter2hunter2", "b.mkv", "--live"], 2, "was built without srt; relay it"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_without_a_password(
    run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for flag in ([], ["--json"]):
        said = run(*arguments, *flag)
        assert (said.code, "hunter2" in said.err + said.out) == (code, False)
        assert message in said.err
        assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_without_a_bundle_the_ways_to_one_are_shown(run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIFTVR_CACHE", str(tmp_path / "none"))
    (tmp_path / "a.ts").write_bytes(transport(3))
    said = run(tmp_path / "a.ts", tmp_path / "b.mkv", "--live", "--cache", tmp_path / "none")
    assert said.code == 2
    assert "A model is needed. Three ways to get one:" in said.err
    assert "b.mkv --live --cache" in said.err


def test_a_program_reads_the_state_as_events(run: Call, tmp_path: Path, mini_bundle: BundleFactory) -> None:
    (tmp_path / "a.ts").write_bytes(transport(40))
    bundle = mini_bundle().path
    said = run(
        tmp_path / "a.ts",
        tmp_path / "a.mkv",
        "--live",
        "--when-late",
        "wait",
        "--threads",
        1,
        "--bundle",
        bundle,
        "--json",
    )
    events = [json.loads(line) for line in said.out.splitlines()]
    states = [event for event in events if event["event"] == "live"]
    assert (said.code, said.err, events[0]["event"]) == (0, "", "start")
    assert states[-1]["frames_in"] == states[-1]["frames_out"] == 40
    assert max(state["delay_p95_s"] or 0.0 for state in states) > 0
    assert events[-2]["status"] == "done"
    assert events[-1] == {"version": 1, "event": "end", "exit_code": 0}


def test_a_signal_before_anything_is_written_ends_the_program_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        line = [sys.executable, "-m", "swiftvr_trt.cli.run", url, str(tmp_path / "hls/"), "--live", "--bundle", "none"]
        process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
        connection, _ = server.accept()
        with connection:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "error: interrupted; nothing was left half-written\n")
    assert list(tmp_path.iterdir()) == []


def endless() -> Iterator[bytes]:
    """A source that goes on for as long as somebody reads it."""
    yield transport(25, sound=False)
    for number in count(5):
        yield transport(5, first_s=Fraction(number, 5), sound=False)
        time.sleep(0.1)


def test_a_signal_while_a_stream_is_written_ends_it_in_order(tmp_path: Path, mini_bundle: BundleFactory) -> None:
    feed, output = Feed([endless()]), tmp_path / "a.mkv"
    options = ["--when-late", "wait", "--on-gap", "skip", "--latency", "low", "--threads", "1"]
    options += ["--in-option", "analyzeduration=200000"]
    arguments = [feed.url, str(output), "--live", "--bundle", str(mini_bundle().path), *options, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "swiftvr_trt.cli.run", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: output.exists() and output.stat().st_size > 4000)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        feed.close()
    events = [json.loads(line) for line in said.splitlines()]
    last = [event for event in events if event["event"] == "live"][-1]
    (result,) = [event for event in events if event["event"] == "result"]
    with av.open(str(output)) as played:
        frames = sum(1 for _ in played.decode(video=0))
    assert frames == last["frames_in"] == last["frames_out"] == result["frames"] > 0
    assert (process.returncode, result["status"], last["waiting"]) == (0, "done", 0)


def test_a_line_shows_the_delays_since_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    now, statistics = [0.0], LiveStatistics()
    with console.display(quiet=False, as_json=False) as display:
        show = _LogLines(display, lambda: now[0])
        for second in range(1, 12):
            now[0] = float(second)
            statistics.add_delay(4.0 if second == 2 else 0.1)
            show(statistics)
    first, then = capsys.readouterr().err.splitlines()
    assert "p99 3.97" in first
    assert "p99 0.10" in then
