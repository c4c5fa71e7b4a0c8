"""Options that commands share, and how they become the options of the library."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import click
import pytest
from click.testing import CliRunner

from swiftvr_trt.cli import export, run
from swiftvr_trt.cli.options import SectionedCommand, take, was_given
from swiftvr_trt.export.build import BuildOptions
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.media.trim import Trim
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.live.options import LiveOptions
from swiftvr_trt.runtime.restore.run import RunOptions


def names(*kinds: Any) -> set[str]:
    """Names of the fields of dataclasses."""
    return {field.name for kind in kinds for field in fields(kind)}


def parameters(command: click.Command) -> set[str]:
    """Names of the parameters that a command receives."""
    return {str(param.name) for param in command.params if param.expose_value}


def test_the_parameters_of_the_builds_are_the_fields_of_build_options() -> None:
    common = names(BuildOptions) - {"resolutions", "target", "keep_onnx"} | {"quiet", "verbose"}
    assert parameters(export.onnx) == common | {"resolution"}
    assert parameters(export.build_engine) == common | {"resolutions", "target", "keep_onnx"}


def test_the_parameters_of_verify_are_the_fields_of_verify_options() -> None:
    from swiftvr_trt.export.verify import VerifyOptions

    assert parameters(export.command.commands["verify"]) == names(VerifyOptions)


def test_the_parameters_of_a_run_are_fields_of_its_option_classes() -> None:
    parts = names(BundleRequest) | names(SinkOptions) | names(Trim) | names(SourceOptions)
    library = parts | names(RunOptions) - {"sources", "output", "request", "sink", "trim", "reading"}
    not_offered = {
        "extra",
        "subtitles",
        "data",
        "metadata",
        "gpu",
        "surfaces",
        "trial",
        "host",
        "again",
        "clock",
        "planes",
        "deep",
    }
    preview = {"preview_seconds", "preview_at"}  # together they are one field
    live = names(LiveOptions) - {"chosen"} | {"live"}
    of_the_program = live | {"paths", "inputs", "keep", "quiet", "verbose", "as_json", "dry_run", "report"}
    assert parameters(run.command) == library - not_offered - {"preview"} | preview | of_the_program


@pytest.mark.parametrize("command", [run.command, export.onnx, export.build_engine], ids=lambda c: c.name)
def test_every_section_of_a_help_names_options_that_exist_once(command: SectionedCommand) -> None:
    listed = [name for section in command.sections.values() for name in section]
    assert len(listed) == len(set(listed))
    assert set(listed) <= parameters(command)


def test_options_are_listed_under_their_headings_and_the_rest_under_other() -> None:
    @click.command(cls=SectionedCommand, sections={"Size": ("width",), "Colour": ("hue", "tone")})
    @click.option("--hue")
    @click.option("--tone")
    @click.option("--width")
    @click.option("--secret", hidden=True)
    @click.option("--loud")
    def paint(**_given: Any) -> None: ...

    said = CliRunner().invoke(paint, ["--help"]).output.split("\n\n")[1:]
    listed = [[line.split()[0] for line in section.splitlines()] for section in said]
    assert listed == [["Size:", "--width"], ["Colour:", "--hue", "--tone"], ["Other:", "--loud", "--help"]]


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0
    z: int = 0


def test_take_moves_the_parameters_of_a_class_out_of_the_others() -> None:
    given = {"x": 1, "z": 3, "name": "p"}
    assert take(Point, given) == Point(1, 0, 3)
    assert given == {"name": "p"}


@pytest.mark.parametrize(("line", "expected"), [([], False), (["--hue", "3"], True), (["--hue", "7"], True)])
def test_an_option_was_given_even_if_it_has_the_default(line: list[str], expected: bool) -> None:
    seen = []

    @click.command()
    @click.option("--hue", default=7)
    def paint(hue: int) -> None:
        seen.append((hue, was_given("hue")))

    CliRunner().invoke(paint, line, catch_exceptions=False)
    assert [given for _, given in seen] == [expected]
