"""`swiftvr-export`: build bundles from a checkpoint, and check or describe them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from .. import leaving
from ..engines.bundle.checkpoints import PUBLISHED, HubRepository
from ..engines.bundle.targets import ONNX
from ..text import printable
from . import console, start
from .cache import cache_commands
from .options import (
    CONTEXT,
    ENGINE_SECTIONS,
    ONNX_SECTIONS,
    SectionedCommand,
    build_options,
    cache_option,
    checkpoint_option,
    debug_option,
    json_option,
    path_option,
    quiet_option,
    target_option,
    threads_option,
)


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="swiftvr-trt")
def command() -> None:
    """Build bundles from a SwiftVR checkpoint. A bundle restores video without PyTorch.

    A bundle has one output resolution and takes frames of any size. Run doctor to see what this machine can build and
    run.

    \b
    Examples:
      swiftvr-export build-engine --checkpoint SwiftVR --resolution 1920x1080
      swiftvr-run old.mp4 new.mp4 --checkpoint SwiftVR --resolution 1920x1080
    """


@command.command(cls=SectionedCommand, sections=ONNX_SECTIONS, short_help="Build a bundle of ONNX graphs.")
@build_options
@click.option("--resolution", metavar="WxH", required=True, help="Output size in pixels, e.g. 1920x1080.")
@path_option("-o", "--output", required=True, help="Directory of the bundle.")
@cache_option
def onnx(resolution: str, **given: Any) -> None:
    """Build a bundle of ONNX graphs for use in other tools. It runs on ONNX Runtime as it is (bf16 on GPUs only).

    To restore video, use build-engine instead: swiftvr-run finds its bundles.
    """
    _build([resolution], target=ONNX.name, **given)


@command.command(
    "build-engine", cls=SectionedCommand, sections=ENGINE_SECTIONS, short_help="Build a bundle for a target."
)
@build_options
@click.option(
    "--resolution",
    "resolutions",
    metavar="WxH",
    required=True,
    multiple=True,
    help="Output size in pixels, e.g. 1920x1080. Repeat it to build several bundles; the weights are traced only once.",
)
@target_option
@path_option("-o", "--output", help="Directory of the bundle.  [default: in the cache, where swiftvr-run finds it]")
@cache_option
@path_option("--keep-onnx", help="Directory in which to keep the graphs that engines are compiled from.")
def build_engine(resolutions: tuple[str, ...], **given: Any) -> None:
    """Build a bundle for a target, by default in the cache, where swiftvr-run finds it.

    Graphs run on ONNX Runtime, engines on TensorRT or TensorRT-RTX. Engines for GeForce RTX and RTX PRO cards can be
    built without a GPU. For h100 and local, build on the machine that has the GPU.

    \b
    Examples:
      swiftvr-export build-engine --checkpoint SwiftVR --resolution 1920x1080
      swiftvr-export build-engine --checkpoint SwiftVR --resolution 1920x1080 \\
          --target rtx5090 --precision fp8 -o bundle-5090
    """
    _build(resolutions, **given)


def _build(resolutions: Sequence[str], quiet: bool, verbose: int, **given: Any) -> None:
    """Build bundles and print their directories. given: other fields of `BuildOptions`."""
    from ..engines.bundle.geometry import Resolution
    from ..export.build import BuildOptions, build_bundles

    console.show_log(verbose)
    options = BuildOptions(resolutions=tuple(map(Resolution.parse, resolutions)), **given)
    with closing(build_bundles(options, console.timed_lines(quiet))) as bundles:
        for bundle in bundles:
            click.echo(printable(str(bundle.path)))


@command.command(short_help="Download the weights.")
@click.argument("repository", metavar="[hf:OWNER/NAME]", default=str(PUBLISHED))
@path_option(
    "--to", help="Directory to download to.  [default: in the user's cache, where --checkpoint hf:... finds it]"
)
@click.option("--revision", metavar="R", help="Branch, tag or commit.  [default: main]")
@quiet_option
@debug_option
def download(repository: str, to: Path | None, revision: str | None, quiet: bool) -> None:
    """Download the published weights (20 GB) or another SwiftVR checkpoint from the Hugging Face Hub.

    Prints their directory. An interrupted download continues when the same command runs again. Every file is checked
    against the digest that the hub states. HF_ENDPOINT names a mirror, HF_TOKEN a token, HF_HOME the cache.

    \b
    Examples:
      swiftvr-export download --to SwiftVR
      swiftvr-export download hf:H-oliday/SwiftVR --revision main --to SwiftVR
    """
    from dataclasses import replace

    from ..export.download import download_checkpoint, progress_lines
    from .transfer import transfer_progress
    from .ways import command_line

    wanted = HubRepository.parse(repository)
    if revision is not None and wanted.revision not in (None, revision):
        raise click.UsageError(f"--revision {revision} and {wanted} name two revisions, expected one")
    wanted = replace(wanted, revision=revision or wanted.revision)
    with (
        leaving.advising("run the same command again, it continues where it stopped"),
        transfer_progress(quiet, progress_lines) as (say, progress),
    ):
        path = download_checkpoint(wanted, to, say, progress)
    click.echo(printable(str(path)))
    if not quiet:
        use = ("old.mp4", "new.mp4", "--checkpoint", str(to or wanted))
        console.say(f"Use it: {command_line('swiftvr-run', use)}")


@command.command(short_help="Compare a bundle with the PyTorch network.")
@click.argument("bundle", type=click.Path(path_type=Path))
@checkpoint_option("What the bundle was made from:", required=True)
@click.option(
    "--device",
    metavar="D",
    help="Device that runs the bundle: cpu, cuda or cuda:N.  [default: cpu for graphs, cuda for engines]",
)
@click.option(
    "--frames",
    metavar="N",
    type=click.IntRange(1, 100000),
    help="Length of the test clip in frames.  [default: two chunks and 9 frames]",
)
@threads_option
@cache_option
@debug_option
def verify(**given: Any) -> int:
    """Compare every stage of BUNDLE, and the whole loop, with the float32 PyTorch network.

    The network runs on the CPU and needs memory for the float32 checkpoint. The exit code is 0 if every difference is
    within tolerance, and 1 if not.
    """
    from ..export.build import needs_export_extra

    with needs_export_extra("verifying a bundle"):
        from ..export.verify import VerifyOptions, verify_files

    from .tables import print_comparisons

    compared = []
    for comparison in verify_files(VerifyOptions(**given), console.say):
        compared.append(comparison)
        console.say(f"compared {comparison.subject}, {comparison.unit}")
    print_comparisons(compared)
    return 0 if all(comparison.passed for comparison in compared) else 1


@command.command(short_help="Describe a bundle and the memory it takes.")
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
@click.option("--kernels", is_flag=True, help="Also list every kernel of every engine.")
@click.option("--buffers", is_flag=True, help="Also list every buffer of a stream and its place.")
@path_option("--picture", metavar="FILE.svg", help="Also draw memory and time to this file.")
@click.option(
    "--input-size",
    metavar="WxH",
    help="Size of the frames that come in, for the memory plan.  [default: the output size]",
)
@click.option(
    "--card", metavar="NAME", help="Project the speed for this card, e.g. rtx4070.  [default: some of the target's]"
)
@click.option("--overlap", is_flag=True, help="Plan the memory as for swiftvr-run --overlap.")
@debug_option
def inspect(bundle: Path, picture: Path | None, input_size: str | None, card: str | None, **shown: bool) -> None:
    """Describe BUNDLE: what it was built from, its stages, and the memory that a stream takes.

    For engines, also describe what the compiler produced: kernels, fused attention, precisions, operations, GPU memory,
    and the best speed to expect (projected, see docs/roofline.md).
    """
    from ..engines.bundle.card_names import named_card
    from ..engines.bundle.files import Bundle
    from ..engines.bundle.geometry import Resolution
    from ..engines.report.inspect import engine_reports, inspect_bundle
    from ..engines.report.picture import write_picture
    from ..runtime.restore.restorer import OpenOptions, choose_device
    from ..runtime.stream.plan import describe_stream
    from .tables import print_buffers, print_kernels, print_report

    wanted = named_card(card) if card is not None else None
    opened = Bundle.open(bundle)
    size = Resolution.parse(input_size) if input_size else opened.manifest.recipe.resolution
    overlap = shown["overlap"]
    choose_device(opened.manifest.recipe.target, None, OpenOptions(overlap=overlap))
    stream = describe_stream(opened.manifest, size.height, size.width, overlap=overlap)
    report = inspect_bundle(opened, stream_input=(size.width, size.height), stream=stream, card=wanted)
    if picture is not None:
        write_picture(report, picture)
    if shown["as_json"]:
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
        print_report(bundle, report)
    if shown["buffers"]:
        print_buffers(stream.buffers)
    if shown["kernels"]:
        engines = engine_reports(opened)
        if not engines:
            target = opened.manifest.recipe.target
            console.say(f"{bundle}: a bundle for target {target} holds graphs; only engines have kernels")
        print_kernels(engines)


@command.command(short_help="List what this machine can build and run.")
@json_option
@cache_option
@debug_option
@click.option("--try", "trial", is_flag=True, help="Decode, restore and encode three frames on the CPU instead.")
def doctor(as_json: bool, cache: Path | None, trial: bool) -> None:
    """List what is installed, what each target still needs, and how to install it."""
    from ..engines.bundle.cache import BundleCache
    from .doctor import diagnose
    from .tables import print_diagnosis

    if trial:
        from .trial import try_installation

        done = try_installation()
        click.echo(json.dumps(asdict(done)) if as_json else done)
        return
    diagnosis = diagnose(BundleCache(cache).root)
    if as_json:
        click.echo(json.dumps(diagnosis.to_dict(), indent=2))
    else:
        print_diagnosis(diagnosis)


command.add_command(cache_commands)


def main() -> None:
    """The program, for `python -m` and for those who start it from Python; the installed command begins in `start`."""
    start.swiftvr_export()


if __name__ == "__main__":
    main()
