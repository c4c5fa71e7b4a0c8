"""`swiftvr-run`: restore video files and folders of images."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..runtime.restore.hwaccel import MODES
from ..text import parse_seconds
from . import console, start
from .habits import refuse_foreign_options
from .live import LIVE_SECTION, live_options, refuse_without_live, run_live
from .options import (
    CONTEXT,
    QualityNumber,
    SectionedCommand,
    cache_option,
    checkpoint_option,
    clip_len_option,
    debug_option,
    engine_options,
    input_options,
    path_option,
    precision_option,
    quiet_option,
    take,
    target_option,
    threads_option,
    verbose_option,
    was_given,
)
from .ways import saying_ways

if TYPE_CHECKING:
    from ..runtime.restore.run import RunOptions

_EPILOG = """\b
Examples:
  swiftvr-run old.mp4 new.mp4 --checkpoint SwiftVR --upscale 2
  swiftvr-run old.mkv new.mkv --bundle b1080 --codec libx265 --crf 22
  swiftvr-run frames/ restored/ --checkpoint SwiftVR --resolution 1920x1080
  swiftvr-run tapes/ restored/ --bundle b1080 --devices 0,1 --suffix .mkv
  swiftvr-run tapes/ restored/ --bundle b1080 --suffix .mkv --skip-existing
  ffmpeg -i old.mkv -f nut -c copy - | swiftvr-run - new.mkv --bundle b1080
  swiftvr-run film.mkv restored.mkv --bundle b1080 --cluster ray://head:10001
  swiftvr-run rtsp://camera/1 rtmp://server/app/key --bundle b1080 --live

Sound, subtitles, chapters and timestamps are kept. Without --live, OUTPUT appears only when complete.

Exit codes: 0 done, 1 the machine could not do it or INPUT is incomplete, 2 the request cannot be met,
130 interrupted."""

_SECTIONS = {
    "Bundle and size": ("bundle", "checkpoint", "upscale", "resolution", "tile"),
    "Finding or building the bundle (without --bundle)": ("precision", "target", "clip_len", "cache"),
    "Device": ("device", "hwaccel", "threads", "graphs", "overlap", "ort_graphs", "trace"),
    "A part of INPUT": ("start", "duration", "frames"),
    "Before restoring": ("deinterlace", "vf", "alpha", "tonemap", "assume_sdr", "scene_cut"),
    "Pipes and playlists": ("in_format", "out_format", "allow_playlist"),
    "Trying it out": ("dry_run", "preview_seconds", "preview_at", "report"),
    "Several INPUTs": ("recursive", "skip_existing", "devices", "suffix"),
    "A cluster": ("cluster", "ship"),
    "Live streams": LIVE_SECTION,
    "Output": (
        "codec",
        "crf",
        "preset",
        "pix_fmt",
        "audio",
        "audio_fallback",
        "rate",
        "resume",
        "overwrite",
        "keep",
        "strict",
        "keep_going",
    ),
    "Messages": ("quiet", "verbose", "as_json"),
}


def _seconds(_context: click.Context, _option: click.Parameter, text: str | None) -> Fraction | None:
    """Called by click: seconds from text such as 10s or 1:30."""
    if text is None:
        return None
    try:
        return parse_seconds(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time, expected e.g. 10s, 500ms, 1:30 or 0:01:30.5") from None


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


class RunCommand(SectionedCommand):
    """Says what the options of other programs are called here."""

    prints_events = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Called by click."""
        refuse_foreign_options(self, args)
        return super().parse_args(ctx, args)


@click.command(cls=RunCommand, sections=_SECTIONS, epilog=_EPILOG, context_settings=CONTEXT)
@click.argument("paths", metavar="INPUT... OUTPUT", nargs=-1)
@click.option("-i", "inputs", metavar="INPUT", multiple=True, help="One more INPUT, for those used to ffmpeg.")
@path_option("--bundle", help="Bundle to run. It sets the size of OUTPUT.")
@checkpoint_option("What to build the bundle from, which takes a few minutes the first time:")
@click.option("--upscale", metavar="N", type=float, help="Size of OUTPUT relative to INPUT.  [default: 2]")
@click.option("--resolution", metavar="WxH", help="Size of OUTPUT in pixels, e.g. 1920x1080.")
@precision_option
@target_option
@clip_len_option
@cache_option
@click.option(
    "--codec",
    metavar="NAME",
    help="FFmpeg encoder, e.g. libx265, or ffv1 (lossless).  [default: libx264 if OUTPUT takes it]",
)
@click.option(
    "--crf",
    metavar="N",
    type=QualityNumber(),
    help="Quality: lower is better and makes larger files.  [default: 18 for libx264, 20 for libx265]",
)
@click.option(
    "--preset",
    metavar="NAME",
    help="Encoder preset, speed against size, e.g. slow.  [default: the encoder's; with --live a fast one, such as "
    "veryfast]",
)
@click.option(
    "--pix-fmt",
    metavar="NAME",
    help="Pixel format, e.g. yuv444p for sharper colour edges.  [default: 4:2:0 as deep as INPUT, 4:4:4 for odd sizes]",
)
@click.option(
    "--rate", metavar="FPS", callback=_frame_rate, help="Frame rate of an image folder, e.g. 24000/1001.  [default: 25]"
)
@click.option(
    "--allow-playlist",
    is_flag=True,
    help="INPUT may be a playlist (.m3u8, ffconcat) of files in its own folder.",
)
@click.option(
    "--audio/--no-audio", default=True, help="Keep the sound, unchanged if OUTPUT can hold it.  [default: yes]"
)
@click.option(
    "--audio-fallback",
    metavar="CODEC",
    default="auto",
    help="What sound becomes that OUTPUT cannot hold: auto, a codec such as aac, opus, flac, or fail.  [default: auto]",
)
@click.option(
    "--resume/--no-resume",
    default=True,
    help="Go on with the finished pieces that an interrupted run of the same command left in OUTPUT.segments, or start "
    "over.  [default: resume]",
)
@input_options
@click.option("-y", "--overwrite", is_flag=True, help="Replace OUTPUT if it exists.")
@click.option("--strict", is_flag=True, help="Exit with 1 if INPUT is damaged, even if no frame is missing.")
@click.option(
    "--keep-going",
    is_flag=True,
    help="If INPUT cannot be read on in the middle, finish OUTPUT with what there is. Exits with 1 all the same.",
)
@click.option("-n", "keep", is_flag=True, help="Never replace OUTPUT, as without -y.")
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
    help="none, auto (decode and encode on the NVIDIA GPU if any), cuda (auto, with a warning if there is none) or "
    "surfaces (cuda, and frames stay there; no GPU has run it yet). libx264 becomes h264_nvenc, libx265 hevc_nvenc, "
    "libsvtav1 av1_nvenc.",
)
@click.option(
    "--devices",
    metavar="D,D,...",
    help="Restore on several devices at once: 0,1 for two GPUs, cpu,cpu for two processes on the CPU. They share one "
    "video, or take the files of a batch one by one if there are enough. Beside cpu, GPUs run graphs, not engines.",
)
@click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Restore videos on a Ray cluster: auto, ray://HOST:10001, HOST:6379, or local to start one here "
    "(docs/cluster.md).",
)
@click.option(
    "--ship", is_flag=True, help="With --cluster: send inputs and bundles to nodes that do not share their paths."
)
@click.option(
    "--recursive", is_flag=True, help="Also restore what the folders in a folder hold. Keeps their structure."
)
@click.option(
    "--skip-existing",
    is_flag=True,
    help="Skip each file whose output is there, to continue an interrupted batch. What options it was made with does "
    "not matter.",
)
@click.option(
    "--suffix",
    metavar=".EXT",
    help="Container of the outputs, e.g. .mp4.  [default: the input's, .mkv for old ones such as .avi]",
)
@click.option(
    "--start",
    metavar="TIME",
    callback=_seconds,
    help="Begin with the first frame at or after this time, exactly, e.g. 1:30, 90.5 or 500ms.",
)
@click.option(
    "--duration",
    metavar="TIME",
    callback=_seconds,
    help="Restore only frames that begin within this time after --start. Sound and subtitles are cut to match.",
)
@click.option("--frames", metavar="N", type=int, help="Restore at most N frames.")
@click.option(
    "--preview",
    "preview_seconds",
    metavar="TIME",
    callback=_seconds,
    help="Restore only a piece of this length, e.g. 10s, from the middle. OUTPUT shows it beside the original.",
)
@click.option("--preview-at", metavar="TIME", callback=_seconds, help="Where that piece begins, e.g. 1:30.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print what would be done: streams, sizes, bundle, time, memory and disk. Writes nothing.",
)
@path_option("--trace", metavar="FILE", help="Write a timeline of stages, copies and chunks for ui.perfetto.dev.")
@path_option(
    "--report",
    metavar="FILE.html",
    help="Write a page for the browser: frames before and after under a slider, the time taken, and what became of "
    "each stream.",
)
@live_options
@threads_option
@engine_options
@click.option(
    "--ort-graphs",
    is_flag=True,
    help="Let ONNX Runtime capture its stages as CUDA graphs, with --device cuda. Takes GPU memory; gain not measured.",
)
@quiet_option
@verbose_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print events as JSON lines on standard output (docs/json-lines.md)."
)
@debug_option
@click.version_option(package_name="swiftvr-trt")
def command(  # many parameters: those that are of no concern to the library
    paths: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    verbose: int,
    dry_run: bool,
    report: Path | None,
    **given: Any,
) -> None:
    """Restore INPUT, a video file or a folder of videos or images, into OUTPUT.

    A bundle is a model built for one output size. Name it with --bundle. Without it, one of the right size that was
    built before is used; a missing one is built first if --checkpoint is given.

    The name of OUTPUT decides what is written: a video (out.mp4, out.mkv), one image (out.png), or a folder of images
    without sound (no suffix, or a slash at the end). - stands for standard input and standard output.

    With several INPUTs or a folder of videos, OUTPUT is a folder, and each file keeps its name in it. If
    one fails, the others continue; at the end, an error names the files that failed.
    """
    from ..runtime.restore.run import restore_files
    from .report import check_report, restore_and_report

    console.show_log(verbose, quiet=quiet or as_json)
    paths = (*given.pop("inputs"), *paths)
    _check_pairs(given)
    if given["live"]:
        with saying_ways(quiet=quiet):
            run_live(paths, given, quiet=quiet, as_json=as_json)
        return
    refuse_without_live(paths)
    for name in LIVE_SECTION:
        del given[name]
    _check_pipes(paths, as_json=as_json)
    options = _run_options(paths, given)
    if report is not None:
        check_report(options, report)
    with saying_ways(quiet=quiet), console.display(quiet, as_json) as display:
        if dry_run:
            from .dry_run import print_plans

            print_plans(options, display, quiet=quiet, as_json=as_json)
        elif report is not None:
            restore_and_report(options, report, display)
        else:
            restore_files(options, display)


def _check_pairs(given: dict[str, Any]) -> None:
    """Raise for options that exclude each other, and take out `keep`, which does nothing else."""
    if given["bundle"] is not None:
        _refuse_other_bundle("precision", "target", "clip_len")
    if given.pop("keep") and given["overwrite"]:
        raise click.UsageError("-n and -y were both given, expected one of them")


def _run_options(paths: tuple[str, ...], given: dict[str, Any]) -> RunOptions:
    """The options of the library for a command line. given: parameters, named like the fields of the option classes."""
    from ..runtime.media import SinkOptions
    from ..runtime.media.source_options import SourceOptions
    from ..runtime.media.trim import Trim
    from ..runtime.restore.bundle_request import BundleRequest
    from ..runtime.restore.preview import Preview
    from ..runtime.restore.run import RunOptions

    if len(paths) < 2:
        raise click.UsageError(f"{len(paths) or 'no'} name was given, expected INPUT and OUTPUT")
    if not all(paths):
        raise click.UsageError("an empty name was given, expected INPUT and OUTPUT; was a variable not set?")
    length, at = given.pop("preview_seconds"), given.pop("preview_at")
    if length is None and at is not None:
        raise click.UsageError("--preview-at was given without --preview, expected both, e.g. --preview 10s")
    preview = None if length is None else Preview(length, at)
    *sources, output = paths
    request, sink, trim = take(BundleRequest, given), take(SinkOptions, given), take(Trim, given)
    reading = take(SourceOptions, given)
    return RunOptions(
        tuple(map(Path, sources)),
        output,
        request=request,
        sink=sink,
        trim=trim,
        reading=reading,
        preview=preview,
        **given,
    )


def _check_pipes(paths: tuple[str, ...], *, as_json: bool) -> None:
    """Raise for options that pipes do not allow, as far as only the command line tells that they were given."""
    from ..runtime.media.pipes import is_standard_output
    from ..runtime.restore.piped import check_pipes

    if paths and as_json and is_standard_output(paths[-1]):
        raise click.UsageError("--json prints on standard output, which is also OUTPUT: name a file")
    params = click.get_current_context().params
    asks_to_resume = was_given("resume") and bool(params["resume"])
    if asks_to_resume and params["scene_cut"] == "reset":
        raise click.UsageError("--resume was given with --scene-cut reset, which starts over: leave one of them out")
    check_pipes([Path(path) for path in paths[:-1]], paths[-1] if paths else "", {"--resume": asks_to_resume})


def _refuse_other_bundle(*names: str) -> None:
    """Raise if one of these options was given along with --bundle: it would have no effect."""
    for name in filter(was_given, names):
        raise click.UsageError(
            f"--{name.replace('_', '-')} and --bundle were both given, expected one of them: "
            "swiftvr-export inspect shows what a bundle was built with"
        )


def main() -> None:
    """The program, for `python -m` and for those who start it from Python; the installed command begins in `start`."""
    start.swiftvr_run()


if __name__ == "__main__":
    main()
