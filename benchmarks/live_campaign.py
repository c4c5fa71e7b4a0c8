"""Live streams on loopback in real time: what goes in comes out or is reported, the delay, lip-sync, and what grows.

    python -m benchmarks.live_campaign --bundle BUNDLE --json live.json udp rtmp rtsp restarts slow hour

runs these scenarios and writes what was measured; it exits with 1 if one of them fails. It needs FFmpeg's commands;
`rtmp` uses nginx with its RTMP module as a server if that is installed, else FFmpeg. BUNDLE should restore a picture
of 80x48 faster than it is played: flashes have to be seen in what comes out. Linux only.

    udp, rtmp, rtsp   ten minutes: every frame accounted for, output decodable, flashes and beeps together at the end
    restarts          the source is killed and restarted, stalled, changed in size, and its clock jumps and wraps
    slow              CPU time is taken away: `drop` keeps the delay bounded, `wait` loses nothing
    hour              one hour: memory, descriptors and threads
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .live_checks import LiveProcess, Outcome, accounts, bounded, decodable, lip_sync, steady

RATE, SIZE = 25, "80x48"
_LONG_S = 600.0
_RECORDINGS = 20
_MUXED_S = 1.4
"""By how much FFmpeg has a transport stream begin later than it is told."""


@dataclass(frozen=True)
class Lab:
    """Where scenarios work, and how long. bundle: small and fast. seconds: of real time."""

    place: Path
    bundle: Path
    seconds: float

    def run(self, source: str, output: str, *options: str) -> LiveProcess:
        """Begin to restore."""
        return LiveProcess(self.place, self.bundle, source, output, "--latency", "low", "--threads", "1", *options)


def free_port() -> int:
    """A port of UDP and TCP that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def flashes(path: Path, seconds: float, size: str = SIZE, first_s: float = 0.0) -> Path:
    """A transport stream with a white flash and a beep at every full second. first_s: where its clock begins."""
    picture = f"color=black:s={size}:r={RATE},drawbox=c=white:t=fill:enable='lt(mod(t,1),0.1)'"
    sound = "aevalsrc='0.8*sin(2*PI*1000*t)*lt(mod(t,1),0.1)':s=48000"
    inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, "-t", str(seconds)]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "0", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    ffmpeg(*inputs, *codecs, "-output_ts_offset", str(first_s), "-f", "mpegts", str(path)).wait()
    return path


def ffmpeg(*arguments: str, quiet: bool = True) -> subprocess.Popen[bytes]:
    level = ["-v", "error" if quiet else "info"]
    return subprocess.Popen(["ffmpeg", *level, "-nostdin", "-y", *arguments], stderr=subprocess.DEVNULL)


@contextmanager
def ended(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """A process that is ended with the block, if it has not ended by then."""
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


def play(lab: Lab, outcome: Outcome, source: str, output: str, sending: list[str], receiving: list[str] | None) -> None:
    """One long run. sending, receiving: what FFmpeg is told; without receiving, a server records into `rec`."""
    clip = flashes(lab.place / "flashes.ts", lab.seconds + 30)
    recording = lab.place / "recording.ts"
    with ExitStack() as stack:
        if receiving is not None:
            receiver = stack.enter_context(ended(ffmpeg(*receiving, "-c", "copy", str(recording))))
            time.sleep(1.0)
        stack.enter_context(ended(ffmpeg("-re", "-i", str(clip), "-c", "copy", *sending)))
        time.sleep(2.0)
        run = lab.run(source, output)
        stack.enter_context(ended(run.process))
        outcome.check(run.begins(), "the run did not begin")
        run.watch(lab.seconds)
        outcome.measured["exit_code"] = run.end()
        if receiving is not None:
            with suppress(subprocess.TimeoutExpired):
                receiver.wait(30)
    if receiving is None:
        recording = max((lab.place / "rec").iterdir(), key=lambda path: path.stat().st_size)
    outcome.check(outcome.measured["exit_code"] == 0, f"the exit code was {outcome.measured['exit_code']}")
    last = accounts(outcome, run)
    steady(outcome, run)
    recorded = decodable(outcome, recording)
    if receiving is not None and "udp" not in output:
        outcome.check(recorded == last.get("frames_out", 0) + last.get("held", 0), "the receiver has other frames")
    lip_sync(outcome, recording)


def udp(lab: Lab, outcome: Outcome) -> None:
    into, out = free_port(), free_port()
    receiving = ["-i", f"udp://127.0.0.1:{out}?fifo_size=500000&overrun_nonfatal=1&timeout=15000000"]
    url = f"udp://127.0.0.1:{into}"
    play(lab, outcome, url, f"udp://127.0.0.1:{out}", ["-f", "mpegts", f"{url}?pkt_size=1316"], receiving)


def rtsp(lab: Lab, outcome: Outcome) -> None:
    into, out = free_port(), free_port()
    receiving = ["-rtsp_flags", "listen", "-i", f"rtsp://127.0.0.1:{out}/live"]
    url = f"udp://127.0.0.1:{into}"
    play(lab, outcome, url, f"rtsp://127.0.0.1:{out}/live", ["-f", "mpegts", f"{url}?pkt_size=1316"], receiving)


def rtmp(lab: Lab, outcome: Outcome) -> None:
    into, out = free_port(), free_port()
    nginx, module = shutil.which("nginx"), Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
    outcome.measured["server"] = "nginx" if nginx and module.exists() else "ffmpeg"
    if not nginx or not module.exists():
        url = f"udp://127.0.0.1:{into}"
        receiving = ["-listen", "1", "-i", f"rtmp://127.0.0.1:{out}/live/key"]
        play(lab, outcome, url, f"rtmp://127.0.0.1:{out}/live/key", ["-f", "mpegts", url], receiving)
        return
    (lab.place / "rec").mkdir(exist_ok=True)
    lab.place.chmod(0o755)
    (lab.place / "rec").chmod(0o777)
    conf = lab.place / "nginx.conf"
    conf.write_text(
        f"load_module {module}; daemon off; master_process off;\n"
        f"pid {lab.place}/nginx.pid; error_log {lab.place}/nginx.log;\n"
        "events { worker_connections 64; }\n"
        f"rtmp {{ server {{ listen 127.0.0.1:{into}; application in {{ live on; }}\n"
        f"application out {{ live on; record all; record_path {lab.place}/rec; record_unique on; }} }} }}\n",
        encoding="utf-8",
    )
    with ended(subprocess.Popen([nginx, "-c", str(conf)], stderr=subprocess.DEVNULL)):
        time.sleep(1.0)
        base = f"rtmp://127.0.0.1:{into}"
        play(lab, outcome, f"{base}/in/flashes", f"{base}/out/restored", ["-f", "flv", f"{base}/in/flashes"], None)


def restarts(lab: Lab, outcome: Outcome) -> None:
    """Each restart has another size, and a clock that does not go on; some wrap around, one stalls for five seconds."""
    port, each_s = free_port(), max(lab.seconds / _RECORDINGS, 6.0)
    starts = [0.0, 3600.0, 0.0, 2**33 / 90000 - 0.2 * each_s - _MUXED_S]
    clips = [
        flashes(lab.place / f"clip{number}.ts", each_s + 1, ("640x360", "320x180")[number % 2], first_s)
        for number, first_s in enumerate(starts)
    ]
    output = lab.place / "restarts.mkv"
    run = lab.run(f"udp://127.0.0.1:{port}", str(output))
    url = f"udp://127.0.0.1:{port}?pkt_size=1316"
    with ended(run.process):
        for number in range(_RECORDINGS + 1):
            sender = ffmpeg(
                "-re", "-i", str(clips[number % 4]), "-c", "copy", "-copyts", "-muxdelay", "0", "-f", "mpegts", url
            )
            with ended(sender):
                if number == 0:
                    outcome.check(run.begins(), "the run did not begin")
                run.watch(each_s * 0.6)
                if number == 5:
                    os.kill(sender.pid, signal.SIGSTOP)
                    run.watch(5.0)
                    os.kill(sender.pid, signal.SIGCONT)
                    run.watch(2.0)
        outcome.measured["exit_code"] = run.end()
    last = accounts(outcome, run)
    outcome.measured["restarts"] = _RECORDINGS
    outcome.check(outcome.measured["exit_code"] == 0, f"the exit code was {outcome.measured['exit_code']}")
    outcome.check(last.get("jumps", 0) >= _RECORDINGS, f"only {last.get('jumps')} jumps of the clock were reported")
    outcome.check(last.get("gaps", 0) > 0, "the stall was not reported")
    outcome.check(last.get("resized", 0) >= _RECORDINGS // 2, f"only {last.get('resized')} changes of size were seen")
    decodable(outcome, output)
    steady(outcome, run)


def slow(lab: Lab, outcome: Outcome) -> None:
    """The program may use so little of a CPU that it cannot keep up: it is stopped nine tenths of the time."""
    clip = flashes(lab.place / "slow.ts", lab.seconds)
    for mode in ("drop", "wait"):
        part = Outcome(mode)
        output = lab.place / f"{mode}.mkv"
        port = free_port()
        source = f"udp://127.0.0.1:{port}" if mode == "drop" else str(clip)
        run = lab.run(source, str(output), "--when-late", mode)
        with ExitStack() as stack:
            stack.enter_context(ended(run.process))
            if mode == "drop":
                url = f"udp://127.0.0.1:{port}?pkt_size=1316"
                stack.enter_context(ended(ffmpeg("-re", "-i", str(clip), "-c", "copy", "-f", "mpegts", url)))
            part.check(run.begins(), "the run did not begin")
            _starve(run, lab.seconds)
            part.measured["exit_code"] = run.end() if mode == "drop" else run.process.wait()
        last = accounts(part, run, lossless=mode == "wait")
        if mode == "drop":
            part.check(last.get("dropped", 0) > 0, "it kept up, so nothing was tried: take a slower bundle")
            bounded(part, run)
        decodable(part, output)
        outcome.measured[mode] = part.measured
        outcome.faults += [f"{mode}: {fault}" for fault in part.faults]


def _starve(run: LiveProcess, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and run.process.poll() is None:
        for action, share in ((signal.SIGSTOP, 0.27), (signal.SIGCONT, 0.03)):
            with suppress(ProcessLookupError):
                os.kill(run.process.pid, action)
            time.sleep(share)


SCENARIOS: dict[str, Callable[[Lab, Outcome], None]] = {
    "udp": udp, "rtmp": rtmp, "rtsp": rtsp, "restarts": restarts, "slow": slow, "hour": udp,
}  # fmt: skip
_SECONDS = {"restarts": 240.0, "slow": 300.0, "hour": 3600.0}


def run_scenario(name: str, bundle: Path, seconds: float | None) -> Outcome:
    """Run one scenario in a folder of its own."""
    outcome = Outcome(name)
    chosen = seconds or _SECONDS.get(name, _LONG_S)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        SCENARIOS[name](Lab(Path(place), bundle.resolve(), chosen), outcome)
    outcome.measured["seconds"] = round(time.monotonic() - began, 1)
    return outcome


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(tuple(SCENARIOS)), required=True)
@click.option("--bundle", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--seconds", type=float, help="Length of each scenario.  [default: as in the description]")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write what was measured.")
def main(names: tuple[str, ...], bundle: Path, seconds: float | None, output: Path | None) -> None:
    """Run scenarios of live streams."""
    outcomes = []
    for name in names:
        outcomes.append(outcome := run_scenario(name, bundle, seconds))
        click.echo(f"{name}: {'; '.join(outcome.faults) or 'as promised'}")
        if output is not None:
            found = [{"name": each.name, "faults": each.faults, **each.measured} for each in outcomes]
            output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(outcome.faults for outcome in outcomes))


if __name__ == "__main__":
    main()
