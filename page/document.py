"""What a page holds, as plain data: sections of facts, tables, charts and pictures. `write` turns it into HTML.

Every number that a reader sees is a `Number`, so the page can say how it was obtained, and a program can find its exact
value: in the HTML as `<data value="...">`, and in the page's JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..text import format_bytes, format_duration

NARROW_SPACE = "\u202f"
"""Between thousands."""

ORIGINS = {
    "measured": "timed or counted in this run",
    "compiled": "from the compiler's report, or the memory plan that follows from it",
    "projected": "computed from a model of the card, not run",
    "published": "stated by others, on their machines and clips",
    "imported": "written by another tool, perhaps on another machine",
    "emulated": "from a run on an emulated driver: shows that it runs, not how fast",
}
"""How a figure can have been obtained, and what the page says about it."""


@dataclass(frozen=True)
class Number:
    """A number as it is shown.

    value    exact, in `unit`; None or NaN is shown as a dash
    unit     e.g. "frames/s", "dB"; "bytes" is shown in GB or MB, "duration" as minutes and seconds, "count" as a whole
             number
    digits   behind the point
    origin   one of `ORIGINS`; empty if there is only one way to know it, such as a number of frames
    """

    value: float | None
    unit: str = "count"
    digits: int = 1
    origin: str = ""

    def __post_init__(self) -> None:
        if self.origin and self.origin not in ORIGINS:
            raise ValueError(f"origin is {self.origin!r}, expected one of {', '.join(ORIGINS)}")

    @property
    def is_known(self) -> bool:
        return self.value is not None and math.isfinite(self.value)

    @property
    def text(self) -> str:
        """The number for people, without its unit."""
        value = self.value
        if value is None or math.isnan(value):
            return "–"
        if math.isinf(value):
            return "∞"
        if self.unit == "duration":
            return format_duration(value)
        if self.unit == "bytes":
            return format_bytes(value).split()[0]
        return f"{value:,.{0 if self.unit == 'count' else self.digits}f}".replace(",", NARROW_SPACE)

    @property
    def suffix(self) -> str:
        """The unit for people; empty for a count or a duration."""
        if self.unit == "bytes" and self.value is not None:
            return format_bytes(self.value).split()[1]
        return "" if self.unit in ("count", "duration", "bytes") or not self.is_known else self.unit

    def __str__(self) -> str:
        return f"{self.text} {self.suffix}".strip()


Cell = str | Number | None
"""A text, a number, or nothing."""


@dataclass(frozen=True)
class Facts:
    """Names with values, e.g. what a run was made with."""

    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True)
class Lines:
    """A list of lines, such as warnings."""

    rows: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows of cells under the names of their columns.

    caption: what it shows, for those who do not see the page. folded: shown on request, under its caption.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    folded: bool = False


@dataclass(frozen=True)
class Chart:
    """A drawing of numbers, and a table of the same numbers for those who cannot see it or have scripts turned off.

    kind     which function of `charts.js` draws it
    title    says what there is to see
    points   what is drawn: plain values by the names that this kind expects
    options  of this kind: labels of the axes and the like; "wide" for one that needs the whole width of the page
    table    the same figures
    """

    kind: str
    title: str
    points: tuple[Mapping[str, Any], ...]
    table: Table
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """A picture before and after, at the same size.

    name             e.g. when it is shown
    before, after    addresses of the images, `data:` ones
    thumbnail        of `after`; empty to show `after` itself
    width, height    in pixels
    metrics          a figure for each of the viewer's `metrics`
    """

    name: str
    before: str
    after: str
    thumbnail: str
    width: int
    height: int
    metrics: tuple[Number | None, ...] = ()


@dataclass(frozen=True)
class Viewer:
    """Frames with a slider between before and after. metrics: the names of their figures."""

    before: str
    after: str
    frames: tuple[Frame, ...]
    metrics: tuple[str, ...] = ()


Part = Facts | Lines | Table | Chart | Viewer


@dataclass(frozen=True)
class Section:
    """A heading and what is below it. lead: one or two sentences on how to read it. Without parts, it is left out."""

    title: str
    parts: tuple[Part, ...]
    lead: str = ""


@dataclass(frozen=True)
class Page:
    """A page. headline: the few figures that most readers come for. run: the JSON that the figures are taken from."""

    title: str
    subtitle: str
    headline: tuple[tuple[str, Number], ...]
    sections: tuple[Section, ...]
    run: Mapping[str, Any]
