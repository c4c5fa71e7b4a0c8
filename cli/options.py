"""Options that several commands share, and the headings under which `--help` lists options."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ..engines.bundle.auto import AUTO
from ..engines.bundle.checkpoints import PUBLISHED
from ..engines.bundle.targets import AUTOENCODERS, PRECISIONS, TARGETS, find_target
from ..runtime.media.source_options import ALPHA, DEINTERLACE, SCENE_CUTS

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Command = TypeVar("Command", bound=Callable[..., Any])
Options = TypeVar("Options", bound="DataclassInstance")


class SectionedCommand(click.Command):
    """A command whose help lists its options under headings.

    prints_events: with `--json`, it prints an event for everything that happens, up to its end.

    sections: heading -> names of parameters. All other options are listed under "Other".
    """

    prints_events = False

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


def checkpoint_option(purpose: str, **settings: Any) -> Callable[[Command], Command]:
    """The option `--checkpoint`. purpose: the beginning of its help."""
    names = f"the directory of a SwiftVR checkpoint, {PUBLISHED} (downloads the published weights), or demo"
    return click.option("--checkpoint", metavar="C", help=f"{purpose} {names} (the demonstration model).", **settings)


_graphs_option = click.option(
    "--no-graphs",
    "graphs",
    flag_value=False,
    default=True,
    help="Do not capture the chunks of engines as CUDA graphs. Frames are the same, made more slowly.",
)
_overlap_option = click.option(
    "--overlap",
    is_flag=True,
    help="Decode a chunk of engines beside the work on the next one. Frames are the same. Takes more GPU memory "
    "(swiftvr-export inspect --overlap); gain not measured.",
)


def engine_options(function: Command) -> Command:
    """Add the options of a run with engines."""
    return _graphs_option(_overlap_option(function))


cache_option = path_option(
    "--cache",
    envvar="SWIFTVR_CACHE",
    help="Directory of built bundles.  [default: $SWIFTVR_CACHE, or in the user's cache directory]",
)


class FiniteRange(click.FloatRange):
    """A number in a range. Refuses `nan`, which is in every range as click has it, and `inf`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} was given, expected a finite number", param, ctx)
        return number


class QualityNumber(click.types.FloatParamType):
    """A number, such as 18 or 18.5. A whole one stays one: an interrupted run goes on with what it was told."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Called by click."""
        number = float(super().convert(value, param, ctx))
        return int(number) if number.is_integer() else number


quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print warnings and errors only.")
verbose_option = click.option("-v", "verbose", count=True, help="Also show the log; -vv shows all of it.")
debug_option = click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback when something fails.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
threads_option = click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(1, 1024),
    help="CPU threads per stage.  [default: one per physical core]",
)


def _precision_or_none(_context: click.Context, _option: click.Parameter, name: str) -> str | None:
    """Called by click: None stands for the usual precision of a target."""
    return None if name == AUTO else name


precision_option = click.option(
    "--precision",
    metavar="P",
    default=AUTO,
    type=click.Choice((AUTO, *PRECISIONS)),
    callback=_precision_or_none,
    help="fp32 (not for engines), fp16; in engines also bf16 (RTX 30 and newer), fp8 (RTX 40, H100 and newer), int8 "
    "(RTX 20 and newer) and nvfp4 (RTX 50). Fewer bits take less memory.  [default: auto: fp32 on a CPU, fp8 in "
    "engines that take it, fp16 otherwise; with --target auto, smaller if memory is short]",
)


def _known_target(_context: click.Context, _option: click.Parameter, name: str) -> str:
    """Called by click: the name as it was typed, if it is a target or a card. Raises `MisuseError`."""
    if name != AUTO:
        find_target(name, TARGETS)
    return name


target_option = click.option(
    "--target",
    metavar="T",
    default=AUTO,
    callback=_known_target,
    help='A card, such as rtx4070, "RTX 3060 Laptop" or a6000, or one of '
    f"{', '.join(target.name for target in TARGETS)} (this machine's GPU). Bundles for cpu and cuda hold graphs, the "
    "others engines, which all cards of a series share.  [default: auto: what suits the GPU and the packages here]",
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
    "What to build": ("checkpoint", "resolution", "precision", "autoencoder", "output", "overwrite"),
    "Scales of fp8, int8 and nvfp4": _CALIBRATION,
    "Rarely needed": _RARE,
}
ENGINE_SECTIONS = {
    "What to build": (
        "checkpoint",
        "resolutions",
        "target",
        "precision",
        "autoencoder",
        "output",
        "overwrite",
        "cache",
    ),
    "Scales of fp8, int8 and nvfp4": _CALIBRATION,
    "Rarely needed": (*_RARE, "keep_onnx"),
}

_BUILD_OPTIONS = (
    checkpoint_option("What to build from:", required=True),
    precision_option,
    click.option(
        "--autoencoder",
        metavar="A",
        type=click.Choice(AUTOENCODERS),
        help="fp16, or int8: convolutions of the decoder in INT8, except those for which calibration finds it too "
        "inexact. Faster, less exact.  [default: int8 in engines of fp8, int8 and nvfp4, but for RTX 20; otherwise the "
        "format of --precision]",
    ),
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
        type=FiniteRange(90, 100),
        help="Share of the measured values, in int8 of those of each channel, that the scales cover. Below 100, the "
        "largest values are clipped and small ones become more precise.  [default: 100]",
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
    click.option("-y", "--overwrite", is_flag=True, help="Replace the bundle that -o names if it exists."),
    quiet_option,
    verbose_option,
    debug_option,
)


def build_options(function: Command) -> Command:
    """Add the options that `onnx` and `build-engine` share. They are named like the fields of `BuildOptions`."""
    for option in reversed(_BUILD_OPTIONS):
        function = option(function)
    return function


_INPUT_OPTIONS = (
    click.option(
        "--deinterlace",
        metavar="MODE",
        type=click.Choice(DEINTERLACE),
        default="auto",
        show_default=True,
        help="auto (with bwdif, if the flags of INPUT and a short look at its frames say so), bwdif (always) or no.",
    ),
    click.option(
        "--vf",
        metavar="GRAPH",
        help="Filters to apply before restoring, as in ffmpeg, e.g. crop=iw-16:ih,nlmeans. They may change size and "
        "rate, but not read other files.",
    ),
    click.option(
        "--alpha",
        metavar="MODE",
        type=click.Choice(ALPHA),
        help="What becomes of transparency: keep (enlarged as it is, where OUTPUT holds it) or drop. Otherwise a "
        "transparent INPUT is refused.",
    ),
    click.option(
        "--tonemap",
        is_flag=True,
        help="Convert HDR (PQ or HLG) to SDR before restoring.",
    ),
    click.option(
        "--assume-sdr",
        is_flag=True,
        help="Restore HDR as if it were SDR, and keep its tags. Otherwise HDR is refused.",
    ),
    click.option(
        "--scene-cut",
        metavar="MODE",
        type=click.Choice(SCENE_CUTS),
        default="keep",
        show_default=True,
        help="keep (one stream), or reset (find cuts, and restore every scene as a video of its own; an interrupted "
        "run then starts over).",
    ),
    click.option(
        "--tile",
        metavar="WxH",
        help="Restore an OUTPUT that is too large for any bundle in overlapping tiles: auto, or the size of a tile, at "
        "least 1024x1024. With --bundle, tiles have its size.",
    ),
    click.option(
        "--in-format",
        metavar="FMT:WxH:FPS",
        help="INPUT is raw video without a header, e.g. yuv420p:720x576:25. Everything else is recognised by its "
        "contents.",
    ),
    click.option(
        "--out-format",
        metavar="NAME",
        help="Format of an OUTPUT that is a pipe, e.g. nut, y4m or mkv.  [default: y4m if INPUT is y4m, else nut; both "
        "uncompressed]",
    ),
)


def input_options(function: Command) -> Command:
    """Add the options about what comes before restoring, and about pipes."""
    for option in reversed(_INPUT_OPTIONS):
        function = option(function)
    return function


def take(kind: type[Options], given: dict[str, Any]) -> Options:
    """Build a dataclass from the parameters that are named like its fields, and remove these from `given`."""
    return kind(**{field.name: given.pop(field.name) for field in fields(kind) if field.name in given})


def was_given(name: str) -> bool:
    """True if the parameter `name` of the running command was on the command line."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE
