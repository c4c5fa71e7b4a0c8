"""`swiftvr-run`: restore a video file or a folder of images."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import console
from ..engines.manifest import PRECISIONS
from ..engines.targets import TARGETS

if TYPE_CHECKING:
    from .media import SinkOptions
    from .pipeline import Progress
    from .selection import BundleRequest
    from .trace import Trace

_EPILOG = """\b
Examples:
  swiftvr-run old.mp4 new.mp4 --checkpoint SwiftVR --upscale 2
  swiftvr-run old.mkv new.mkv --bundle bundles/1080p --codec libx265 --crf 20
  swiftvr-run frames/ restored/ --checkpoint SwiftVR --resolution 1920x1080

Sound, subtitles, chapters and timestamps of the input are kept; OUTPUT appears only when it is complete.
Exit codes: 0 done, 1 the machine could not carry it out, 2 the request cannot be done, 130 interrupted."""


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.argument("output", metavar="OUTPUT", type=str)
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
@click.option("--trace", metavar="FILE", help="Write what took how long, for ui.perfetto.dev or chrome://tracing.")
@click.option("--threads", type=int, help="CPU threads for one stage.  [default: one per physical core]")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback when something fails.")
@click.version_option(package_name="swiftvr-trt")
def command(source: Path, output: str, **options: Any) -> None:
    """Restore INPUT (a video file or a folder of images) into OUTPUT.

    Without --bundle, a bundle of the right size is looked for among those built before; with --checkpoint it is built
    if there is none.
    """
    from ..errors import MachineError
    from .media import open_sink, open_source
    from .pipeline import restore_media
    from .restorer import Restorer
    from .selection import choose_bundle, output_size

    tell = _silence if options["quiet"] else console.say
    request = _request(options)
    with open_source(source, rate=_rate(options["rate"])) as opened:
        info = opened.info
        for line in (f"input:  {info.description}", *opened.notes):
            tell(line)
        size = output_size(request, info.width, info.height)
        # The output is opened before a bundle is built, so that what cannot be written is known at once.
        with open_sink(output, info, size.width, size.height, _sink_options(options)) as sink:
            bundle = choose_bundle(request, size, tell)
            tell(f"bundle: {bundle.path} ({bundle.manifest.recipe.describe()})")
            told = {*opened.notes, *sink.notes}
            for line in sink.notes:
                tell(line)
            with (
                _trace(options["trace"]) as trace,
                Restorer.open(bundle, device=options["device"], threads=options["threads"], trace=trace) as restorer,
                restorer.session() as session,
                console.progress(options["quiet"], info.frames) as update,
            ):
                done = restore_media(session, opened, sink, lambda p: update(p.written, p.remaining))
        for line in (*opened.notes, *sink.notes):
            if line not in told:
                tell(line)
        tell(_summary(output, done))
        if opened.shortfall:
            raise MachineError(f"{opened.shortfall}; {output} holds what could be restored")


def _summary(output: str, done: Progress) -> str:
    return f"output: {output}, {done.written} frames in {console.duration(done.elapsed)} ({done.rate:.2f} frames/s)"


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
