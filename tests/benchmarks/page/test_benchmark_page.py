"""The page of a benchmark: every number on it is in the record, and is marked with how it was obtained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt.benchmarks.page.benchmark_page import page_of_benchmark, write_page
from swiftvr_trt.benchmarks.suite.metrics import NO_PSNR, sampled
from swiftvr_trt.benchmarks.suite.record import BenchRun, Case, How, State, Subject, run_to_json
from swiftvr_trt.page.document import Chart, Number, Table
from swiftvr_trt.page.write import html_of
from tests.benchmarks.suite.sample import sample_run
from tests.page.examples import HOSTILE, Shown, numbers_in, strings_in

_NUMERAL = re.compile(r"(?<![\w.])\d[\d.]*\d|(?<![\w.])\d")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> BenchRun:
    return sample_run(tmp_path_factory.mktemp("pictures"))


def numerals(text: str) -> list[str]:
    """The numbers in a text: `RTX 5090, 1920x1080` -> 5090, 1920, 1080."""
    return _NUMERAL.findall(re.sub(r"[xT:]", " ", text))


def tables(run: BenchRun) -> Iterator[Table]:
    for section in page_of_benchmark(run).sections:
        for part in section.parts:
            if isinstance(part, Table | Chart):
                yield part.table if isinstance(part, Chart) else part


def test_every_number_on_the_page_is_in_the_record(run: BenchRun, tmp_path: Path) -> None:
    write_page(run, tmp_path / "run.html")
    shown = Shown((tmp_path / "run.html").read_text(encoding="utf-8"))
    record = json.loads(run_to_json(run))
    known = set(numbers_in(record))
    assert len(shown.figures) > 100
    assert {value for value, _ in shown.figures} <= known
    written = {numeral for text in strings_in(record) for numeral in numerals(text)}
    written |= {numeral for text in strings_in(record) for numeral in numerals(text[:12])}  # of a digest
    written |= {f"{value:g}" for value in known}
    of_columns = {"10", "90", "99", "256"}  # p10, p90, p99, SHA-256
    said = {numeral for text in shown.texts for numeral in numerals(text)}
    assert said - written <= of_columns
    drawn = {numeral for chart in shown.data["charts"] for text in strings_in(chart) for numeral in numerals(text)}
    rounded = {Number(value, "", digits).text for value in known for digits in range(9)}
    rounded |= {Number(value, "bytes").text for value in known}
    assert drawn - written <= rounded


def test_every_figure_of_the_record_is_on_the_page(run: BenchRun) -> None:
    cells = {cell.value for table in tables(run) for row in table.rows for cell in row if isinstance(cell, Number)}
    assert {figure.value for case in run.cases for figure in case.figures} <= cells


def test_nothing_on_the_page_stands_for_two_subjects(run: BenchRun) -> None:
    """Charts stack what has one name, so two protocols of one size must not be called alike."""
    places = {"rows": ("group", "name"), "bars": ("name", "part"), "line": ("name", "x"), "scatter": ("name",)}
    page = page_of_benchmark(run)
    charts = [part for section in page.sections for part in section.parts if isinstance(part, Chart)]
    assert {chart.kind for chart in charts} > set(places)
    for chart in charts:
        if chart.kind in places and not chart.title.startswith("Least time"):  # there, kernels of two precisions stack
            found = [tuple(point[name] for name in places[chart.kind]) for point in chart.points]
            assert len(set(found)) == len(found), chart.title
    for table in tables(run):
        rows = [tuple(cell for cell in row if isinstance(cell, str)) for row in table.rows]
        assert len(set(rows)) == len(rows), table.caption
    chunks = next(chart for chart in charts if chart.title == "Time of a chunk")
    assert [name for name in dict.fromkeys(point["name"] for point in chunks.points) if "1080" in name] == [
        "swiftvr-trt, fp8, paper, 1920x1080",
        "swiftvr-trt, fp8, short-chunks, 1920x1080",
    ]
    assert "swiftvr-trt, fp8, 3840x2160" in {point["name"] for point in chunks.points}


def test_a_page_replaces_an_older_one(run: BenchRun, tmp_path: Path) -> None:
    (tmp_path / "run.html").write_text("old")
    write_page(run, tmp_path / "run.html")
    assert (tmp_path / "run.html").read_text(encoding="utf-8") != "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run.html"]


def test_figures_obtained_in_different_ways_share_no_column(run: BenchRun) -> None:
    for table in tables(run):
        for place, name in enumerate(table.columns):
            cells = (row[place] for row in table.rows)
            origins = {cell.origin for cell in cells if isinstance(cell, Number)}
            assert len(origins) < 2, f"{table.caption}: {name}"


def test_points_of_a_chart_are_marked_one_by_one(run: BenchRun) -> None:
    page = page_of_benchmark(run)
    chart = next(part for section in page.sections for part in section.parts if isinstance(part, Chart))
    assert {point["origin"] for point in chart.points} == {"measured", "projected", "published"}
    for point in chart.points:
        assert ("published code" in point["name"]) == (point["origin"] == "published")


def test_what_failed_is_said_first(run: BenchRun) -> None:
    first, *_ = (section for section in page_of_benchmark(run).sections if section.parts)
    assert first.title == "Read this first"
    assert "choose a smaller resolution" in str(first.parts)


def test_a_run_that_was_cut_short_says_so(run: BenchRun) -> None:
    cases = tuple(replace(case, state=State.PLANNED, figures=(), problem="") for case in run.cases)
    text = html_of(page_of_benchmark(replace(run, cases=cases, state=State.INTERRUPTED, problem="")))
    assert "The run is not complete: interrupted." in text
    assert text.count(": not begun") == len(cases)


def test_sections_without_data_are_left_out(run: BenchRun) -> None:
    text = html_of(page_of_benchmark(replace(run, cases=(), peers=(), clips=())))
    for title in (
        "Speed",
        "Time by stage",
        "Waiting",
        "Memory",
        "Precision",
        "Frames",
        "Roofline",
        "What others state",
    ):
        assert f">{title}" not in text
    assert ">What was run" in text


@pytest.mark.parametrize("suite", ["core", "file", "memory", "quality"])
def test_any_suite_by_itself_has_a_page(run: BenchRun, suite: str) -> None:
    cases = tuple(case for case in run.cases if case.suite == suite)
    assert html_of(page_of_benchmark(replace(run, cases=cases)))


def test_imported_times_are_no_stages_of_a_chunk_and_not_measured(run: BenchRun) -> None:
    subject = Subject("trtexec", "dit", "", "", "", "GPU", 0, 0, 0)
    times = sampled("imported.dit", [4.0, 5.0], How.IMPORTED, "trtexec")
    case = Case("trtexec dit", "core", subject, "trtexec", state=State.DONE, figures=(times,))
    page = page_of_benchmark(replace(run, cases=(case,), peers=()))
    shown = {
        cell.origin: section.title
        for section in page.sections
        for part in section.parts
        for table in ([part.table] if isinstance(part, Chart) else [part] if isinstance(part, Table) else [])
        for row in table.rows
        for cell in row
        if isinstance(cell, Number) and cell.origin
    }
    assert shown == {"imported": "Every figure"}
    assert "mark imported" in html_of(page)


@pytest.mark.parametrize("both", [True, False])
def test_what_quality_is_measured_against_is_told_apart(run: BenchRun, both: bool) -> None:
    def against_clean(case: Case) -> Case:
        kept = case.figures if both else ()
        clean = tuple(
            replace(figure, name=f"{figure.name}_clean", value=figure.value / 2, note="against the undamaged clip")
            for figure in case.figures
        )
        return replace(case, figures=(*kept, *clean))

    cases = tuple(against_clean(case) for case in run.cases if case.suite == "quality")
    page = page_of_benchmark(replace(run, cases=cases))
    section = next(section for section in page.sections if section.title == "Precision and quality")
    assert section.lead == f"PSNR in the charts is against {'float32' if both else 'the undamaged clip'}."
    chart = section.parts[0]
    assert isinstance(chart, Chart)
    columns = [name for name in chart.table.columns if "PSNR" in name]
    assert columns == ["PSNR to float32"] * both + ["PSNR to the undamaged clip"]
    psnr = cases[0].figures[0].value
    shown = {str(cell): cell.value for cell in chart.table.rows[0] if isinstance(cell, Number)}
    assert psnr in shown.values()
    assert [point["value"] for point in chart.points] == [case.figures[0].value for case in cases]


def test_frames_are_shown_also_where_float32_was_out_of_reach(run: BenchRun) -> None:
    why = f"{NO_PSNR}: it would take about 95 min on this CPU"
    quality = next(case for case in run.cases if case.frames)
    page = page_of_benchmark(replace(run, cases=(replace(quality, figures=(), notes=(why,)),)))
    sections = {section.title.partition(":")[0]: section for section in page.sections}
    assert sections["Precision and quality"].lead == f"{why}."
    (table,) = sections["Precision and quality"].parts
    assert isinstance(table, Table)
    assert (table.columns[1], table.rows[0][1]) == ("PSNR to float32", "not measured")
    assert len(sections["Frames"].parts) == 1


def test_emulated_figures_are_never_called_measured(run: BenchRun) -> None:
    def emulated(case: Case) -> Case:
        return replace(case, figures=tuple(replace(figure, how=How.EMULATED) for figure in case.figures), frames=())

    text = html_of(page_of_benchmark(replace(run, cases=tuple(map(emulated, run.cases)), peers=())))
    assert "mark emulated" in text
    assert "mark measured" not in text


def test_names_from_outside_are_escaped(run: BenchRun) -> None:
    cases = tuple(
        replace(case, name=HOSTILE, notes=(HOSTILE,), subject=replace(case.subject, side=HOSTILE)) for case in run.cases
    )
    host = replace(run.host, cpu=HOSTILE, versions={HOSTILE: HOSTILE})
    shown = Shown(html_of(page_of_benchmark(replace(run, cases=cases, host=host, argv=(HOSTILE,)))))
    assert not any("alert" in script for script in shown.scripts)
    assert HOSTILE.strip() in shown.texts
