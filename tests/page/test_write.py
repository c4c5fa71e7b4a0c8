"""The HTML of a page: it holds everything, loads nothing, and shows no number that its JSON lacks."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from swiftvr_trt.errors import MediaError, OutputError
from swiftvr_trt.page.document import Chart, Facts, Number, Page, Section, Table
from swiftvr_trt.page.write import as_json, asset, html_of, write_html

from .examples import HOSTILE, Shown, charts, example_page, numbers_in

VENDOR = Path(__file__).parents[2] / "page/assets/vendor"


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_html(example_page(), path)
    assert path.read_text(encoding="utf-8") == html_of(example_page())
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(MediaError, match=r"page\.html already exists"):
        write_html(example_page(), path)
    write_html(example_page("other"), path, overwrite=True)
    assert "<title>other</title>" in path.read_text(encoding="utf-8")


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*page\.html"):
        write_html(example_page(), tmp_path / "no" / "page.html")


def test_what_comes_from_outside_is_escaped_everywhere() -> None:
    shown = Shown(html_of(example_page(HOSTILE)))
    assert shown.data["run"]["name"] == HOSTILE
    assert shown.texts.count(HOSTILE.strip()) >= 5
    assert not any("alert" in script for script in shown.scripts)
    assert not any("onerror" in attributes for _, attributes in shown.tags)
    assert len(shown.scripts) == 4, "d3, plot, charts, viewer"


def test_secrets_in_addresses_are_hidden_everywhere() -> None:
    html = html_of(example_page("rtmp://me:geheim1@host/live/streamkey9"))
    assert "rtmp://***@host/live/***" in html
    assert "geheim1" not in html
    assert "streamkey9" not in html


def test_every_number_that_is_shown_is_in_the_json() -> None:
    shown = Shown(html_of(example_page()))
    known = set(numbers_in(shown.data["run"]))
    assert len(shown.figures) > 10
    assert {value for value, _ in shown.figures} <= known


def test_only_these_scripts_may_run_and_nothing_may_be_loaded() -> None:
    html = html_of(example_page())
    shown = Shown(html)
    policy = next(tags["content"] for _, tags in shown.tags if tags.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in shown.scripts]
    assert re.findall(r"sha256-([^']+)", policy) == digests
    assert policy.startswith("default-src 'none'; img-src data:; ")
    addresses = [
        attributes[name] or "" for _, attributes in shown.tags for name in ("src", "href") if name in attributes
    ]
    assert addresses
    assert all(address.startswith("data:") for address in addresses)


def test_a_section_without_parts_is_left_out() -> None:
    assert "Without parts" not in html_of(example_page())


def test_a_page_without_charts_carries_no_library() -> None:
    page = Page("t", "s", (), (Section("Facts", (Facts((("a", "b"),)),)),), {})
    shown = Shown(html_of(page))
    assert shown.scripts == []
    assert len(html_of(page)) < 20_000


def test_how_figures_were_obtained_is_explained_if_they_are_shown() -> None:
    table = Table("t", ("a",), ((Number(1.0, "s", 1, "emulated"),),))
    page = Page("t", "s", (), (Section("S", (table,)),), {"a": 1.0})
    html = html_of(page)
    assert 'class="mark emulated"' in html
    assert "from a run on an emulated driver" in html
    assert "the memory plan that follows" not in html


def test_charts_have_their_figures_as_a_table_for_those_without_scripts() -> None:
    shown = Shown(html_of(example_page()))
    assert sum(tag == "table" for tag, _ in shown.tags) == len(charts()) + 1
    assert [chart["kind"] for chart in shown.data["charts"]] == [chart.kind for chart in charts()]


def test_two_equal_charts_are_both_drawn() -> None:
    chart = Chart("line", "t", (), Table("t", (), ()))
    html = html_of(Page("t", "s", (), (Section("S", (chart, chart)),), {}))
    assert html.count("data-chart=") == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": "</script>"}, '{"a":"\\u003c/script>"}'),
        ([float("nan"), float("inf"), 1.5], "[null,null,1.5]"),
        ({"a": ("\u2028",)}, '{"a":["\\u2028"]}'),
    ],
)
def test_json_can_stand_in_a_script(value: object, text: str) -> None:
    assert as_json(value) == text


def test_the_libraries_are_those_that_their_readme_names() -> None:
    rows = re.findall(
        r"\| \[(\S+)\]\(\1\) \| .* \| \[ISC\]\((\S+)\) \| `([0-9a-f]{64})` \|", (VENDOR / "README.md").read_text()
    )
    assert {script for script, _, _ in rows} == {path.name for path in VENDOR.glob("*.js")}
    for script, licence, digest in rows:
        assert hashlib.sha256((VENDOR / script).read_bytes()).hexdigest() == digest
        assert "Permission to use, copy, modify" in asset(f"vendor/{licence}")
        assert asset(f"vendor/{licence}") in html_of(example_page())
