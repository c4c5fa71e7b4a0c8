"""`swiftvr-export cache`: list the bundles that were built without `-o`, and remove those that nobody needs."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import MisuseError
from ..text import format_bytes, printable
from . import console
from .options import CONTEXT, cache_option, debug_option, json_option, quiet_option

if TYPE_CHECKING:
    from ..engines.bundle.cache_entries import CacheEntry

_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


def _duration(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    """Called by click: seconds from text such as 30d."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6}) ?(m|h|d|w)", text.strip().lower())
    if match is None:
        raise click.BadParameter(
            f"{text!r} is not a time, expected days (30d), weeks (2w), hours (12h) or minutes (5m)"
        )
    return float(int(match[1]) * _SECONDS[match[2]])


def _size(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    """Called by click: bytes from text such as 20GB."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?) ?([kmgt]?)(i?b)?", text.strip().lower())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size, expected one such as 20GB or 500MB")
    return int(float(match[1]) * _BYTES[match[2]])


@click.group("cache", context_settings=CONTEXT, short_help="List or remove the bundles that swiftvr-run finds.")
def cache_commands() -> None:
    """List or remove the bundles that were built without -o, where swiftvr-run finds them."""


@cache_commands.command("list", short_help="List the bundles in the cache.")
@json_option
@cache_option
@debug_option
def list_command(as_json: bool, cache: Path | None) -> None:
    """List the bundles in the cache, the latest used first, with what killed builds left behind."""
    from ..engines.bundle.cache import BundleCache
    from ..engines.bundle.cache_entries import entries_of

    found = BundleCache(cache)
    entries = entries_of(found)
    if as_json:
        content = {"cache": str(found.bundles), "entries": [_as_json(entry) for entry in entries]}
        click.echo(json.dumps(content, indent=2))
        return
    for entry in entries:
        click.echo(printable("  ".join(_cells(entry))))
    total = sum(entry.nbytes for entry in entries)
    console.say(f"{found.bundles}: {_counted(entries)}, {format_bytes(total)}")


@cache_commands.command("prune", short_help="Remove bundles from the cache.")
@click.option("--older-than", metavar="AGE", callback=_duration, help="Remove bundles not used for so long, e.g. 30d.")
@click.option(
    "--max-size",
    metavar="SIZE",
    callback=_size,
    help="Remove the bundles that were used least recently, until the others fit into SIZE, e.g. 20GB.",
)
@click.option("--all", "everything", is_flag=True, help="Remove all bundles.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@cache_option
@quiet_option
@debug_option
def prune(cache: Path | None, dry_run: bool, yes: bool, quiet: bool, **rules: Any) -> None:
    """Remove bundles from the cache. What was removed is built again when it is needed.

    Broken bundles and what killed builds left behind are always removed, and nothing else without an option. Bundles
    that are in use stay, and so do files that are not the cache's own.
    """
    from ..engines.bundle.cache import BundleCache
    from ..engines.bundle.cache_entries import PruneRules, entries_of, to_remove

    seconds, nbytes, everything = rules["older_than"], rules["max_size"], rules["everything"]
    found = BundleCache(cache)
    chosen = to_remove(entries_of(found), PruneRules(seconds, nbytes, everything), time.time())
    idle = [entry for entry in chosen if not entry.busy]
    kept = [entry for entry in chosen if entry.busy]
    if dry_run or not idle:
        _summarise("would free" if dry_run else "freed", idle, kept)
        return
    if not yes:
        _ask(idle)
    removed = []
    for entry in idle:
        if _remove(entry, quiet):
            removed.append(entry)
        else:
            kept.append(entry)
    _summarise("freed", removed, kept)


def _remove(entry: CacheEntry, quiet: bool) -> bool:
    from ..engines.bundle.cache_entries import remove_entry

    removed = remove_entry(entry)
    if removed and not quiet:
        console.say(f"removed {entry.path.name}, {format_bytes(entry.nbytes)}")
    return removed


def _ask(entries: Sequence[CacheEntry]) -> None:
    """Ask before anything is removed. Raises `MisuseError` where nobody can answer, `click.Abort` after a no."""
    what = f"{_counted(entries)}, {format_bytes(sum(entry.nbytes for entry in entries))}"
    if not _can_ask():
        raise MisuseError(f"this would remove {what}: add -y to do it, or --dry-run to see the names")
    for entry in entries:
        console.say("  ".join(_cells(entry)))
    if not click.confirm(f"remove {what}?", err=True):
        raise MisuseError("nothing was removed")


def _can_ask() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _summarise(verb: str, removed: Sequence[CacheEntry], kept: Sequence[CacheEntry]) -> None:
    for entry in removed if verb != "freed" else ():
        click.echo(printable("  ".join(_cells(entry))))
    stays = f"; kept {len(kept)} in use" if kept else ""
    freed = format_bytes(sum(entry.nbytes for entry in removed))
    click.echo((f"{verb} {freed} ({_counted(removed)})" if removed else "nothing to remove") + stays)


def _counted(entries: Iterable[CacheEntry]) -> str:
    """`3 bundles, 1 broken bundle, 2 unfinished builds`."""
    kinds = [entry.kind.value for entry in entries]
    names = {"bundle": "bundle", "broken": "broken bundle", "leftover": "unfinished build"}
    parts = [
        f"{kinds.count(kind)} {name}{'s' * (kinds.count(kind) != 1)}" for kind, name in names.items() if kind in kinds
    ]
    return ", ".join(parts) or "no bundles"


def _cells(entry: CacheEntry) -> list[str]:
    """One line of the list: size, last use, and what it is."""
    used = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
    busy = ["in use"] if entry.busy else []
    if entry.manifest is None:
        return [f"{format_bytes(entry.nbytes):>9}", used, entry.path.name, _WORDS[entry.kind.value], *busy]
    recipe, made = entry.manifest.recipe, entry.manifest.toolchain
    what = [
        recipe.describe(),
        f"checkpoint {recipe.checkpoint[:8]}",
        made.tool,
        f"{made.compiler} {made.compiler_version}",
    ]
    return [f"{format_bytes(entry.nbytes):>9}", used, *what, *busy]


_WORDS = {"broken": "broken", "leftover": "left behind by a build that was killed"}


def _as_json(entry: CacheEntry) -> dict[str, Any]:
    content: dict[str, Any] = {
        "path": str(entry.path),
        "kind": entry.kind.value,
        "bytes": entry.nbytes,
        "last_used": datetime.fromtimestamp(entry.used).astimezone().isoformat(timespec="seconds"),
        "busy": entry.busy,
    }
    if entry.manifest is not None:
        recipe, made = entry.manifest.recipe, entry.manifest.toolchain
        content |= {
            "checkpoint": recipe.checkpoint,
            "resolution": str(recipe.resolution),
            "clip_len": recipe.clip_len,
            "precision": recipe.precision,
            "target": recipe.target,
            "made_by": made.tool,
            "compiler": f"{made.compiler} {made.compiler_version}",
        }
    return content
