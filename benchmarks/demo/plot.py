"""Collect the logs of all attempts and draw their loss.

    python -m benchmarks.demo.plot --out docs/demo NAME=RUN/log.csv ...

writes OUT/log.csv (the logs one below the other, with the attempt's name) and OUT/loss.png.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

_SIZE = (720, 360)
_MARGIN = 40
_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def draw(logs: dict[str, list[dict[str, str]]], path: Path) -> None:
    """Gain over the damaged input in decibels, by step, one line per attempt; the grey line is the input itself."""
    points = {name: [(float(r["step"]), float(r["gain"])) for r in rows] for name, rows in logs.items() if rows}
    right = max(step for line in points.values() for step, _ in line)
    gains = [gain for line in points.values() for _, gain in line]
    top, low = max(1.0, *gains), min(0.0, *gains)
    image = Image.new("RGB", _SIZE, "white")
    pen = ImageDraw.Draw(image)
    width, height = _SIZE[0] - 2 * _MARGIN, _SIZE[1] - 2 * _MARGIN

    def place(step: float, gain: float) -> tuple[float, float]:
        return _MARGIN + width * step / right, _MARGIN + height * (top - gain) / (top - low)

    pen.line([place(0, top), place(0, low), place(right, low)], fill="black")
    pen.line([place(0, 0), place(right, 0)], fill="grey")
    pen.text(place(right, low), f"{right:.0f} steps", fill="black", anchor="rt")
    pen.text(place(0, top), f" {top:.1f} dB", fill="black", anchor="lt")
    pen.text(place(0, low), f"{low:.1f} dB", fill="black", anchor="lt")
    pen.text(place(0, 0), " 0 dB: as good as the input", fill="grey", anchor="lb")
    for index, (name, line) in enumerate(points.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        pen.line([place(*point) for point in line], fill=colour, width=2)
        pen.text((_SIZE[0] - _MARGIN, _SIZE[1] // 2 + 14 * index), name, fill=colour, anchor="rt")
    image.save(path, optimize=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory for log.csv and loss.png")
    parser.add_argument("logs", nargs="+", metavar="NAME=LOG", help="an attempt's name and its log.csv")
    options = parser.parse_args(arguments)
    named = [text.partition("=") for text in options.logs]
    logs = {name: read(Path(path)) for name, _, path in named}
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "log.csv").open("w", encoding="utf-8", newline="") as file:
        columns = ["attempt", *next(rows[0] for rows in logs.values() if rows)]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for name, rows in logs.items():
            writer.writerows({"attempt": name, **row} for row in rows)
    draw(logs, options.out / "loss.png")


if __name__ == "__main__":
    main()
