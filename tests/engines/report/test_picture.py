"""The picture is valid SVG and shows the numbers of the report."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt import MisuseError, OutputError
from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.engines.report.inspect import EnginesSummary, inspect_bundle
from swiftvr_trt.engines.report.picture import draw, write_picture

from .compiled import STREAM


def texts_of(drawn: ET.Element) -> list[str]:
    return [element.text or "" for element in drawn.iter() if element.tag.endswith("text")]


def widths_of(drawn: ET.Element) -> list[float]:
    """Widths of the bars, in pixels."""
    return [
        float(element.attrib["width"]) for element in drawn.iter() if "x" in element.attrib and "fill" in element.attrib
    ]


def draw_with(bundle: Bundle, **changes: object) -> tuple[EnginesSummary, ET.Element]:
    """The bundle's engines with these fields changed, and the picture of them."""
    report = inspect_bundle(bundle, stream_input=(100, 60), stream=replace(STREAM, owners={"frames": 70_000_000}))
    assert report.engines is not None
    engines = replace(report.engines, **changes)  # type: ignore[arg-type]
    return engines, ET.fromstring(draw(report, engines))


def test_the_picture_is_valid_and_shows_its_numbers(bundle: Bundle) -> None:
    _, drawn = draw_with(bundle)
    texts = texts_of(drawn)
    for said in ("100x60, fp8, target rtx5090", "weights of dit.engine", "70.0 MB", "(projected)", "(planned, 100x60"):
        assert any(said in text for text in texts), said
    assert max(widths_of(drawn)) == 500


def test_bars_are_as_long_as_their_share_of_the_largest(bundle: Bundle) -> None:
    _, drawn = draw_with(bundle, memory={"all": 8_000_000, "half": 4_000_000, "nothing": 0}, projected=())
    assert widths_of(drawn) == [500, 250, 1]


def test_without_a_projection_only_memory_is_drawn(bundle: Bundle) -> None:
    engines, drawn = draw_with(bundle, projected=())
    assert len(widths_of(drawn)) == len(engines.memory)
    assert not any("projected" in text for text in texts_of(drawn))


@pytest.mark.parametrize("name", ["a < b", "a & b", '"quoted"'])
def test_names_are_escaped(bundle: Bundle, name: str) -> None:
    _, drawn = draw_with(bundle, memory={name: 1})
    assert name in texts_of(drawn)


def test_nothing_sticks_out_below(bundle: Bundle) -> None:
    _, drawn = draw_with(bundle)
    bottoms = [float(e.attrib["y"]) + float(e.attrib["height"]) for e in drawn.iter() if e.attrib.get("x") == "230"]
    assert max(b for b in bottoms) <= float(drawn.attrib["height"])


def test_a_picture_is_written_and_replaces_an_older_one(bundle: Bundle, tmp_path: Path) -> None:
    report = inspect_bundle(bundle, stream_input=(100, 60), stream=STREAM)
    assert report.engines is not None
    for name in ("p.svg", "p.SVG", "new"):
        (tmp_path / "p.svg").write_text("old")
        write_picture(report, tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8") == draw(report, report.engines)


def test_a_picture_never_replaces_a_file_of_another_kind(bundle: Bundle, tmp_path: Path) -> None:
    report = inspect_bundle(bundle, stream_input=(100, 60), stream=STREAM)
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(MisuseError, match=r"holiday.jpg: already exists and is not an .svg file"):
        write_picture(report, tmp_path / "holiday.jpg")
    assert (tmp_path / "holiday.jpg").read_bytes() == b"precious"


def test_a_picture_of_graphs_or_in_no_directory_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    report = inspect_bundle(bundle, stream_input=(100, 60), stream=STREAM)
    with pytest.raises(MisuseError, match="holds graphs, and there are no engines to draw"):
        write_picture(replace(report, engines=None), tmp_path / "p.svg")
    with pytest.raises(OutputError, match="cannot be written"):
        write_picture(report, tmp_path / "none" / "p.svg")
    assert list(tmp_path.glob("*.svg")) == []
