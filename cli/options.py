"""Options that commands of `swiftvr-export` share, and the headings under which their help lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from swiftvr_trt.engines.bundle.targets import PRECISIONS

SECTIONS = {
    "What to build": ("checkpoint", "resolution", "precision", "output"),
    "Scales of fp8 and nvfp4": ("clip", "percentile", "scales_file"),
    "Seldom needed": ("clip_len", "parity", "no_rewrite"),
}
SECTIONS_OF_ENGINES = {
    "What to build": ("checkpoint", "resolutions", "target", "precision", "output", "cache"),
    "Scales of fp8 and nvfp4": SECTIONS["Scales of fp8 and nvfp4"],
    "Seldom needed": (*SECTIONS["Seldom needed"], "keep_onnx"),
}


def recipe_options(function: Any) -> Any:
    """The options that say what a bundle is to be, shared by `onnx` and `build-engine`."""
    for option in (
        click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback when something fails."),
        click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
        click.option(
            "--no-rewrite",
            multiple=True,
            metavar="NAME",
            help="Leave an exact rewrite of the network out, to find out whether it is to blame for something; repeat "
            "for more. They are listed in docs/rewrites.md.",
        ),
        click.option(
            "--parity",
            is_flag=True,
            help="Follow the published protocol exactly, black padding included: for comparing, not for use.",
        ),
        click.option(
            "--clip-len",
            metavar="N",
            default=24,
            show_default=True,
            help="Frames that are restored together, a multiple of 4. The model was published with 24; fewer take less "
            "memory and come out sooner.",
        ),
        click.option(
            "--calibration-percentile",
            "percentile",
            metavar="P",
            type=click.FloatRange(90, 100),
            help="Which percentile of the magnitudes seen is still represented, 90 to 100; 100 is the largest. Less "
            "gives small values more room and cuts large ones off.  [default: 100]",
        ),
        click.option(
            "--calibration-clip",
            "clip",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="A video to take the scales from; best one like those to be restored.  [default: the sample that "
            "comes with the tool]",
        ),
        click.option(
            "--calibration",
            "scales_file",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Scales of an earlier build, the calibration.json of its bundle: saves the time, and gives the same "
            "engine.",
        ),
        click.option(
            "--precision",
            metavar="P",
            type=click.Choice(PRECISIONS),
            default="fp32",
            show_default=True,
            help="What is computed in: fp32 (not for engines), fp16, bf16, fp8 (RTX 40, H100 and newer) or nvfp4 (for "
            "engines of RTX 50). Fewer bits take less memory.",
        ),
        click.option(
            "--checkpoint",
            metavar="DIR",
            type=click.Path(path_type=Path),
            required=True,
            help="SwiftVR checkpoint: transformer/, reae.safetensors, prompt_embedding.safetensors.",
        ),
    ):
        function = option(function)
    return function
