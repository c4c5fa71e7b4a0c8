"""The documentation's links, and the reference of every public name."""

from __future__ import annotations

from pathlib import Path

import pytest

import swiftvr_trt
from scripts import build_site

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_reference_has_every_public_name_and_each_has_a_docstring() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").splitlines()
    names = [name for name in swiftvr_trt.__all__ if name != "__version__"]
    assert sorted(line.removeprefix("::: swiftvr_trt.") for line in page if line.startswith(":::")) == sorted(names)
    assert all(getattr(swiftvr_trt, name).__doc__ for name in names)


def test_every_page_is_in_the_navigation(tmp_path: Path) -> None:
    build_site.stage(tmp_path / "work")
    staged = {
        path.relative_to(tmp_path / "work" / "pages") for path in (tmp_path / "work" / "pages" / "docs").glob("*")
    }
    assert {path for path in staged if path.suffix == ".md"} == {
        path.relative_to(ROOT) for path in (ROOT / "docs").glob("*.md")
    }
    assert (tmp_path / "work" / "package" / "swiftvr_trt" / "runtime" / "stream" / "session.py").exists()
    assert not (tmp_path / "work" / "package" / "swiftvr_trt" / "tests").exists()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="b.html#there">', ""),
        ('<a href="#here">', ""),
        ('<a href="https://example.org/x">', ""),
        ('<a href="c.html">', "a.html links to c.html"),
        ('<a href="b.html#nowhere">', "a.html links to b.html#nowhere"),
        ('<img src="missing.png">', "a.html links to missing.png"),
        ('<script src="https://example.org/x.js">', "a.html loads https://example.org/x.js"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "a.html loads //example.org/x.css"),
    ],
)
def test_dead_links_and_foreign_parts_are_found(tmp_path: Path, body: str, problem: str) -> None:
    (tmp_path / "a.html").write_text(f'<h1 id="here">{body}')
    (tmp_path / "b.html").write_text('<h1 id="there">')
    assert build_site.problems(tmp_path) == ([problem] if problem else [])
