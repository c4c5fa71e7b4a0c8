"""`swiftvr-run`: restore video files and folders of images."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..engines.bundle.targets import TARGETS
from ..runtime.restore.hwaccel import MODES
from . import console
from .options import (
    CONTEXT,
    SectionedCommand,
    cache_option,
    clip_len_option,
    debug_option,
    path_option,
    precision_option,
    quiet_option,
    take,
    threads_option,
    was_given,
)

if TYPE_CHECKING:
    from ..runtime.restore.run import RunOptions

_EPILOG = """\b
Examples:
  swiftvr-run old.mp4 new.mp4 --checkpoint SwiftVR --upscale 2
  swiftvr-run old.mkv new.mkv --bundle b1080 --codec libx265 --crf 22
  swiftvr-run frames/ restored/ --checkpoint SwiftVR --resolution 1920x1080
  swiftvr-run tapes/*.avi out/ --bundle b1080 --devices 0,1 --suffix .mkv

Sound, subtitles, chapters and timestamps are kept. OUTPUT appears only when it is complete.

Exit codes: 0 done, 1 the machine could not do it, 2 the request cannot be met, 130 interrupted."""

_SECTIONS = {
    "Bundle and size": ("bundle", "checkpoint", "upscale", "resolution"),
    "Finding or building the bundle (without --bundle)": ("precision", "target", "clip_len", "cache"),
    "Device": ("device", "hwaccel", "threads", "ort_graphs", "trace"),
    "Several INPUTs": ("devices", "suffix"),
    "Output": ("codec", "crf", "preset", "pix_fmt", "audio", "rate", "overwrite"),
}


def _frame_rate(_context: click.Context, _option: click.Parameter, text: str | None) -> Fraction | None:
    """Called by click: frames per second, above 0 and up to 1000, from text such as 25 or 24000/1001."""
    if text is None:
        return None
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise click.BadParameter(f"{text!r} is not a frame rate, expected frames per second, e.g. 25 or 24000/1001")
    return rate


@click.command(cls=SectionedCommand, sections=_SECTIONS, epilog=_EPILOG, context_settings=CONTEXT)
@click.argument("paths", metavar="INPUT... OUTPUT", nargs=-1)
@path_option("--bundle", help="Bundle to run. It sets the size of OUTPUT.")
@path_option(
    "--checkpoint",
    help="SwiftVR checkpoint to build the bundle from. Takes a few minutes the first time; later runs reuse it.",
)
@click.option("--upscale", metavar="N", type=float, help="Size of OUTPUT relative to INPUT.  [default: 2]")
@click.option("--resolution", metavar="WxH", help="Size of OUTPUT in pixels, e.g. 1920x1080.")
@precision_option
@click.option(
    "--target",
    metavar="T",
    type=click.Choice([target.name for target in TARGETS]),
    default="cpu",
    show_default=True,
    help=f"{', '.join(target.name for target in TARGETS)} (this machine's GPU). For another card, name one of its "
    "series. swiftvr-export doctor lists what each target needs.",
)
@clip_len_option
@cache_option
@click.option("--codec", metavar="NAME", help="FFmpeg encoder, e.g. libx265, or ffv1 (lossless).  [default: libx264]")
@click.option(
    "--crf",
    metavar="N",
    type=int,
    help="Quality: lower is better and makes larger files.  [default: 18 for libx264, 20 for libx265]",
)
@click.option(
    "--preset", metavar="NAME", help="Encoder preset, speed against size, e.g. slow.  [default: the encoder's]"
)
@click.option(
    "--pix-fmt", metavar="NAME", help="Pixel format, e.g. yuv444p for sharper colour edges.  [default: yuv420p]"
)
@click.option(
    "--rate", metavar="FPS", callback=_frame_rate, help="Frame rate of an image folder, e.g. 24000/1001.  [default: 25]"
)
@click.option("--audio/--no-audio", default=True, help="Copy the sound unchanged.  [default: yes]")
@click.option("-y", "--overwrite", is_flag=True, help="Replace OUTPUT if it exists.")
@click.option(
    "--device",
    metavar="D",
    help="Device that runs the bundle: cpu, cuda (the first NVIDIA GPU) or cuda:N. Engines run on a GPU only.  "
    "[default: what the bundle was built for]",
)
@click.option(
    "--hwaccel",
    metavar="MODE",
    type=click.Choice(MODES),
    default="none",
    show_default=True,
    help="none, auto (decode and encode video on the NVIDIA GPU if there is one) or cuda (the same, with a warning if "
    "there is none). libx264 becomes h264_nvenc, libx265 hevc_nvenc, libsvtav1 av1_nvenc.",
)
@click.option(
    "--devices",
    metavar="D,D,...",
    help="Restore several files at once, one per device: 0,1 for two GPUs, cpu,cpu for two processes on the CPU.",
)
@click.option("--suffix", metavar=".EXT", help="Container of the outputs, e.g. .mkv.  [default: the input's]")
@path_option(
    "--trace",
    metavar="FILE",
    help="Write a timeline of stages, copies and chunks. Open it at ui.perfetto.dev or chrome://tracing.",
)
@threads_option
@click.option(
    "--ort-graphs",
    is_flag=True,
    help="Let ONNX Runtime capture its stages as CUDA graphs. Needs --device cuda and a bundle for cpu or cuda. Takes "
    "more GPU memory; the gain has not been measured.",
)
@quiet_option
@debug_option
@click.version_option(package_name="swiftvr-trt")
def command(paths: tuple[str, ...], quiet: bool, **given: Any) -> None:
    """Restore INPUT, a video file or a folder of images, into OUTPUT.

    Name the bundle to run with --bundle. Without it, a bundle of the right size that was built before is used; with
    --checkpoint, a missing one is built first.

    The name of OUTPUT decides what is written: a video (out.mp4, out.mkv), one image (out.png), or a folder of images
    without sound (no suffix, or a slash at the end).

    With several INPUTs, or with --devices, OUTPUT is a folder, and each file keeps its name in it. If one fails, the
    others continue; at the end, an error names the files that failed.
    """
    from ..runtime.restore.run import restore_files

    options = _run_options(paths, given)
    with console.display(quiet) as display:
        restore_files(options, display)


def _run_options(paths: tuple[str, ...], given: dict[str, Any]) -> RunOptions:
    """The options of the library for a command line. given: parameters, named like the fields of the option classes."""
    from ..runtime.media import SinkOptions
    from ..runtime.restore.run import RunOptions
    from ..runtime.restore.selection import BundleRequest

    if len(paths) < 2:
        raise click.UsageError(f"{len(paths) or 'no'} name was given, expected INPUT and OUTPUT")
    if not all(paths):
        raise click.UsageError("an empty name was given, expected INPUT and OUTPUT; was a variable not set?")
    if given["bundle"] is not None:
        _refuse_other_bundle("precision", "target", "clip_len")
    *sources, output = paths
    request, sink = take(BundleRequest, given), take(SinkOptions, given)
    return RunOptions(tuple(map(Path, sources)), output, request=request, sink=sink, **given)


def _refuse_other_bundle(*names: str) -> None:
    """Raise if one of these options was given along with --bundle: it would have no effect."""
    for name in filter(was_given, names):
        raise click.UsageError(
            f"--{name.replace('_', '-')} and --bundle were both given, expected one of them: "
            "swiftvr-export inspect shows what a bundle was built with"
        )


def main() -> None:
    """Entry point."""
    console.run(command, "swiftvr-run")


if __name__ == "__main__":
    main()
