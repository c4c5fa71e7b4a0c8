"""`swiftvr-run --live`: its options, and how its state is shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from ..runtime.restore.live.addresses import is_live_address
from ..runtime.restore.live.options import ON_GAP, WHEN_LATE
from ..text import printable
from . import console
from .json_lines import emit
from .options import Command, take, was_given

if TYPE_CHECKING:
    from ..runtime.restore.display import Display
    from ..runtime.restore.live.counts import LiveStatistics

_LIVE_ONLY = ("latency", "when_late", "on_gap", "reconnect", "in_options", "out_options", "metrics")
LIVE_SECTION = ("live", *_LIVE_ONLY)
"""Parameters of a live run, for the help."""

_NOT_LIVE = (
    "start", "duration", "frames", "preview_seconds", "preview_at", "dry_run", "recursive", "skip_existing", "devices",
    "suffix", "cluster", "ship", "rate", "resume", "strict", "keep_going", "tile", "trace", "report",
)  # fmt: skip
"""Parameters that mean nothing without an end or a second look."""

_LINE_EVERY_S = 5.0

_OPTIONS = (
    click.option(
        "--live",
        is_flag=True,
        help="INPUT is a live stream (rtsp, rtmp, srt, udp, tcp, HLS, a capture device) or is played like one, and "
        "OUTPUT a URL, a folder for HLS, or a file (docs/live.md).",
    ),
    click.option(
        "--latency",
        metavar="L",
        default="normal",
        show_default=True,
        help="low (8 frames together), normal (24), or the most seconds until a frame gets its turn, e.g. 1.5; "
        "restoring it comes on top.",
    ),
    click.option(
        "--when-late",
        type=click.Choice(WHEN_LATE),
        default="drop",
        show_default=True,
        help="What becomes of frames that cannot be restored in time: drop (whole groups, evenly), bypass (enlarged "
        "plainly), or wait (nothing is lost, but the delay grows).",
    ),
    click.option(
        "--on-gap",
        type=click.Choice(ON_GAP),
        default="hold",
        show_default=True,
        help="What is sent while the source is away: hold (its last picture) or skip (nothing).",
    ),
    click.option(
        "--reconnect",
        metavar="TIME",
        help="How long to try to get a source or a receiver back, e.g. 30s; 0 ends at once.  [default: for ever]",
    ),
    click.option(
        "--in-option",
        "in_options",
        metavar="K=V",
        multiple=True,
        help="Option of FFmpeg for INPUT, e.g. rtsp_transport=udp. May be repeated.",
    ),
    click.option(
        "--out-option",
        "out_options",
        metavar="K=V",
        multiple=True,
        help="Option of FFmpeg for OUTPUT, e.g. hls_time=4. May be repeated.",
    ),
    click.option(
        "--metrics",
        metavar="PORT",
        type=int,
        help="Serve metrics for Prometheus at http://127.0.0.1:PORT/metrics, and /health.",
    ),
)


def live_options(function: Command) -> Command:
    """Add the options of a live run."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def refuse_without_live(paths: tuple[str, ...]) -> None:
    """Raise for what only a live run does."""
    for path in paths:
        if is_live_address(path):
            raise click.UsageError(f"{printable(path)} is a URL or a device, expected a file: add --live for a stream")
    for name in filter(was_given, _LIVE_ONLY):
        raise click.UsageError(f"--{_option(name)} was given without --live, expected both")


def run_live(paths: tuple[str, ...], given: dict[str, Any], *, quiet: bool, as_json: bool) -> None:
    """Restore a live stream. given: the parameters of the command."""
    from ..runtime.media import SinkOptions
    from ..runtime.media.source_options import SourceOptions
    from ..runtime.restore.bundle_request import BundleRequest
    from ..runtime.restore.live.live_run import LiveRequest, restore_live
    from ..runtime.restore.live.options import LiveOptions, parse_pairs, seconds_or_none

    for name in filter(was_given, _NOT_LIVE):
        raise click.UsageError(f"--{_option(name)} was given with --live, which has no use for it: leave it out")
    if was_given("in_format"):
        raise click.UsageError("--in-format was given with --live: name a device like this: v4l2:/dev/video0")
    if len(paths) != 2:
        raise click.UsageError(f"{len(paths) or 'no'} names were given, expected INPUT and OUTPUT of a live stream")
    live = LiveOptions(
        given["latency"],
        given["when_late"],
        given["on_gap"],
        seconds_or_none(given["reconnect"]),
        parse_pairs("--in-option", given["in_options"]),
        parse_pairs("--out-option", given["out_options"]),
        given["metrics"],
        given["scene_cut"],
    )
    clip_len = given["clip_len"] if was_given("clip_len") else None
    request = LiveRequest(
        *paths,
        live=live,
        request=take(BundleRequest, given),
        sink=take(SinkOptions, given),
        reading=take(SourceOptions, given),
        clip_len=clip_len,
        **{name: given[name] for name in ("hwaccel", "device", "threads", "ort_graphs", "graphs", "overlap")},
    )
    with console.display(quiet, as_json) as display:
        restore_live(request, display, _shown(display, quiet=quiet, as_json=as_json))


def _shown(display: Display, *, quiet: bool, as_json: bool) -> Callable[[LiveStatistics], None]:
    """What shows the state of the run: events, a line on a terminal, or a line in a log now and then."""
    if as_json:
        return lambda statistics: emit("live", **statistics.recent().as_dict())
    if quiet:
        return lambda _statistics: None
    if isinstance(display, console.BarDisplay):
        return lambda statistics: display.show_state(statistics.recent().line())
    return _LogLines(display)


class _LogLines:
    """Shows the state every few seconds."""

    def __init__(self, display: Display, now: Callable[[], float] = time.monotonic) -> None:
        self._display, self._now, self._last = display, now, now()

    def __call__(self, statistics: LiveStatistics) -> None:
        now = self._now()
        if now - self._last >= _LINE_EVERY_S:
            self._last = now
            self._display.say(statistics.recent().line())


def _option(name: str) -> str:
    """An option as it is typed."""
    names: Mapping[str, str] = {"preview_seconds": "preview", "in_options": "in-option", "out_options": "out-option"}
    return names.get(name, name.replace("_", "-"))
