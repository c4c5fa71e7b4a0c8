"""Options that several commands share, and the headings under which `--help` lists options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ..engines.bundle.targets import PRECISIONS

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Command = TypeVar("Command", bound=Callable[..., Any])
Options = TypeVar("Options", bound="DataclassInstance")


class SectionedCommand(click.Command):
    """A command whose help lists its options under headings.

    sections: heading -> names of parameters. All other options are listed under "Other".
    """

    def __init__(self, *arguments: Any, sections: Mapping[str, Sequence[str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Called by click to write the options."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        records = {option.name: record for option in options if (record := option.get_help_record(ctx))}
        for heading, names in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([records.pop(name) for name in names])
        with formatter.section("Other"):
            formatter.write_dl(list(records.values()))


def path_option(*names: str, metavar: str = "DIR", **settings: Any) -> Callable[[Command], Command]:
    """An option whose value is a path."""
    return click.option(*names, metavar=metavar, type=click.Path(path_type=Path), **settings)


cache_option = path_option(
    "--cache",
    envvar="SWIFTVR_CACHE",
    help="Directory of built bundles.  [default: $SWIFTVR_CACHE, or in the user's cache directory]",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
debug_option = click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback when something fails.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
threads_option = click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(1, 1024),
    help="CPU threads per stage.  [default: one per physical core]",
)

precision_option = click.option(
    "--precision",
    metavar="P",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="fp32 (not for engines), fp16, bf16, fp8 (RTX 40, H100 and newer) or nvfp4 (engines for RTX 50). Fewer bits "
    "take less memory.",
)
clip_len_option = click.option(
    "--clip-len",
    metavar="N",
    type=int,
    default=24,
    show_default=True,
    help="Frames restored together, a multiple of 4. The model was published with 24; fewer take less memory and give "
    "the first frame sooner.",
)

_CALIBRATION = ("calibration_clip", "calibration_percentile", "calibration")
_RARE = ("clip_len", "parity", "without")
ONNX_SECTIONS = {
    "What to build": ("checkpoint", "resolution", "precision", "output"),
    "Scales of fp8 and nvfp4": _CALIBRATION,
    "Rarely needed": _RARE,
}
ENGINE_SECTIONS = {
    "What to build": ("checkpoint", "resolutions", "target", "precision", "output", "cache"),
    "Scales of fp8 and nvfp4": _CALIBRATION,
    "Rarely needed": (*_RARE, "keep_onnx"),
}

_BUILD_OPTIONS = (
    path_option(
        "--checkpoint",
        required=True,
        help="SwiftVR checkpoint: transformer/, reae.safetensors, prompt_embedding.safetensors.",
    ),
    precision_option,
    path_option(
        "--calibration",
        metavar="FILE",
        help="Scales of an earlier build: calibration.json in its bundle. Saves time and gives the same engine.",
    ),
    path_option(
        "--calibration-clip",
        metavar="FILE",
        help="Video to calibrate on, ideally like those you will restore.  [default: a built-in sample]",
    ),
    click.option(
        "--calibration-percentile",
        metavar="P",
        type=click.FloatRange(90, 100),
        help="Share of the measured values that the scales cover. Below 100, the largest values are clipped and small "
        "ones become more precise.  [default: 100]",
    ),
    clip_len_option,
    click.option(
        "--parity",
        is_flag=True,
        help="Follow the published protocol exactly, including its black padding. For comparisons only.",
    ),
    click.option(
        "--no-rewrite",
        "without",
        multiple=True,
        metavar="NAME",
        help="Leave out one of the exact rewrites of the network (docs/rewrites.md), to find the cause of a "
        "difference. May be repeated.",
    ),
    quiet_option,
    debug_option,
)


def build_options(function: Command) -> Command:
    """Add the options that `onnx` and `build-engine` share. They are named like the fields of `BuildOptions`."""
    for option in reversed(_BUILD_OPTIONS):
        function = option(function)
    return function


def take(kind: type[Options], given: dict[str, Any]) -> Options:
    """Build a dataclass from the parameters that are named like its fields, and remove these from `given`."""
    return kind(**{field.name: given.pop(field.name) for field in fields(kind) if field.name in given})


def was_given(name: str) -> bool:
    """True if the parameter `name` of the running command was on the command line."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE
