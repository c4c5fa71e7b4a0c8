"""Prints what `swiftvr-run --dry-run` would do: a few lines per file, or an event as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..engines.bundle.card_names import find_card
from ..engines.bundle.files import Bundle
from ..text import counted, format_bytes, format_duration, printable
from .json_lines import emit

if TYPE_CHECKING:
    from ..runtime.restore.display import Display
    from ..runtime.restore.dry_run import DiskNeed, FilePlan, MemoryNeed
    from ..runtime.restore.expected_bundle import BundleToBuild
    from ..runtime.restore.run import RunOptions

NOT_KNOWN = "not known before the first frames are restored"


def print_plans(options: RunOptions, display: Display, *, quiet: bool, as_json: bool) -> None:
    """Print the plan of each file to standard output. Raises what the run would raise; see `plan_files`."""
    from ..runtime.restore.dry_run import plan_files

    count, least, most = 0, 0, 0
    for plan in plan_files(options, display):
        seconds = best_seconds(plan, options.request.target)
        count, least, most = count + 1, least + (plan.disk.low or 0), most + (plan.disk.high or 0)
        if as_json:
            emit("plan", **plan_event(plan, seconds))
        elif not quiet:
            for line in plan_lines(plan, seconds):
                click.echo(printable(line))
    if not (quiet or as_json):
        if count > 1:
            click.echo(f"{counted(count, 'file')}, {_range(least, most)} of disk in all (rough)")
        click.echo("dry run: nothing was written")


def best_seconds(plan: FilePlan, target: str) -> dict[str, float]:
    """The least time that a card needs for the frames, in seconds by the card's name: projected, not measured.

    target: as the user named it, maybe a card. Empty if nothing is known.
    """
    from ..engines.report.inspect import describe_engines, engine_reports
    from ..runtime.stream.plan import describe_stream

    if not isinstance(plan.bundle, Bundle) or plan.frames is None:
        return {}
    reports = engine_reports(plan.bundle)
    if not reports:
        return {}
    manifest, card = plan.bundle.manifest, find_card(target)
    if card is not None and reports[0].sm not in (None, card.sm):
        card = None
    size = manifest.recipe.resolution
    engines = describe_engines(manifest, reports, describe_stream(manifest, size.height, size.width), card)
    frames = max(plan.frames - plan.kept_frames * plan.resume, 0) * len(plan.tiling.tiles)
    return {each.gpu: frames / each.frames_per_second for each in engines.projected if each.frames_per_second}


def plan_lines(plan: FilePlan, seconds: dict[str, float]) -> Iterator[str]:
    """A plan for people. seconds: see `best_seconds`."""
    form = plan.form
    yield f"{plan.source} -> {plan.output}"
    yield f"  input:     {plan.description}"
    pictures = f"{form.pix_fmt} {plan.size}" + (
        "" if plan.frames is None else f", about {plan.frames} frame{'s' * (plan.frames != 1)}"
    )
    yield f"  output:    {form.container}, {form.codec} {pictures}"
    if not plan.tiling.is_whole:
        yield f"  tiles:     {len(plan.tiling.tiles)} of {plan.tiling.tile}"
    for stream in form.copied:
        yield f"  copied:    {stream}"
    for stream, name in form.converted:
        yield f"  converted: {stream} to {name}"
    for stream, reason in form.left_out:
        yield f"  left out:  {stream}: {reason}"
    yield from _bundle_lines(plan.bundle)
    yield f"  device:    {plan.device or 'whichever is free'}"
    yield f"  time:      {_time(seconds)}"
    if plan.memory is not None or not isinstance(plan.bundle, Bundle):
        yield f"  memory:    {_memory(plan.memory, '' if plan.device else ' for each device')}"
    if plan.disk.copies:
        yield f"  disk:      {_disk(plan.disk)}"
    kept = counted(plan.kept_frames, "frame is kept", "frames are kept")
    if plan.kept_frames and plan.resume:
        yield f"  unfinished run: {kept}, and the run goes on from there"
    elif plan.kept_frames:
        yield f"  unfinished run: {kept}, and would be restored again (--no-resume)"


def _bundle_lines(bundle: Bundle | BundleToBuild) -> Iterator[str]:
    if isinstance(bundle, Bundle):
        yield f"  bundle:    {bundle.path} ({bundle.manifest.recipe.describe()})"
        return
    yield f"  bundle:    to be built first from {bundle.checkpoint} ({bundle.recipe.describe()})"
    if bundle.download is not None:
        yield f"  download:  {bundle.download}"
    yield f"  build:     {bundle.estimate or 'what it takes is not known before the download'}"


def _time(seconds: dict[str, float]) -> str:
    if not seconds:
        return NOT_KNOWN
    best = ", ".join(f"{format_duration(least)} on an {card}" for card, least in seconds.items())
    return f"at best {best} (projected, not measured)"


def _memory(need: MemoryNeed | None, each: str) -> str:
    if need is None:
        return "not known before the bundle is built"
    free = "" if need.free is None else f"; {format_bytes(need.free)} are free"
    if need.gpu is not None:
        return f"at least {format_bytes(need.gpu)} on the GPU and {format_bytes(need.ram)} of RAM{each}{free}"
    return f"at least {format_bytes(need.ram)}{each}, the rest depends on ONNX Runtime{free}"


def _disk(need: DiskNeed) -> str:
    free = f"{format_bytes(need.free)} are free"
    if need.low is None or need.high is None:
        return f"not known, since the number of frames is not; {free}"
    twice = ", twice that while the pieces are joined" if need.copies > 1 else ""
    return f"{_range(need.low, need.high)} (rough){twice}; {free}"


def _range(low: int, high: int) -> str:
    return f"up to {format_bytes(high)}" if low < 1e5 else f"{format_bytes(low)} to {format_bytes(high)}"


def plan_event(plan: FilePlan, seconds: dict[str, float]) -> dict[str, Any]:
    """The fields of the event `plan`. seconds: see `best_seconds`."""
    form, memory, disk = plan.form, plan.memory, plan.disk
    return {
        "file": plan.name or None,
        "input": plan.source,
        "output": plan.output,
        "description": plan.description,
        "container": form.container,
        "codec": form.codec,
        "pixel_format": form.pix_fmt,
        "width": plan.size.width,
        "height": plan.size.height,
        "tiles": len(plan.tiling.tiles),
        "frames": plan.frames,
        "copied": list(form.copied),
        "converted": [{"stream": stream, "format": name} for stream, name in form.converted],
        "left_out": [{"stream": stream, "reason": reason} for stream, reason in form.left_out],
        "bundle": _bundle_fields(plan.bundle),
        "device": plan.device,
        "projected_s": {card: round(least, 1) for card, least in seconds.items()} or None,
        "memory_bytes": None if memory is None else memory.ram,
        "memory_free_bytes": None if memory is None else memory.free,
        "gpu_bytes": None if memory is None else memory.gpu,
        "disk_bytes": _pair(disk.low, disk.high),
        "disk_peak_bytes": _pair(*(None if size is None else size * disk.copies for size in (disk.low, disk.high))),
        "disk_free_bytes": disk.free,
        "kept_frames": plan.kept_frames,
        "resume": plan.resume,
    }


def _bundle_fields(bundle: Bundle | BundleToBuild) -> dict[str, Any]:
    if isinstance(bundle, Bundle):
        return {"path": str(bundle.path), "recipe": bundle.manifest.recipe.describe(), "to_build": False}
    return {
        "path": None,
        "recipe": bundle.recipe.describe(),
        "to_build": True,
        "checkpoint": bundle.checkpoint,
        "download": bundle.download,
        "estimate": bundle.estimate,
    }


def _pair(low: int | None, high: int | None) -> Sequence[int] | None:
    return None if low is None or high is None else (low, high)
