"""`swiftvr-run`: restore a video file or a folder of images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swiftvr_trt.engines.bundle.targets import PRECISIONS, TARGETS

from . import console

if TYPE_CHECKING:
    from swiftvr_trt.engines.bundle.geometry import Resolution
    from swiftvr_trt.runtime.media import SinkOptions
    from swiftvr_trt.runtime.restore.restorer import Restorer
    from swiftvr_trt.runtime.restore.selection import BundleRequest
    from swiftvr_trt.runtime.stream.trace import Trace

_EPILOG = """\b
Examples:
  swiftvr-run old.mp4 new.mp4 --checkpoint SwiftVR --upscale 2
  swiftvr-run old.mkv new.mkv --bundle b1080 --codec libx265 --crf 22
  swiftvr-run frames/ restored/ --checkpoint SwiftVR --resolution 1920x1080
  swiftvr-run tapes/*.avi out/ --bundle b1080 --devices 0,1 --suffix .mkv

Sound, subtitles, chapters and timestamps of the input are kept; OUTPUT appears only when it is complete.
Exit codes: 0 done, 1 the machine could not carry it out, 2 the request cannot be done, 130 interrupted."""

_SECTIONS = {
    "What restores": ("bundle", "checkpoint", "upscale", "resolution"),
    "A bundle that is built (with --checkpoint) or looked for": ("precision", "target", "clip_len", "cache"),
    "Where it runs": ("device", "hwaccel", "threads", "ort_graphs", "trace"),
    "Several INPUTs": ("devices", "suffix"),
    "The output": ("codec", "crf", "preset", "pix_fmt", "audio", "rate", "overwrite"),
}


@click.command(
    cls=console.Sectioned,
    sections=_SECTIONS,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.argument("paths", metavar="INPUT... OUTPUT", nargs=-1)
@click.option(
    "--bundle", metavar="DIR", type=click.Path(path_type=Path), help="Run this bundle. Its resolution is OUTPUT's."
)
@click.option(
    "--checkpoint",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="SwiftVR checkpoint to build the bundle from. That takes minutes, and once: it is kept and found again.",
)
@click.option("--upscale", metavar="N", type=float, help="Size of OUTPUT as a multiple of INPUT's.  [default: 2]")
@click.option("--resolution", metavar="WxH", help="Size of OUTPUT in pixels, e.g. 1920x1080, in place of --upscale.")
@click.option(
    "--precision",
    metavar="P",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="fp32 (the only one for cpu, and not for engines), fp16, bf16, fp8 (RTX 40, H100 and newer) or nvfp4 (RTX "
    "50). Fewer bits take less memory.",
)
@click.option(
    "--target",
    metavar="T",
    type=click.Choice([t.name for t in TARGETS]),
    default="cpu",
    show_default=True,
    help=f"What runs it: {', '.join(t.name for t in TARGETS)} (the GPU of this machine). For a GPU, choose its series; "
    "swiftvr-export doctor lists what each needs.",
)
@click.option(
    "--clip-len",
    metavar="N",
    type=int,
    default=24,
    show_default=True,
    help="Frames that are restored together, a multiple of 4. Fewer take less memory.",
)
@console.cache_option
@click.option(
    "--codec", metavar="NAME", help="FFmpeg's encoder, e.g. libx265, or ffv1 without loss.  [default: libx264]"
)
@click.option(
    "--crf",
    metavar="N",
    type=int,
    help="Quality; lower is better and larger.  [default: 18 for libx264, 20 for libx265]",
)
@click.option(
    "--preset", metavar="NAME", help="Speed against size, in the encoder's words, e.g. slow.  [default: the encoder's]"
)
@click.option(
    "--pix-fmt", metavar="NAME", help="Pixel format, e.g. yuv444p for sharper colour edges.  [default: yuv420p]"
)
@click.option("--rate", metavar="FPS", help="Of a folder of images, e.g. 24000/1001.  [default: 25]")
@click.option("--audio/--no-audio", default=True, help="Copy the sound, as it is.  [default: yes]")
@click.option("-y", "--overwrite", is_flag=True, help="Replace OUTPUT if it exists.")
@click.option(
    "--device",
    metavar="D",
    help="cpu, cuda (the first NVIDIA GPU) or cuda:N. Bundles of graphs run on either, by ONNX Runtime; engines on the "
    "GPU they are for.  [default: what the bundle is for]",
)
@click.option(
    "--hwaccel",
    metavar="MODE",
    type=click.Choice(("none", "auto", "cuda")),
    default="none",
    show_default=True,
    help="Decode and encode video on the NVIDIA GPU, for when the CPU cannot keep up: auto, if there is one; cuda, "
    "which says so if there is none. libx264 then means h264_nvenc, libx265 hevc_nvenc, libsvtav1 av1_nvenc.",
)
@click.option(
    "--devices",
    metavar="D,D,...",
    help="Restore as many files at once as are named here, each on its device: 0,1 for two GPUs, cpu,cpu for two "
    "processes on the CPU. One file is not divided.",
)
@click.option("--suffix", metavar=".EXT", help="Container of the outputs, e.g. .mkv.  [default: the input's]")
@click.option(
    "--trace",
    metavar="FILE",
    help="Write what took how long: each stage on the CPU; each copy and chunk on a GPU. Open FILE at ui.perfetto.dev "
    "or chrome://tracing to see what is waited for.",
)
@click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(1, 1024),
    help="CPU threads for one stage; fewer leave room for other work.  [default: one per physical core]",
)
@click.option(
    "--ort-graphs",
    is_flag=True,
    help="With --device cuda and a bundle of graphs: ONNX Runtime captures each stage as a CUDA graph and replays it, "
    "if every node runs on the GPU. Costs GPU memory; nobody has measured yet what it gains.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback when something fails.")
@click.version_option(package_name="swiftvr-trt")
def command(paths: tuple[str, ...], **options: Any) -> None:
    """Restore INPUT (a video file or a folder of images) into OUTPUT.

    A bundle, made by swiftvr-export, does it: the one that --bundle names, or one of the right size that was built
    before, or, with --checkpoint, one that is built now.

    OUTPUT's name says what it is: a video (out.mp4, out.mkv), one image (out.png), or, without a suffix or with a slash
    at its end, a folder of images, which have no sound.

    With several INPUTs, or with --devices, OUTPUT is a folder, and each file keeps its name in it. A file that fails
    does not stop the others; the exit code is then 1, and the last line names those that failed.
    """
    if len(paths) < 2:
        raise click.UsageError(f"{len(paths) or 'no'} name was given, expected INPUT and OUTPUT")
    if not all(paths):
        raise click.UsageError("an empty name was given, expected INPUT and OUTPUT; was a variable not set?")
    *sources, output = paths
    if len(sources) > 1 or options["devices"] is not None:
        _restore_many([Path(source) for source in sources], output, options)
    else:
        _restore_one(Path(sources[0]), output, options)


def _restore_one(source: Path, output: str, options: dict[str, Any]) -> None:
    """In this process, with a bar."""
    from swiftvr_trt.runtime.restore.interruptible import beside
    from swiftvr_trt.runtime.restore.job import Job, restore_job
    from swiftvr_trt.runtime.restore.restorer import Restorer
    from swiftvr_trt.runtime.restore.selection import choose_bundle, output_size

    if options["suffix"] is not None:
        raise click.UsageError("--suffix is for several INPUTs; for one, OUTPUT is its name")
    tell = _silence if options["quiet"] else console.say
    request = _request(options)
    _check_devices(request, (options["device"],), options["ort_graphs"])
    if options["trace"] is not None:
        _check_trace(Path(options["trace"]), source, Path(output), options["overwrite"])

    @contextmanager
    def restorer(size: Resolution) -> Iterator[Restorer]:
        bundle = choose_bundle(request, size, tell)
        tell(f"bundle: {bundle.path} ({bundle.manifest.recipe.describe()})")
        opening = {name: options[name] for name in ("device", "threads", "ort_graphs")}
        with (
            _trace(options["trace"]) as trace,
            beside(partial(Restorer.open, bundle, **opening, trace=trace)) as opened,
        ):
            yield opened

    job = Job(source, output, _rate(options["rate"]), _sink_options(options), options["hwaccel"], options["device"])
    watch = partial(console.progress, options["quiet"])
    tell(restore_job(job, lambda width, height: output_size(request, width, height), restorer, tell, watch))


def _restore_many(sources: list[Path], folder: str, options: dict[str, Any]) -> None:
    """In processes of their own, one for each device."""
    from swiftvr_trt.errors import MachineError
    from swiftvr_trt.runtime.restore.batch import BatchOptions, choose_bundles, output_folder, plan_jobs
    from swiftvr_trt.runtime.restore.fleet import parse_devices, run_fleet

    for name in ("device", "trace"):
        if options["devices"] is not None and options[name] is not None:
            raise click.UsageError(f"--{name} and --devices were both given, expected one of them")
    if options["trace"] is not None:
        raise click.UsageError("--trace is for one INPUT; restore the file in question by itself")
    devices = parse_devices(options["devices"]) if options["devices"] is not None else (options["device"],)
    batch = BatchOptions(options["suffix"], _rate(options["rate"]), _sink_options(options), options["hwaccel"])
    jobs = plan_jobs(sources, folder, batch)
    request = _request(options)
    _check_devices(request, devices, options["ort_graphs"])
    with output_folder(folder), console.board(options["quiet"]) as board:
        tasks, failures = choose_bundles(jobs, request, board.say)
        failures += run_fleet(tasks, devices, board, threads=options["threads"], ort_graphs=options["ort_graphs"])
    if failures:
        names = ", ".join(str(failure.job.source) for failure in failures)
        others = ", the others are complete" if len(failures) < len(jobs) else ""
        raise MachineError(f"{len(failures)} of {len(jobs)} files failed{others}: {names}")


def _check_devices(request: BundleRequest, devices: Sequence[str | None], ort_graphs: bool) -> None:
    """Refuse what none of the devices can run, before a bundle is built; of several, one is enough."""
    from swiftvr_trt.engines.bundle.files import read_manifest
    from swiftvr_trt.errors import SwiftVRError
    from swiftvr_trt.runtime.devices.gpu import require_driver
    from swiftvr_trt.runtime.restore.restorer import choose_device

    target = request.target if request.bundle is None else read_manifest(request.bundle).recipe.target
    refused: list[SwiftVRError] = []
    for device in devices:
        try:
            if choose_device(target, device, ort_graphs=ort_graphs) != "cpu":
                require_driver()
        except SwiftVRError as error:
            refused.append(error)
    if len(refused) == len(devices):
        raise refused[0]


def _check_trace(trace: Path, source: Path, output: Path, overwrite: bool) -> None:
    """Refuse, before anything is done, a trace that would take the place of something else."""
    from swiftvr_trt.errors import MisuseError
    from swiftvr_trt.runtime.media.files import check_parent

    check_parent(trace)
    for name, path in (("INPUT", source), ("OUTPUT", output)):
        if os.path.realpath(trace) == os.path.realpath(path) or (
            trace.exists() and path.exists() and trace.samefile(path)
        ):
            raise MisuseError(f"--trace {trace} is {name}: give the trace a name of its own, e.g. trace.json")
    if trace.is_dir():
        raise MisuseError(f"--trace {trace} is a directory, expected the name of a file, e.g. trace.json")
    if trace.is_file() and not overwrite:
        raise MisuseError(f"--trace {trace} exists already: choose another name, or allow it to be overwritten with -y")


def _trace(path: str | None) -> AbstractContextManager[Trace | None]:
    from swiftvr_trt.runtime.stream.trace import Trace

    return Trace(path) if path else nullcontext()


def _silence(_line: str) -> None:
    """For --quiet."""


def _rate(text: str | None) -> Fraction | None:
    from swiftvr_trt.errors import MisuseError

    if text is None:
        return None
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise MisuseError(f"--rate is {text!r}, expected frames per second, e.g. 25 or 24000/1001")
    return rate


def _sink_options(options: dict[str, Any]) -> SinkOptions:
    from swiftvr_trt.runtime.media import SinkOptions

    return SinkOptions(
        codec=options["codec"],
        crf=options["crf"],
        preset=options["preset"],
        pix_fmt=options["pix_fmt"],
        overwrite=options["overwrite"],
        audio=options["audio"],
    )


def _request(options: dict[str, Any]) -> BundleRequest:
    from swiftvr_trt.runtime.restore.selection import BundleRequest

    if options["bundle"] is not None:
        _refuse_beside_bundle("precision", "target", "clip_len")
    names = ("bundle", "checkpoint", "resolution", "upscale", "precision", "target", "clip_len", "cache")
    return BundleRequest(**{name: options[name] for name in names})


def _refuse_beside_bundle(*names: str) -> None:
    """A bundle is what it is: whoever asks for something else would otherwise believe to have got it."""
    from click.core import ParameterSource

    from swiftvr_trt.errors import MisuseError

    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = "--" + name.replace("_", "-")
            raise MisuseError(
                f"{option} and --bundle were both given, expected one of them: a bundle was built with its own "
                f"{name.replace('_', ' ')} (swiftvr-export inspect tells)"
            )


def main() -> None:
    """Entry point."""
    console.run(command, "swiftvr-run")


if __name__ == "__main__":
    main()
