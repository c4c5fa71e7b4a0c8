"""Memory does not grow with the length of a clip."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from swiftvr_trt import Bundle
from tests.clips import write_clip
from tests.conftest import BundleFactory

PEAK = """
import resource, sys
from swiftvr_trt.cli.run import command
command.main(sys.argv[1:], standalone_mode=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_kib(bundle: Bundle, clip: Path, out: Path) -> int:
    command: list[str | Path] = [
        sys.executable,
        "-c",
        PEAK,
        clip,
        out,
        "--bundle",
        bundle.path,
        "--threads",
        "1",
        "--quiet",
    ]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(sys.platform == "win32", reason="getrusage is not there on Windows")
def test_a_clip_ten_times_as_long_takes_at_most_a_tenth_more_memory(mini_bundle: BundleFactory, tmp_path: Path) -> None:
    peaks = []
    for seconds in (6, 60):
        clip = write_clip(tmp_path / f"{seconds}.mkv", frames=25 * seconds, width=320, height=180)
        peaks.append(peak_kib(mini_bundle(), clip, tmp_path / f"{seconds}-out.mkv"))
    assert peaks[1] <= 1.1 * peaks[0], f"{peaks[0]} KiB for 6 s, {peaks[1]} KiB for 60 s"
