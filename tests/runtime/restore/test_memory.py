"""Memory does not grow with the length of a clip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

from swiftvr_trt import Bundle
from swiftvr_trt.runtime.restore.segments.grid import PIECE_S
from tests.clips import write_clip
from tests.conftest import BundleFactory

PEAK = """
import sys
from swiftvr_trt.runtime.restore.segments import grid
grid.PIECE_S = {piece_s}
from swiftvr_trt.cli.run import command
command.main(sys.argv[1:], standalone_mode=False)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
"""What the installed command does, with pieces of this length.

Not `ru_maxrss`: it counts the memory of the process that started this one, which is pytest with torch loaded.
"""

measures = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")


def peak_kib(bundle: Bundle, clip: Path, out: Path, piece_s: float = PIECE_S) -> int:
    command: list[str | Path] = [
        sys.executable,
        "-c",
        PEAK.format(piece_s=piece_s),
        clip,
        out,
        "--bundle",
        bundle.path,
        "--threads",
        "1",
        "--quiet",
    ]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back to the system at once
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


@pytest.mark.slow
@measures
def test_a_clip_ten_times_as_long_takes_at_most_a_tenth_more_memory(mini_bundle: BundleFactory, tmp_path: Path) -> None:
    """In pieces of two chunks, of which the longer one has dozens."""
    peaks = []
    for seconds in (3, 30):
        clip = write_clip(tmp_path / f"{seconds}.mkv", frames=25 * seconds, width=320, height=180)
        peaks.append(peak_kib(mini_bundle(), clip, tmp_path / f"{seconds}-out.mkv", piece_s=0.6))
    assert peaks[1] <= 1.1 * peaks[0], f"{peaks[0]} KiB for 3 s, {peaks[1]} KiB for 30 s"


def write_plain(path: Path, width: int, height: int, frames: int = 14) -> Path:
    """Plain frames, quick to write at any size."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame(width, height, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([100 + 5 * (index % 14)]) * plane.buffer_size)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.slow
@measures
def test_large_frames_take_at_most_15_bytes_per_pixel(mini_bundle: BundleFactory, tmp_path: Path) -> None:
    small, uhd, large = (
        peak_kib(mini_bundle(192, 128), write_plain(tmp_path / f"{w}.mkv", w, h), tmp_path / f"{w}-out.mkv")
        for w, h in ((192, 128), (3840, 2160), (7680, 4320))
    )
    assert (large - small) * 1024 <= 15 * 7680 * 4320, f"{small} KiB for 192x128, {large} KiB for 8K"
    assert uhd * 1024 < 400e6
    assert large * 1024 < 1.2e9


@pytest.mark.slow
@measures
def test_many_large_frames_take_no_more_memory_than_a_few(mini_bundle: BundleFactory, tmp_path: Path) -> None:
    few, many = (
        peak_kib(mini_bundle(192, 128), write_plain(tmp_path / f"{n}.mkv", 3840, 2160, n), tmp_path / f"{n}-out.mkv")
        for n in (28, 100)
    )
    assert many * 1024 < 400e6
    kept = (many - few) * 1024 / (3840 * 2160 * 1.5)  # as frames; how many wait for their turn varies by a few
    assert kept <= 4, f"{few} KiB for 28 frames, {many} KiB for 100"
