"""The record of a run of `swiftvr-bench`: one JSON file, from which tables, comparisons and pages are made.

    run = read_run(Path("run.json"))
    for case in run.cases:
        for figure in case.figures:
            print(case.name, figure.name, figure.value, figure.unit, figure.how.value)

A run consists of cases. A case is one subject (a bundle, the torch network, somebody's command) under one protocol, and
what one suite found out about it in a process of its own. Every number is a `Figure`, which says how it was obtained.
The file is written anew after each case, so one that is cut short is valid and says how far it got.
"""

from __future__ import annotations

import json
import os
import threading
import types
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ... import leaving
from ...errors import MisuseError, OutputError
from ...outside import Door, read_json

FORMAT = 1
_LATER = ("options",)  # fields that records of this format lacked at first
SUITES = ("core", "file", "latency", "memory", "quality", "build", "startup")

_DOOR = Door("record of swiftvr-bench", MisuseError, "make one with swiftvr-bench -o RUN.json", max_bytes=1 << 28)
_T = TypeVar("_T")


class How(str, Enum):
    """How a number was obtained."""

    MEASURED = "measured"
    EMULATED = "emulated"
    """Measured on an emulated GPU: it shows that the tool works, and says nothing about any hardware."""
    COMPILED = "compiled"
    """Read from the compiler's report, or from the memory plan that follows from it."""
    PROJECTED = "projected"
    PUBLISHED = "published"
    """Stated by others, on their hardware."""
    IMPORTED = "imported"
    """Written by another tool, perhaps on another machine."""


class State(str, Enum):
    """How far a case got; of a run: `DONE` if all its cases were tried."""

    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Figure:
    """One number.

    name         such as `core_fps`; `metrics.py` has all of them
    value        the median of the samples if there are any
    scope        what it covers: one of `SUITES`
    protocol     how it was measured; a name of `protocols.py`, or a sentence for a published figure
    samples      raw, in the order in which they were taken
    groups       how many samples each process contributed, if there were several
    note         what a reader has to know, such as what a PSNR was taken against
    """

    name: str
    value: float
    unit: str
    how: How
    scope: str
    protocol: str
    samples: tuple[float, ...] = ()
    groups: tuple[int, ...] = ()
    p10: float | None = None
    p90: float | None = None
    p99: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Subject:
    """What was measured.

    side         `bundle`, `torch`, or the command of `--against`
    model        name of the checkpoint
    digest       of the bundle's manifest; empty if there is no bundle
    device       `cpu`, or the name of the GPU
    options      how engines are run if not as usual, as on the command line: `--overlap`
    """

    side: str
    model: str
    digest: str
    precision: str
    target: str
    device: str
    width: int
    height: int
    clip_len: int
    options: str = ""

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def program(self) -> str:
        """The side in a word: a command is called like its program."""
        words = self.side.replace('"', "").replace("'", "").split()
        return Path(words[0]).name if words else ""


@dataclass(frozen=True)
class ShownFrame:
    """A frame before and after, of the same size, as `data:` URIs. The input is enlarged by a bicubic filter.

    number       of the frame, from 0
    seconds      when it is shown
    crop         x, y, width and height of the part shown, in pixels of the output
    figures      of this frame, such as `psnr` and `ssim`
    """

    number: int
    seconds: float
    before: str
    after: str
    crop: tuple[int, int, int, int]
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class KernelClass:
    """All kernels of one kind and precision in one stage, for the runs of one chunk.

    flops, nbytes     of all of them together
    roof_ms           the least time that they can take on the card (projected)
    compute_bound     the part of it that arithmetic limits, 0 to 1; memory limits the rest
    """

    stage: str
    kind: str
    precision: str
    count: int
    flops: int
    nbytes: int
    roof_ms: float
    compute_bound: float


@dataclass(frozen=True)
class Roofline:
    """The kernel classes of a bundle, and the card they are held against.

    rates            peak operations per second of each precision
    bandwidth        bytes per second
    """

    card: str
    rates: Mapping[str, float]
    bandwidth: float
    classes: tuple[KernelClass, ...]


@dataclass(frozen=True)
class Case:
    """What one suite found out about one subject.

    clip             name of the input in `BenchRun.clips`
    problem          one line; empty unless it failed
    notes            such as that the GPU was throttled
    """

    name: str
    suite: str
    subject: Subject
    protocol: str
    clip: str = ""
    state: State = State.PLANNED
    problem: str = ""
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    frames: tuple[ShownFrame, ...] = ()
    roofline: Roofline | None = None

    def figure(self, name: str) -> Figure | None:
        return next((figure for figure in self.figures if figure.name == name), None)


@dataclass(frozen=True)
class Clip:
    """An input. sha256: of the file."""

    name: str
    sha256: str
    width: int
    height: int
    frames: int
    frame_rate: float


@dataclass(frozen=True)
class GraphicsCard:
    """A GPU. Clocks in MHz, power in watts; None where the driver does not say."""

    name: str
    driver: str
    compute_capability: str
    memory_bytes: int | None = None
    power_limit_w: float | None = None
    max_clock_mhz: float | None = None
    emulated: bool = False


@dataclass(frozen=True)
class HostFacts:
    """The machine.

    load     the share of the processors' time that other programs took in the second before the run, None if unknown;
             in older records, running processes per CPU over a minute, with those of the tool itself
    """

    cpu: str
    cpus: int
    memory_bytes: int
    system: str
    load: float | None
    versions: Mapping[str, str]
    gpu: GraphicsCard | None = None


@dataclass(frozen=True)
class Peer:
    """What others state about their own program. `figure.protocol` says how; `date` is when we looked it up."""

    name: str
    url: str
    date: str
    hardware: str
    width: int
    height: int
    precision: str
    figure: Figure


@dataclass(frozen=True)
class BenchRun:
    """A run of the tool. began: in UTC, ISO 8601. seconds: how long it has taken so far."""

    argv: tuple[str, ...]
    tool: str
    began: str
    host: HostFacts
    cases: tuple[Case, ...]
    clips: tuple[Clip, ...] = ()
    peers: tuple[Peer, ...] = ()
    seconds: float = 0.0
    state: State = State.RUNNING
    problem: str = ""
    notes: tuple[str, ...] = ()
    format: int = field(default=FORMAT)


def run_to_json(run: BenchRun) -> str:
    return CaseTexts().run_to_json(run)


class CaseTexts:
    """Encodes a run again and again as it grows, but each case only once, so that the end of a long run is fast."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[Case, str]] = {}

    def run_to_json(self, run: BenchRun) -> str:
        """A line per case."""
        known = self._texts
        self._texts = {}
        for case in run.cases:
            if id(case) not in self._texts:
                self._texts[id(case)] = known.get(id(case)) or (case, _to_json(case))
        cases = ",\n".join(self._texts[id(case)][1] for case in run.cases)
        return _to_json(replace(run, cases=())).replace(_NO_CASES, f'"cases": [\n{cases}\n]', 1) + "\n"


_NO_CASES = '"cases": []'
"""In no text of a record, where quotes are escaped."""


def _to_json(value: BenchRun | Case) -> str:
    """Without indentation: only then does the fast encoder of Python do it."""
    return json.dumps(asdict(value), allow_nan=False)


def write_run(run: BenchRun, path: Path, encode: Callable[[BenchRun], str] = run_to_json) -> None:
    """Replace the file at once: a reader sees the old record or the new one. Raises `OutputError`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    release = leaving.hold_path(partial)
    try:
        partial.write_text(encode(run), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: the record cannot be written ({error.strerror or error}); choose another file with -o"
        ) from error
    finally:
        release()


def read_run(path: Path) -> BenchRun:
    """Raises `MisuseError` if the file is anything but a record of this format."""
    raw = read_json(path, _DOOR).content()
    if raw.get("format") != FORMAT:
        _DOOR.refuse(path, f"format is {str(raw.get('format', 'missing'))[:40]}, expected {FORMAT}")
    return _Reader(path).read(BenchRun, raw, "")


def from_values(kind: type[_T], raw: Any, where: Path) -> _T:
    """A part of a record from JSON values, such as what a case's process answers. Raises `MisuseError`."""
    return _Reader(where).read(kind, raw, "")


class _Reader:
    """Turns JSON values into the classes above, as their annotations say."""

    def __init__(self, where: Path) -> None:
        self._where = where

    def read(self, kind: type[_T], raw: Any, at: str) -> _T:
        """A value of a class. at: its path in the file, for messages."""
        value = self._value(kind, raw, at)
        assert isinstance(value, kind)
        return value

    def _value(self, kind: Any, raw: Any, at: str) -> Any:
        origin = get_origin(kind)
        if origin in (Union, types.UnionType):
            inner = next(part for part in get_args(kind) if part is not type(None))
            return None if raw is None else self._value(inner, raw, at)
        if origin is tuple:
            return self._tuple(get_args(kind), raw, at)
        if origin is not None:  # a mapping from names
            inner = get_args(kind)[1]
            return {name: self._value(inner, value, f"{at}.{name}") for name, value in self._object(raw, at)}
        if is_dataclass(kind):
            return self._class(kind, raw, at)
        if issubclass(kind, Enum):
            return self._choice(kind, raw, at)
        return self._plain(kind, raw, at)

    def _class(self, kind: Any, raw: Any, at: str) -> Any:
        given, hints = dict(self._object(raw, at)), get_type_hints(kind)
        names = [member.name for member in fields(kind)]
        for name in (*names, *given):
            if name not in given and name not in _LATER:
                self._refuse(f"{at}.{name}", "missing", str(kind.__name__))
            if name not in names:
                self._refuse(f"{at}.{name}", "there", f"a field of {kind.__name__}")
        return kind(**{name: self._value(hints[name], given[name], f"{at}.{name}") for name in names if name in given})

    def _tuple(self, parts: tuple[Any, ...], raw: Any, at: str) -> tuple[Any, ...]:
        if not isinstance(raw, list | tuple):
            self._refuse(at, raw, "a list")
        kinds = (parts[0],) * len(raw) if parts[-1] is Ellipsis else parts
        if len(kinds) != len(raw):
            self._refuse(at, raw, f"a list of {len(kinds)}")
        return tuple(
            self._value(kind, item, f"{at}[{k}]") for k, (kind, item) in enumerate(zip(kinds, raw, strict=True))
        )

    def _object(self, raw: Any, at: str) -> Any:
        if not isinstance(raw, dict):
            self._refuse(at, raw, "an object")
        return raw.items()

    def _choice(self, kind: type[Enum], raw: Any, at: str) -> Enum:
        values = [member.value for member in kind]
        if raw not in values:
            self._refuse(at, raw, f"one of {', '.join(values)}")
        return kind(raw)

    def _plain(self, kind: type[Any], raw: Any, at: str) -> Any:
        if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
            raw = float(raw) if abs(raw) < 1 << 1023 else raw
        if type(raw) is not kind or raw != raw or raw in (float("inf"), -float("inf")):
            words = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}
            self._refuse(at, raw, words[kind])
        return raw

    def _refuse(self, at: str, found: Any, expected: str) -> None:
        shown = found if found in ("missing", "there") else repr(found)[:60]
        _DOOR.refuse(self._where, f"{at.lstrip('.') or 'the file'} is {shown}, expected {expected}")
