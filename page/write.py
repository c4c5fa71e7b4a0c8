"""Writes a page as one HTML file.

What comes from outside is escaped and freed of secrets here: by the template, and by `as_json`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..redaction import redacted
from ..runtime.media.files import PartFile, output_error
from .document import ORIGINS, Chart, Facts, Number, Page, Part, Table, Viewer

_ASSETS = files(__package__) / "assets"
_LIBRARIES = {"d3.LICENSE": "d3.min.js", "plot.LICENSE": "plot.umd.min.js"}
"""Licence -> script, in `assets/vendor`."""


def write_html(page: Page, path: Path, *, overwrite: bool = False) -> None:
    """Write a page. It appears complete or not at all. Raises `OutputError`, or `MediaError` if `path` exists."""
    text = html_of(page).encode()
    file = PartFile(path, overwrite)
    try:
        file.write(text)
        file.commit()
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        file.discard()


def html_of(page: Page) -> str:
    """The page as HTML."""
    sections = [section for section in page.sections if section.parts]
    charts = [part for section in sections for part in section.parts if isinstance(part, Chart)]
    data = {"run": page.run, "charts": [_chart_data(chart) for chart in charts]}
    has_viewer = any(isinstance(part, Viewer) for section in sections for part in section.parts)
    own = [*(["charts.js"] if charts else []), *(["viewer.js"] if has_viewer else [])]
    scripts = [*(_libraries() if charts else ()), *map(asset, own)]
    return str(
        _template().render(
            page=page,
            sections=sections,
            charts=charts,
            origins={name: ORIGINS[name] for name in ORIGINS if name in set(_origins(page))},
            style=asset("page.css"),
            scripts=scripts,
            policy=_policy(scripts),
            data=as_json(data),
        )
    )


def as_json(value: Any) -> str:
    """JSON that can stand in a `<script>`: it has no `<`, and no NaN, which JSON does not know."""
    text = json.dumps(_shown(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _shown(value: Any) -> Any:
    """A value as JSON can hold it, without secrets."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {redacted(str(name)): _shown(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    return redacted(value) if isinstance(value, str) else value


def _without_secrets(value: Any) -> Any:
    """Called by the template for everything that it writes. Our own scripts, style and JSON are marked as safe."""
    return redacted(value) if type(value) is str else value


@cache
def asset(name: str) -> str:
    """A file of the page: a style sheet, a script, the template."""
    return (_ASSETS / name).read_text(encoding="utf-8")


@cache
def _libraries() -> tuple[str, ...]:
    """The scripts of others, each behind its licence."""
    return tuple(
        f"/*\n{asset(f'vendor/{licence}')}*/\n{asset(f'vendor/{script}')}" for licence, script in _LIBRARIES.items()
    )


def _chart_data(chart: Chart) -> dict[str, Any]:
    return {"kind": chart.kind, "title": chart.title, "points": list(chart.points), "options": dict(chart.options)}


def _policy(scripts: list[str]) -> str:
    """The Content-Security-Policy: nothing is loaded, and no scripts run but these."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests) or "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; base-uri 'none'; "
        "form-action 'none'"
    )


def _origins(page: Page) -> Iterator[str]:
    """How the figures of a page were obtained."""
    yield from (figure.origin for _, figure in page.headline)
    for section in page.sections:
        for part in section.parts:
            table = part.table if isinstance(part, Chart) else part
            if isinstance(table, Table):
                yield from (cell.origin for row in table.rows for cell in row if isinstance(cell, Number))
            elif isinstance(table, Facts):
                yield from (cell.origin for _, cell in table.rows if isinstance(cell, Number))


def _kind_of(part: Part) -> str:
    return type(part).__name__.lower()


def _is_number(cell: object) -> bool:
    return isinstance(cell, Number)


@cache
def _template() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_without_secrets,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests.update(number=_is_number)
    environment.filters.update(kind=_kind_of)
    return environment.get_template("page.html")
