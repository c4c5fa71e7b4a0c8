"""Pages to test with, and what they show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np

from swiftvr_trt.page.document import Chart, Facts, Frame, Lines, Number, Page, Section, Table, Viewer
from swiftvr_trt.page.pictures import as_webp, data_uri, thumbnail

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028\"'&{{7*7}}"
"""A name that does harm wherever it is not escaped."""


def picture(
    red: int, green: int, blue: int, width: int = 320, height: int = 180
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """One colour, with a white cross in the middle."""
    pixels = np.full((height, width, 3), (red, green, blue), np.uint8)
    pixels[height // 2 - 2 : height // 2 + 2] = 255
    pixels[:, width // 2 - 2 : width // 2 + 2] = 255
    return pixels


def frame(name: str, shade: int) -> Frame:
    """A red picture before, a green one after."""
    before, after = picture(shade, 0, 0), picture(0, shade, 0)
    images = [data_uri(as_webp(pixels)) for pixels in (before, after, thumbnail(after))]
    return Frame(name, images[0], images[1], images[2], 320, 180, (Number(shade / 8, "dB", 2), Number(shade)))


def viewer() -> Viewer:
    return Viewer("Input", "Output", tuple(frame(f"0:0{n}", 120 + 40 * n) for n in range(3)), ("PSNR", "Shade"))


def charts() -> tuple[Chart, ...]:
    """One chart of each kind."""

    def table(name: str) -> Table:
        return Table(name, ("Who", "Speed"), (("ours", Number(12.5, "frames/s", 1, "projected")),))

    rows = tuple(
        {"group": group, "name": name, "value": value, "shown": str(value), "origin": origin, "low": value - 1,
         "high": value + 1}
        for group in ("1920x1080", "3840x2160")
        for name, value, origin in (("ours, whole file", 12.5, "measured"), ("the published code", 31.25, "published"))
    )  # fmt: skip
    parts = tuple(
        {"name": name, "part": part, "value": value, "shown": f"{value} ms"}
        for name in ("fp16", "fp8")
        for part, value in (("encode", 3.5), ("transformer", 40.0), ("decode", 11.0))
    )
    dots = tuple(
        {"x": x, "y": y, "name": name, "origin": "measured"} for name, x, y in (("fp16", 20, 60), ("fp8", 31, 48))
    )
    kernels = tuple(
        {"x": x, "y": y, "name": name, "part": name, "share": share}
        for name, x, y, share in (("matmul", 400, 300, 0.9), ("norm", 2, 3, 0.1))
    )
    line = tuple({"x": n, "y": 10 + n % 3, "name": "speed"} for n in range(12))
    return (
        Chart("rows", "Speed", rows, table("Speed"), {"x": "frames/s", "rule": {"value": 24, "name": "real time"}}),
        Chart("bars", "Time by stage", parts, table("Time by stage"), {"x": "ms per chunk"}),
        Chart(
            "scatter",
            "Precision against quality",
            dots,
            table("Precision against quality"),
            {"x": "frames/s", "y": "PSNR, dB"},
        ),
        Chart(
            "roofline",
            "Roofline",
            kernels,
            table("Roofline"),
            {"x": "FLOP per byte", "y": "TFLOP/s", "roofs": [{"name": "FP8", "rate": 800}], "bandwidth": 1.8},
        ),
        Chart(
            "line",
            "Speed during the run",
            line,
            table("Speed during the run"),
            {"x": "s", "y": "frames/s", "zero": True, "step": True},
        ),
    )


def example_page(name: str = "out.mp4") -> Page:
    """A page with a part of every kind, in which `name` comes from outside."""
    return Page(
        name,
        f"restored from {name}",
        (
            ("Speed", Number(12.5, "frames/s", 1, "projected")),
            ("Memory", Number(5_850_000_000, "bytes", origin="compiled")),
        ),
        (
            Section("Pictures", (viewer(),), "Left is before."),
            Section("Charts", charts()),
            Section("Facts", (Facts(((name, name), ("Frames", Number(1234567)))), Lines((name,)))),
            Section("Table", (Table(name, (name, "Time"), ((name, Number(0.25, "ms", 2, "measured")), (None, None))),)),
            Section("Without parts", ()),
        ),
        {
            "name": name, "speed": 12.5, "bytes": 5_850_000_000, "frames": 1234567, "ms": 0.25, "psnr": [15, 20, 25],
            "shade": [120, 160, 200],
        },
    )  # fmt: skip


class Shown(HTMLParser):
    """What a page shows: `figures` are (exact value, text), `texts` everything else; `scripts` is what it runs."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.figures: list[tuple[float, str]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._value: float | None = None
        self._raw = ""
        self.data: Any = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "data":
            self._value = float(given["value"] or "nan")
        if tag in ("script", "style"):
            self._raw = "json" if given.get("type") == "application/json" else tag

    def handle_endtag(self, tag: str) -> None:
        if tag == "data":
            self._value = None
        if tag in ("script", "style"):
            self._raw = ""

    def handle_data(self, data: str) -> None:
        if self._raw == "json":
            self.data = json.loads(data)
        elif self._raw == "script":
            self.scripts.append(data)
        elif self._value is not None:
            self.figures.append((self._value, data))
        elif not self._raw and data.strip():
            self.texts.append(data.strip())


def numbers_in(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(each)


def strings_in(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings_in(each)
