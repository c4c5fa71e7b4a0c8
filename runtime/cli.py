"""`swiftvr-run`: restore a video file or a folder of images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import console
from ..engines.manifest import PRECISIONS
from ..engines.targets import TARGETS

if TYPE_CHECKING:
    from ..engines.geometry import Resolution
    from .media import SinkOptions
    from .restorer import Restorer
    from .selection import BundleRequest
    from .trace import Trace

_EPILOG = """\b
Examples:
  swiftvr-run old.mp4 new.mp4 --checkpoint SwiftVR --upscale 2
  swiftvr-run old.mkv new.mkv --bundle bundles/1080p --codec libx265 --crf 20
  swiftvr-run frames/ restored/ --checkpoint SwiftVR --resolution 1920x1080
  swiftvr-run tapes/*.avi restored/ --bundle bundles/1080p --devices 0,1 --suffix .mkv

Sound, subtitles, chapters and timestamps of the input are kept; OUTPUT appears only when it is complete.
Exit codes: 0 done, 1 the machine could not carry it out, 2 the request cannot be done, 130 interrupted."""


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("paths", metavar="INPUT... OUTPUT", nargs=-1)
@click.option("--bundle", type=click.Path(path_type=Path), help="Run this bundle; its resolution is the output's.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Build the bundle from here if it is not cached.")
@click.option("--upscale", type=float, help="Output size as a multiple of the input's.  [default: 2]")
@click.option("--resolution", metavar="WxH", help="Output size in pixels, e.g. 1920x1080.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="Precision of a bundle that is built.",
)
@click.option(
    "--target",
    type=click.Choice([t.name for t in TARGETS]),
    default="cpu",
    show_default=True,
    help="Target of a bundle that is built.",
)
@click.option("--clip-len", default=24, show_default=True, help="Frames per chunk of a bundle that is built.")
@click.option("--cache", type=click.Path(path_type=Path), envvar="SWIFTVR_CACHE", help="Where built bundles are kept.")
@click.option("--codec", help="Video encoder of FFmpeg, e.g. libx264, libx265, ffv1.")
@click.option("--crf", type=int, help="Constant quality of the encoder; lower is better.")
@click.option("--preset", help="Speed against size, in the encoder's words.")
@click.option("--pix-fmt", help="Pixel format of the output, e.g. yuv420p.")
@click.option("--rate", help="Frames per second of a folder of images, e.g. 24000/1001.  [default: 25]")
@click.option("--audio/--no-audio", default=True, help="Copy the sound.  [default: yes]")
@click.option("-y", "--overwrite", is_flag=True, help="Replace OUTPUT if it exists.")
@click.option("--device", help="Run on cpu, cuda or cuda:N.  [default: what the bundle was built for]")
@click.option(
    "--hwaccel",
    type=click.Choice(("none", "auto", "cuda")),
    default="none",
    show_default=True,
    help="Decode and encode video on the GPU: if there is one (auto), or with a line that says why not (cuda). "
    "libx264 then means h264_nvenc, libx265 hevc_nvenc, libsvtav1 av1_nvenc.",
)
@click.option("--devices", help="Restore several files at once, one per device, e.g. 0,1 for two GPUs, or cpu,cpu.")
@click.option("--suffix", help="Container of the outputs of several INPUTs, e.g. .mkv.  [default: the input's]")
@click.option("--trace", metavar="FILE", help="Write what took how long, for ui.perfetto.dev or chrome://tracing.")
@click.option("--threads", type=int, help="CPU threads for one stage.  [default: one per physical core]")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback when something fails.")
@click.version_option(package_name="swiftvr-trt")
def command(paths: tuple[str, ...], **options: Any) -> None:
    """Restore INPUT (a video file or a folder of images) into OUTPUT.

    Without --bundle, a bundle of the right size is looked for among those built before; with --checkpoint it is built
    if there is none.

    With several INPUTs, or with --devices, OUTPUT is a folder, and each file keeps its name in it. A file that fails
    does not stop the others; the exit code is then 1, and the last lines name those that failed.
    """
    if len(paths) < 2:
        raise click.UsageError(f"{len(paths) or 'no'} name was given, expected INPUT and OUTPUT")
    *sources, output = paths
    if len(sources) > 1 or options["devices"] is not None:
        _restore_many([Path(source) for source in sources], output, options)
    else:
        _restore_one(Path(sources[0]), output, options)


def _restore_one(source: Path, output: str, options: dict[str, Any]) -> None:
    """In this process, with a bar."""
    from .job import Job, restore_job
    from .restorer import Restorer
    from .selection import choose_bundle, output_size

    if options["suffix"] is not None:
        raise click.UsageError("--suffix is for several INPUTs; for one, OUTPUT is its name")
    tell = _silence if options["quiet"] else console.say
    request = _request(options)

    @contextmanager
    def restorer(size: Resolution) -> Iterator[Restorer]:
        bundle = choose_bundle(request, size, tell)
        tell(f"bundle: {bundle.path} ({bundle.manifest.recipe.describe()})")
        with (
            _trace(options["trace"]) as trace,
            Restorer.open(bundle, device=options["device"], threads=options["threads"], trace=trace) as opened,
        ):
            yield opened

    job = Job(source, output, _rate(options["rate"]), _sink_options(options), options["hwaccel"], options["device"])
    watch = partial(console.progress, options["quiet"])
    tell(restore_job(job, lambda width, height: output_size(request, width, height), restorer, tell, watch))


def _restore_many(sources: list[Path], folder: str, options: dict[str, Any]) -> None:
    """In processes of their own, one for each device."""
    from ..errors import MachineError
    from .batch import BatchOptions, choose_bundles, output_folder, plan_jobs
    from .fleet import parse_devices, run_fleet

    for name in ("device", "trace"):
        if options["devices"] is not None and options[name] is not None:
            raise click.UsageError(f"--{name} and --devices were both given, expected one of them")
    if options["trace"] is not None:
        raise click.UsageError("--trace is for one INPUT; restore the file in question by itself")
    devices = parse_devices(options["devices"]) if options["devices"] is not None else (options["device"],)
    batch = BatchOptions(options["suffix"], _rate(options["rate"]), _sink_options(options), options["hwaccel"])
    jobs = plan_jobs(sources, folder, batch)
    with output_folder(folder), console.board(options["quiet"]) as board:
        tasks, failures = choose_bundles(jobs, _request(options), board.say)
        failures += run_fleet(tasks, devices, board, threads=options["threads"])
    if failures:
        names = ", ".join(str(failure.job.source) for failure in failures)
        raise MachineError(f"{len(failures)} of {len(jobs)} files failed, the others are complete: {names}")


def _trace(path: str | None) -> AbstractContextManager[Trace | None]:
    from .trace import Trace

    return Trace(path) if path else nullcontext()


def _silence(_line: str) -> None:
    """For --quiet."""


def _rate(text: str | None) -> Fraction | None:
    from ..errors import MisuseError

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
    from .media import SinkOptions

    return SinkOptions(
        codec=options["codec"],
        crf=options["crf"],
        preset=options["preset"],
        pix_fmt=options["pix_fmt"],
        overwrite=options["overwrite"],
        audio=options["audio"],
    )


def _request(options: dict[str, Any]) -> BundleRequest:
    from .selection import BundleRequest

    names = ("bundle", "checkpoint", "resolution", "upscale", "precision", "target", "clip_len", "cache")
    return BundleRequest(**{name: options[name] for name in names})


def main() -> None:
    """Entry point."""
    console.run(command, "swiftvr-run")


if __name__ == "__main__":
    main()
