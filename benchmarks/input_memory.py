"""Peak memory of whole runs by the codec and the size of their input.

    python -m benchmarks.input_memory OUT.json --bundle b192x128

Encodes a moving picture once per codec at 4K and at 8K, restores each with the bundle, in a process of its own, and
writes the peak of each in MB. At 4K more than 400 MB is a fault, at 8K more than 1200 MB, unless the input is refused;
faults exit with 1. Linux only. Takes about ten minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import click
import numpy as np

from swiftvr_trt.runtime.media.colour import converted

SIZES = {"4K": (3840, 2160, 48, 400), "8K": (7680, 4320, 14, 1200)}
"""Name -> width, height, frames, and the most MB that a run may take."""

CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    "H.264": ("libx264", "yuv420p", {"preset": "veryfast"}),
    "H.264, 16 references": ("libx264", "yuv420p", {"preset": "ultrafast", "x264-params": "ref=16:bframes=8"}),
    "HEVC": ("libx265", "yuv420p", {"preset": "ultrafast", "x265-params": "log-level=error:ref=4:bframes=4"}),
    "HEVC 10 bits": (
        "libx265",
        "yuv420p10le",
        {"preset": "ultrafast", "x265-params": "log-level=error:ref=4:bframes=4"},
    ),
    "VP9": ("libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    "AV1": ("libsvtav1", "yuv420p", {"preset": "12"}),
    "AV1 10 bits": ("libsvtav1", "yuv420p10le", {"preset": "12"}),
    "MPEG-2": ("mpeg2video", "yuv420p", {}),
    "ProRes": ("prores_ks", "yuv422p10le", {}),
    "FFV1": ("ffv1", "yuv420p", {}),
}
"""Name -> encoder, pixel format, options."""

_RUN = """
import sys
from swiftvr_trt.cli.run import command
try:
    command.main(sys.argv[1:], standalone_mode=False)
finally:
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
"""What `swiftvr-run` does, and the peak of its memory in KiB. Not `ru_maxrss`, which counts the parent's, too."""


def write_clip(path: Path, codec: str, width: int, height: int, frames: int) -> Path:
    """A moving picture, encoded with a row of `CODECS`."""
    encoder, pix_fmt, options = CODECS[codec]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(encoder, rate=Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        for picture in _moving(width, height, frames):
            grey = av.VideoFrame.from_ndarray(picture, format="gray")
            container.mux(stream.encode(converted(grey, format=pix_fmt)))
        container.mux(stream.encode(None))
    return path


def _moving(width: int, height: int, frames: int) -> Iterator[Any]:
    y, x = np.ogrid[:height, :width]
    picture = ((x // 5 ^ y // 3) % 200 + 20).astype(np.uint8)
    return (np.roll(picture, 4 * number, axis=1) for number in range(frames))


def peak_mb(clip: Path, bundle: Path, output: Path) -> tuple[float, str]:
    """The peak memory of a run in MB, and its last line of error; "" if it succeeded."""
    command = [sys.executable, "-c", _RUN, clip, output, "--bundle", bundle, "--threads", "1", "--quiet", "-y"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1] if done.returncode else ""
    return int(done.stdout.split()[-1]) * 1024 / 1e6, said


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--bundle", type=click.Path(path_type=Path, exists=True), required=True, help="A small one, e.g. 192x128."
)
@click.option("--codec", "codecs", type=click.Choice(list(CODECS)), multiple=True, help="Only these.")
@click.option("--size", "sizes", type=click.Choice(list(SIZES)), multiple=True, help="Only these.")
def main(out: Path, bundle: Path, codecs: tuple[str, ...], sizes: tuple[str, ...]) -> None:
    """Measure the peaks and write them to OUT."""
    peaks: dict[str, dict[str, Any]] = {}
    faults = 0
    with tempfile.TemporaryDirectory(prefix="swiftvr-") as folder:
        for size in sizes or SIZES:
            width, height, frames, most = SIZES[size]
            for codec in codecs or CODECS:
                suffix = ".mov" if codec == "ProRes" else ".mkv"
                clip = write_clip(Path(folder) / f"in{suffix}", codec, width, height, frames)
                peak, said = peak_mb(clip, bundle, Path(folder) / "out.mkv")
                refused = "are free" in said
                fault = (peak > most and not refused) or (said and not refused)
                faults += bool(fault)
                peaks.setdefault(size, {})[codec] = {"peak_mb": round(peak, 1), "error": said}
                click.echo(f"{size} {codec:20} {peak:7.1f} MB {said}{'  FAULT' if fault else ''}")
    out.write_text(json.dumps(peaks, indent=2), encoding="utf-8")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
