"""A bundle drawn as SVG: GPU memory by owner, and the projected time of a chunk by stage and by kind of kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path

from ...errors import MisuseError, OutputError
from ...text import format_bytes
from .inspect import BundleReport, EnginesSummary

_WIDTH, _LEFT, _BAR, _ROW = 860, 230, 500, 26
_COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb", "#999933", "#882255")


def write_picture(report: BundleReport, path: Path) -> None:
    """Draw the engines of a bundle into an SVG file.

    Raises `MisuseError` if the bundle has none or `path` is a file of another kind, `OutputError` if writing fails.
    """
    if report.engines is None:
        raise MisuseError(
            f"{path}: a bundle for target {report.recipe['target']} holds graphs, and there are no engines to draw; "
            "leave --picture out"
        )
    if path.exists() and path.suffix.lower() != ".svg":
        raise MisuseError(f"{path}: already exists and is not an .svg file; choose another name for --picture")
    try:
        path.write_text(draw(report, report.engines), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error


def draw(report: BundleReport, engines: EnginesSummary) -> str:
    """One SVG document. Every bar carries its number, so nothing depends on colour alone."""
    recipe = report.recipe
    title = f"{recipe['width']}x{recipe['height']}, {recipe['precision']}, target {recipe['target']}"
    parts: list[str] = [_text(20, 34, f"SwiftVR engines: {title}", 18, bold=True)]
    y = _panel(
        parts,
        66,
        f"GPU memory, {format_bytes(engines.gpu_bytes)} (planned, {report.stream_input} input)",
        {name: float(value) for name, value in engines.memory.items()},
        format_bytes,
    )
    if engines.projected:
        best = engines.projected[0]
        chunk = f"{recipe['clip_len']}-frame chunk on {best.gpu}"
        heading = f"time of a {chunk}: {_milliseconds(best.seconds)} at least (projected)"
        y = _panel(parts, y + 30, heading, best.stages, _milliseconds)
        y = _panel(parts, y + 30, "the same by kind of kernel (projected)", best.kinds, _milliseconds)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + 20}" '
        f'viewBox="0 0 {_WIDTH} {y + 20}" font-family="sans-serif">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _panel(parts: list[str], y: int, heading: str, values: Mapping[str, float], word: Callable[[float], str]) -> int:
    """Append a heading with horizontal bars below it; returns the y at which the panel ends."""
    parts.append(_text(20, y, heading, 14, bold=True))
    largest = max(values.values(), default=0.0) or 1.0
    for number, (name, value) in enumerate(values.items()):
        top = y + 12 + number * _ROW
        width = max(value / largest * _BAR, 1.0)
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(_text(_LEFT - 10, top + 14, name, 12, anchor="end"))
        parts.append(f'<rect x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_ROW - 8}" fill="{colour}"/>')
        parts.append(_text(_LEFT + int(width) + 6, top + 14, word(value), 12))
    return y + 12 + len(values) * _ROW


def _text(x: int, y: int, text: str, height: int, *, bold: bool = False, anchor: str = "start") -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" font-size="{height}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"
