"""Runs the cases of a run, each in a process of its own, and writes the record after each of them."""

from __future__ import annotations

import datetime
import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ... import leaving
from ...child import Child
from ...engines.bundle.cache import BundleCache
from ...engines.bundle.files import Bundle, read_manifest
from ...engines.bundle.geometry import Resolution
from ...engines.bundle.manifest import MANIFEST
from ...engines.bundle.targets import bundle_target
from ...errors import MachineError, MisuseError, SwiftVRError, message_of
from ...installing import tool_version
from ...runtime.restore.bundle_request import BundleRequest, suit_devices, suited
from ...runtime.restore.restorer import OpenOptions, choose_device
from ...runtime.restore.selection import find_or_build_bundle
from .clips import clip_file, look_at_frames, obtain_clip
from .commands import measure_command, measure_our_program
from .facts import busy_share, describe_host
from .faithful import MOST_FRAMES, check_clean
from .peers import read_peers
from .plan import BUNDLE, TORCH, BenchOptions, in_turn, plan_cases, protocol_of
from .protocols import SAMPLE, Protocol
from .record import BenchRun, Case, CaseTexts, Clip, State, Subject, from_values, write_run
from .work import CaseOrder, Findings, joined

Say = Callable[[str], None]
_PATIENCE_S = 5.0
_WARM_STARTS = 2
_BUSY = 0.1
"""The share of the processors' time from which a note says that other programs were running."""
_WORKER = __name__.rpartition(".")[0] + ".worker"


@dataclass(frozen=True)
class _Planned:
    """A case and its order. Those of one protocol take turns."""

    case: Case
    order: CaseOrder


class Recorder:
    """The record of a run as it grows. Whatever ends the run, the file is valid and says how far it got.

    The end comes once: from then on nothing is written, whatever an abandoned thread still does.
    """

    def __init__(self, run: BenchRun, path: Path) -> None:
        """Raises `OutputError` if the file cannot be written."""
        self.run, self._path, self._began = run, path, time.monotonic()
        self._lock, self._ended, self._texts = threading.Lock(), False, CaseTexts()
        self._write(run)
        self._release = leaving.hold("the record", self._interrupted, leaving.Turn.FILES)

    def put(self, number: int, case: Case) -> None:
        """Replace a case, and write."""
        cases = list(self.run.cases)
        cases[number] = case
        self._write(replace(self.run, cases=tuple(cases)))

    def add(self, clip: Clip) -> None:
        """Add an input, unless it is there, and write."""
        if clip not in self.run.clips:
            self._write(replace(self.run, clips=(*self.run.clips, clip)))

    def end(self, state: State, problem: str = "") -> None:
        """Write for the last time."""
        cases = tuple(_stopped(case, state) for case in self.run.cases)
        self._write(replace(self.run, state=state, problem=problem, cases=cases), last=True)
        self._release()

    def _write(self, run: BenchRun, *, last: bool = False) -> None:
        with self._lock:
            # Once the program is leaving, its children end, and that is no failure of their cases.
            if not self._ended and (last or not leaving.begun()):
                self._ended = last
                self.run = replace(run, seconds=round(time.monotonic() - self._began, 3))
                write_run(self.run, self._path, self._texts.run_to_json)

    def _interrupted(self) -> None:
        self.end(State.INTERRUPTED, "interrupted")


def _stopped(case: Case, state: State) -> Case:
    return replace(case, state=state) if case.state is State.RUNNING else case


def run_cases(
    options: BenchOptions, argv: Sequence[str], path: Path, say: Say, imported: tuple[Case, ...] = ()
) -> BenchRun:
    """Measure everything, and write the record to `path`. say: gets a line per case. imported: in it from the start.

    A case that fails is recorded and the others go on. Raises `MisuseError` if nothing can be planned, and
    `OutputError` if the record cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="swiftvr-bench-", ignore_cleanup_errors=True) as folder:
        release = leaving.hold_path(Path(folder))
        try:
            planned = _plan(Path(folder), options)
            recorder = Recorder(_planned_run(planned, argv, imported), path)
            return _run_in(Path(folder), planned, options, recorder, say)
        finally:
            release()


def _planned_run(planned: Sequence[_Planned], argv: Sequence[str], imported: tuple[Case, ...]) -> BenchRun:
    """The run before its first case. Imported cases follow the planned ones."""
    device = next((one.order.subject.device for one in planned if one.order.subject.device), "cpu")
    load = busy_share()
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    cases = (*(one.case for one in planned), *imported)
    host = describe_host(device, load)
    return BenchRun(tuple(argv), tool_version(), began, host, cases, peers=read_peers(), notes=_notes(load))


def _run_in(folder: Path, planned: Sequence[_Planned], options: BenchOptions, recorder: Recorder, say: Say) -> BenchRun:
    try:
        _measure_all(folder, planned, options, recorder, say)
    except BaseException as error:
        is_leaving = isinstance(error, KeyboardInterrupt) or leaving.begun()
        state = State.INTERRUPTED if is_leaving else State.FAILED
        recorder.end(state, "interrupted" if state is State.INTERRUPTED else message_of(error))
        raise
    recorder.end(State.DONE)
    return recorder.run


def _notes(load: float) -> tuple[str, ...]:
    """A line if the machine had other work, which no figure can be cleaned of."""
    if load < _BUSY:
        return ()
    return (f"other programs took {100 * load:.0f} % of the processors' time before the run began: trust ratios only",)


def _plan(folder: Path, options: BenchOptions) -> list[_Planned]:
    """Nothing is made yet: whatever takes long comes once the record is there."""
    planned: list[_Planned] = []
    for found, protocol, bundle in _subjects(folder, options):
        subject = replace(found, options=options.engine_options)
        file = clip_file(protocol, folder, options.clip)
        beside = any(one.order.protocol == protocol for one in planned)
        if not beside:
            _check_inputs(folder, protocol, options)
        order = CaseOrder(
            "",
            subject,
            protocol,
            str(bundle),
            str(options.checkpoint or ""),
            str(file.resolve()),
            str(options.clean.resolve() if options.clean else ""),
            str(folder),
            options.threads,
        )
        for case in plan_cases(subject, protocol, file.stem, options, beside=beside):
            planned.append(_Planned(case, replace(order, suite=case.suite, subject=_runs_on(case, subject))))
    if not planned:
        raise MisuseError("no suite applies to what was named; build needs a --checkpoint without --bundle")
    return planned


def _check_inputs(folder: Path, protocol: Protocol, options: BenchOptions) -> None:
    """Raise if a file that was named for a protocol is no video, or not what the protocol takes."""
    count = min(protocol.frames, MOST_FRAMES)
    if options.clip is not None or protocol.clip == SAMPLE:
        count, _, _ = look_at_frames(clip_file(protocol, folder, options.clip), count)
    if options.clean is not None:
        clean, (height, width), _ = look_at_frames(options.clean, count)
        check_clean(options.clean, (clean, f"{width}x{height}"), (count, protocol.size))


def _runs_on(case: Case, subject: Subject) -> Subject:
    """The subject of an order. Its device is what the process opens; that of a case is its name for people."""
    return case.subject if case.subject.side != BUNDLE else subject


def _subjects(folder: Path, options: BenchOptions) -> Iterator[tuple[Subject, Protocol, Path]]:
    """Every bundle to measure: what it is, its protocol, and where it is or will be."""
    digest = BundleCache().checkpoint_digest(options.checkpoint) if options.checkpoint and options.bundles else None
    for path in options.bundles:
        recipe = read_manifest(path).recipe
        if digest not in (None, recipe.checkpoint):
            raise MisuseError(
                f"{path} was built from another checkpoint than {options.checkpoint}, so they cannot be compared; name "
                "the one that it was built from, or leave out --checkpoint"
            )
        protocol = protocol_of(Bundle.open(path), options.protocols[0])
        device = _device_for(recipe.target, options)
        yield (
            replace(
                _subject(recipe.checkpoint[:12], device, protocol, recipe.precision, recipe.target),
                digest=_digest_of(path),
            ),
            protocol,
            path.resolve(),
        )
    for protocol in options.protocols if not options.bundles else ():
        for precision in options.precisions:
            request = BundleRequest(
                checkpoint=options.checkpoint, precision=precision, target=options.target, clip_len=protocol.clip_len
            )
            size = Resolution(protocol.width, protocol.height)
            request = suit_devices(request, [options.device], ort_graphs=False, overlap=options.overlap)
            recipe = suited(request, size)[0].request.recipe("", size)
            device = _device_for(recipe.target, options)
            model = options.checkpoint.name if options.checkpoint else ""
            place = folder / f"bundle-{protocol.name}-{recipe.target}-{recipe.precision}"
            yield _subject(model, device, protocol, recipe.precision, recipe.target), protocol, place


def _device_for(target: str, options: BenchOptions) -> str:
    """As `choose_device`, which refuses what a bundle for `target` cannot do."""
    if not options.graphs and not bundle_target(target).compiled:
        raise MisuseError(
            f"--no-graphs was given for a bundle for {target}, expected engines, of which alone chunks are captured; "
            "leave it out"
        )
    return choose_device(target, options.device, OpenOptions(graphs=options.graphs, overlap=options.overlap))


def _subject(model: str, device: str, protocol: Protocol, precision: str, target: str) -> Subject:
    return Subject(BUNDLE, model, "", precision, target, device, protocol.width, protocol.height, protocol.clip_len)


def _measure_all(
    folder: Path, planned: Sequence[_Planned], options: BenchOptions, recorder: Recorder, say: Say
) -> None:
    """Protocol by protocol: first the builds, then turn by turn, so that the sides of a comparison take turns."""
    for protocol in dict.fromkeys(one.order.protocol for one in planned):
        recorder.add(obtain_clip(protocol, folder, options.clip)[1])
        mine = [number for number, one in enumerate(planned) if one.order.protocol == protocol]
        answers: dict[int, list[Findings]] = {number: [] for number in mine}
        for turn in range(options.turns):
            for at in in_turn([planned[number].case for number in mine], turn):
                number = mine[at]
                if recorder.run.cases[number].state is not State.FAILED:
                    _measure(number, planned[number], turn, answers[number], options, recorder, say)


def _measure(  # many parameters: one turn of one case, and where its findings go
    number: int, one: _Planned, turn: int, answers: list[Findings], options: BenchOptions, recorder: Recorder, say: Say
) -> None:
    case = recorder.run.cases[number]
    recorder.put(number, replace(case, state=State.RUNNING))
    of_turns = f", turn {turn + 1} of {options.turns}" if options.turns > 1 else ""
    say(f"{case.name} ({case.protocol}){of_turns}")
    try:
        order = replace(one.order, first=turn == 0)
        if case.subject.side == BUNDLE and case.suite != "build":
            order = replace(order, bundle=str(_find_bundle(order, options, say)))
        answers += _ask_all(order, options)
        found, digest = joined(answers), _digest(order)
    except (SwiftVRError, OSError) as error:
        say(f"  failed: {message_of(error)}")
        recorder.put(number, replace(case, state=State.FAILED, problem=message_of(error)))
        return
    subject = replace(case.subject, device=found.device, digest=digest)
    recorder.put(
        number,
        replace(
            case,
            subject=subject,
            state=State.DONE,
            figures=found.figures,
            notes=found.notes,
            frames=found.frames,
            roofline=found.roofline,
        ),
    )


def _find_bundle(order: CaseOrder, options: BenchOptions, say: Say) -> Path:
    """The bundle of an order: named, built by its case, or found or built now. Raises what a build raises."""
    if options.bundles or (Path(order.bundle) / MANIFEST).exists():
        return Path(order.bundle)
    if "build" in options.suites:
        raise MachineError("its bundle could not be built, see the case above")
    subject = order.subject
    request = BundleRequest(
        checkpoint=options.checkpoint, precision=subject.precision, target=subject.target, clip_len=subject.clip_len
    )
    request = suit_devices(request, [subject.device], ort_graphs=False, overlap=options.overlap)
    return find_or_build_bundle(request, Resolution(subject.width, subject.height), say).path.resolve()


def _digest(order: CaseOrder) -> str:
    """Of the bundle of an order; empty if it has none."""
    is_there = order.subject.side == BUNDLE and (Path(order.bundle) / MANIFEST).exists()
    return _digest_of(Path(order.bundle)) if is_there else ""


def _digest_of(bundle: Path) -> str:
    """Of the manifest, which has the digests of all files."""
    return hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()


def _ask_all(order: CaseOrder, options: BenchOptions) -> list[Findings]:
    """The answers of all processes of one turn: one, but for starts."""
    if order.subject.side not in (BUNDLE, TORCH):
        return [measure_command(order, options.limit_s)]
    if order.suite == "file" and order.subject.side == BUNDLE and set(options.against) - {TORCH}:
        found = _ask(order, options.limit_s)
        ours = measure_our_program(order, options.limit_s, found.figures[0].how)
        return [replace(found, figures=(*found.figures, *ours))]
    if order.suite != "startup":
        return [_ask(order, options.limit_s)]
    later = replace(order, first=False)
    return [_ask(one, options.limit_s) for one in (order, *[later] * _WARM_STARTS)]


def _ask(order: CaseOrder, limit_s: float) -> Findings:
    """One process. Raises `MachineError` or `MisuseError` with what it says, or with how it ended."""
    order = replace(order, began=time.time(), limit_s=limit_s)
    with Child(_WORKER, patience_s=_PATIENCE_S, keep_errors=True) as child:
        late = threading.Event()

        def stop() -> None:
            late.set()
            child.hang_up()

        watchdog = threading.Timer(limit_s, stop)
        watchdog.daemon = True
        watchdog.start()
        try:
            answer = child.ask(asdict(order))
        finally:
            watchdog.cancel()
        if late.is_set():
            raise MachineError(f"it took more than {limit_s:.0f} s; give it more time with --limit")
        if answer is None:
            raise MachineError(f"its process ended: {child.ending(_PATIENCE_S)}")
    if answer["error"]:
        raise (MisuseError if answer["misuse"] else MachineError)(answer["error"])
    return from_values(Findings, answer["findings"], Path("answer"))
