"""The work of `swiftvr-run --live`: one source into one receiver, until the source ends or somebody ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from .... import leaving
from ....engines.bundle.files import read_manifest
from ....engines.bundle.geometry import Resolution
from ....errors import MisuseError, SwiftVRError
from ....text import format_duration
from ...media.base import SinkOptions, SourceInfo
from ...media.files import is_same_file
from ...media.source_options import SourceOptions
from ..bundle_request import BundleRequest, output_size, suit_devices
from ..display import Display, Result
from ..hwaccel import video_gpu
from ..interruptible import run_interruptibly
from ..restorer import OpenOptions, Restorer
from ..selection import find_and_name_bundle
from .addresses import LiveInputAddress, LiveOutputAddress
from .counts import LiveReport, LiveStatistics
from .engine import LiveEngine
from .framing import check_live_filters
from .items import POLL_S
from .latency import LatencyPlan
from .metrics import ADDRESS, serve_metrics
from .options import LiveOptions
from .outlet import LiveEncoding, check_place, make_place
from .writing import LiveWriter

_SHOW_EVERY_S = 1.0


@dataclass(frozen=True)
class LiveRequest:
    """A live run.

    source, output  as typed
    clip_len        of the bundle; None for what the latency makes of it
    device, threads, ort_graphs, graphs, overlap   as in `Restorer.open`
    """

    source: str
    output: str
    request: BundleRequest = field(default_factory=BundleRequest)
    live: LiveOptions = field(default_factory=LiveOptions)
    sink: SinkOptions = field(default_factory=SinkOptions)
    reading: SourceOptions = field(default_factory=SourceOptions)
    clip_len: int | None = None
    hwaccel: str = "none"
    device: str | None = None
    threads: int | None = None
    ort_graphs: bool = False
    graphs: bool = True
    overlap: bool = False

    def __post_init__(self) -> None:
        reading = self.reading
        check_live_filters(reading.vf)
        for name in ("in_format", "alpha"):
            if getattr(reading, name) is not None:
                raise MisuseError(f"--{name.replace('_', '-')} was given with --live, which does without it")
        if reading.allow_playlist:
            raise MisuseError("--allow-playlist was given with --live, which does without it")
        if self.sink.out_format is not None:
            raise MisuseError("--out-format was given with --live: the address of the output decides its format")


def restore_live(request: LiveRequest, display: Display, show: Callable[[LiveStatistics], None]) -> LiveReport:
    """Restore until the source ends for good, or the first signal, after which what has come is still written. Before
    anything is written, a signal ends the process at once.

    show: called about once a second, and at the end. Raises `MisuseError` for an address that cannot be, `MediaError`
    or `MachineError` if something cannot be opened or has been away too long, `OutputError` about the receiver.
    """
    began = time.monotonic()
    source, output = LiveInputAddress.parse(request.source), LiveOutputAddress.parse(request.output)
    source.check_options("--in-option", dict(request.live.in_options))
    output.check_options("--out-option", dict(request.live.out_options))
    if output.path is not None:
        check_place(output.path, request.sink.overwrite)
        if source.is_played and is_same_file(Path(request.source), output.path):
            raise MisuseError(f"the output {output.name} is the input: give it a name of its own")
    display.begin([(source.name, output.name)])
    graphs, overlap = request.ort_graphs, request.overlap
    suited = suit_devices(request.request, (request.device,), ort_graphs=graphs, overlap=overlap)
    request = replace(request, request=suited)
    ending = threading.Event()
    engine = LiveEngine(source, request.live, request.reading, display.warn, request.sink.wants)
    result = Result(source.name, output.name, "failed", "")
    try:
        with serve_metrics(request.live.metrics, engine.statistics) as port:
            if port is not None:
                display.say(f"watch:  http://{ADDRESS}:{port}/metrics and /health")
            info = engine.open()
            display.say(f"input:  {source.name}, {info.summary}")
            for note in info.notes:
                display.warn(note)
            with _open(request, info, display) as (restorer, plan), leaving.draining(ending.set):
                if output.path is not None:
                    make_place(output.path)
                with leaving.advising(_about_end(output)):
                    lost = _restore(request, output, _Parts(engine, info, restorer, plan, display, show), ending)
    except SwiftVRError as error:
        if (report := engine.statistics.report()).counts.frames_in:
            display.say(f"until then: {report.line()}")
        display.result(replace(result, text=str(error)))
        raise
    finally:
        engine.close()
    report, seconds = engine.statistics.report(), time.monotonic() - began
    text = f"output: {output.name}, {report.line()} in {format_duration(seconds)}"
    done = replace(result, status="done", text=text, frames=report.counts.frames_out, seconds=seconds)
    display.result(replace(done, lost=(*engine.lost, *lost)))
    return report


def _about_end(output: LiveOutputAddress) -> str:
    """What a second signal leaves behind."""
    return f"{output.name} {'lacks its end' if output.is_network else 'can be played, but may lack its end'}"


@contextmanager
def _open(request: LiveRequest, info: SourceInfo, display: Display) -> Iterator[tuple[Restorer, LatencyPlan]]:
    """The bundle for a source, and what the latency means with it."""
    latency = request.live.chosen
    size = output_size(request.request, info.width, info.height, in_tiles=False)
    wanted = replace(request.request, clip_len=request.clip_len or latency.clip_len(info.rate))
    if wanted.bundle is not None:
        latency.plan(info.rate, read_manifest(wanted.bundle).recipe.clip_len)  # refuse before it is loaded
    bundle = find_and_name_bundle(wanted, size, display)
    plan = latency.plan(info.rate, bundle.manifest.recipe.clip_len)
    display.say(_about_latency(plan, info.rate))

    def load() -> Restorer:
        opening = OpenOptions(request.threads, request.ort_graphs, request.graphs, request.overlap)
        return Restorer.open(bundle, device=request.device, **vars(opening))

    with run_interruptibly(load) as restorer:
        yield restorer, plan


def _about_latency(plan: LatencyPlan, rate: Fraction) -> str:
    return (
        f"delay:  {plan.unit} frames together take {plan.fill_s:.2f} s to arrive at {float(rate):.4g} frames/s, and "
        f"count as late {plan.late_s:.2f} s after that"
    )


@dataclass(frozen=True)
class _Parts:
    """What a run consists of, once the source is there and the bundle is loaded. show: as in `restore_live`."""

    engine: LiveEngine
    info: SourceInfo
    restorer: Restorer
    plan: LatencyPlan
    display: Display
    show: Callable[[LiveStatistics], None]


def _restore(
    request: LiveRequest, output: LiveOutputAddress, parts: _Parts, ending: threading.Event
) -> tuple[str, ...]:
    """Returns what the output lacks for a reason of its own."""
    engine, info, restorer, display = parts.engine, parts.info, parts.restorer, parts.display
    recipe = restorer.manifest.recipe
    size = Resolution(recipe.width, recipe.height)
    if request.hwaccel == "surfaces":
        display.warn("frames of a live stream go through the host, as with --hwaccel cuda")
    sink = replace(request.sink, gpu=video_gpu(request.hwaccel, request.device, display.warn))

    def encode() -> LiveEncoding:
        return LiveEncoding(output, info, (size.width, size.height), sink)

    trial = encode()  # refuse what cannot be encoded before anything is sent
    for note in trial.notes:
        display.warn(note)
    form = trial.form
    display.say(f"output: {output.name}, {trial.description}")
    trial.close()
    writer = LiveWriter(output, request.live, encode, engine.statistics, display.warn)
    writer.start()
    try:
        _wait(writer.opened, ending)
        if writer.error is not None:
            raise writer.error
        engine.start(restorer, parts.plan, form, writer.box)
        _watch(engine, writer, ending, parts.show)
    finally:
        writer.stop()
    parts.show(engine.statistics)
    if (error := writer.error or engine.error) is not None:
        raise error
    return writer.lost


def _wait(event: threading.Event, ending: threading.Event) -> None:
    while not event.wait(POLL_S) and not ending.is_set():
        pass


def _watch(
    engine: LiveEngine, writer: LiveWriter, ending: threading.Event, show: Callable[[LiveStatistics], None]
) -> None:
    """Wait until everything is written, and show how things go. When the run is to end, nothing more is read."""
    shown = time.monotonic()
    while not writer.finished.wait(POLL_S):
        if ending.is_set():
            engine.drain()
        if time.monotonic() - shown >= _SHOW_EVERY_S:
            shown = time.monotonic()
            show(engine.statistics)
    engine.stop()
