"""Takes the pictures of the two pages that are shown in the documents, from runs on this machine.

    python -m benchmarks.screenshots         some minutes on two idle cores; needs Chromium, and playwright (extra dev)
    python -m benchmarks.screenshots --keep DIR       keeps the record, the pages and the restored sample there

Runs `swiftvr-bench --preset quick --against torch` and `swiftvr-run --report` as anybody would, then writes
`docs/demo/benchmark.jpg` and `docs/demo/report.jpg`. Run it on a machine that does nothing else: the page says so if it
was busy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from swiftvr_trt.benchmarks.suite.clips import SAMPLE_CLIP

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "demo"
WINDOWS: Mapping[str, tuple[int, int, Literal["dark", "light"]]] = {
    "benchmark": (1200, 1360, "dark"),
    "report": (1200, 1150, "light"),
}
"""Width, height and colours in which each page is shown."""
_QUALITY = 85


def measure(folder: Path) -> None:
    """Write both pages into a folder."""
    bench = [
        "swiftvr_trt.cli.bench",
        "--preset",
        "quick",
        "--against",
        "torch",
        "-o",
        str(folder / "benchmark.json"),
        "-y",
        "-q",
    ]
    restore = [
        "swiftvr_trt.cli.run",
        str(SAMPLE_CLIP),
        str(folder / "restored.mp4"),
        "--checkpoint",
        "demo",
        "-y",
        "-q",
    ]
    for arguments in (bench, [*restore, "--report", str(folder / "report.html")]):
        subprocess.run([sys.executable, "-m", *arguments], check=True)


def take_pictures(pages: Path, pictures: Path) -> None:
    """The top of each page, as a window shows it."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM") or shutil.which("chromium-headless-shell") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for name, (width, height, colours) in WINDOWS.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=colours)
            page.goto((pages / f"{name}.html").as_uri())
            page.wait_for_timeout(500)  # for charts to be drawn and pictures to be decoded
            page.screenshot(path=pictures / f"{name}.jpg", type="jpeg", quality=_QUALITY)
        browser.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="a folder for what was made on the way")
    keep = parser.parse_args(arguments).keep
    with tempfile.TemporaryDirectory(prefix="swiftvr-screenshots-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        measure(folder)
        take_pictures(folder, PICTURES)
    print(f"wrote {', '.join(str(PICTURES / f'{name}.jpg') for name in WINDOWS)}")


if __name__ == "__main__":
    main()
