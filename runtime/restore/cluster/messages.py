"""The messages between a run on a cluster and its driver process, as JSON objects (see `swiftvr_trt.child`).

-> {"connect": {...}}       Connect, once
<- {"connected": {...}}     Connected, or Refused, which ends the process
-> {"file": {...}}          FileOrder, any number
<- {"frames": {...}}        FileFrames, PieceStored, NodeFrames and FileLine, any number
<- {"settled": {...}}       FileSettled, once for each file
-> {"bye": {}}              Bye; the answer is Bye, too
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from ....child import Message
from ...media.index import VideoIndex
from ..job import Job
from ..restorer import OpenOptions
from ..segments.grid import Span
from .address import ClusterOptions


@dataclass(frozen=True)
class Connect:
    """Connect to this cluster, and run bundles with these options. gpu: on GPUs."""

    cluster: ClusterOptions
    options: OpenOptions
    gpu: bool


@dataclass(frozen=True)
class Connected:
    """The names of the nodes with devices, and how many devices they have. unused_gpus: of a cluster for the CPU."""

    nodes: tuple[str, ...]
    devices: int
    unused_gpus: int = 0


@dataclass(frozen=True)
class Refused:
    """The cluster cannot be used. misuse: another request can be met."""

    text: str
    misuse: bool = False


@dataclass(frozen=True)
class FileOrder:
    """Restore these pieces of a video, and put them into the folder of its output.

    last: number of its last piece. index: of the video; None if it has none. runtime: see `runtime_of`.
    """

    file: int
    job: Job
    bundle: str
    spans: tuple[Span, ...]
    last: int | None
    index: VideoIndex | None = None
    runtime: str | None = None


@dataclass(frozen=True)
class FileFrames:
    """How many frames of a file are restored, without those of earlier runs."""

    file: int
    frames: int


@dataclass(frozen=True)
class PieceStored:
    """A piece is in the folder of the output, with its mark. node: that restored it."""

    file: int
    piece: int
    node: str


@dataclass(frozen=True)
class NodeFrames:
    """How many frames each node has restored, by its name."""

    frames: dict[str, int]


@dataclass(frozen=True)
class FileLine:
    """One line for people. file: None if it is about the cluster. warning: it is about something that is lost."""

    file: int | None
    text: str
    warning: bool = False


@dataclass(frozen=True)
class FileSettled:
    """Nothing more is done for a file. reason: why pieces are missing; None if none are. full: the output's disk is."""

    file: int
    reason: str | None = None
    full: bool = False


@dataclass(frozen=True)
class Bye:
    """There are no more files; or, as an answer, the driver has left the cluster."""


Sent = Connect | Connected | Refused | FileOrder | FileFrames | PieceStored | NodeFrames | FileLine | FileSettled | Bye

_KINDS: dict[str, type[Sent]] = {
    "connect": Connect,
    "connected": Connected,
    "refused": Refused,
    "file": FileOrder,
    "frames": FileFrames,
    "piece": PieceStored,
    "nodes": NodeFrames,
    "line": FileLine,
    "settled": FileSettled,
    "bye": Bye,
}


def encode_sent(sent: Sent) -> Message:
    """As a JSON object."""
    plain = asdict(sent)
    if isinstance(sent, FileOrder):
        plain["job"] = sent.job.to_dict()
        if sent.index is not None:
            plain["index"]["time_base"] = str(sent.index.time_base)
    return {next(name for name, kind in _KINDS.items() if isinstance(sent, kind)): plain}


def decode_sent(message: Message) -> Sent:
    """The inverse of `encode_sent`. Raises `ValueError` for anything else."""
    try:
        ((kind, plain),) = message.items()
        return _KINDS[kind](**{name: _value(name, value) for name, value in plain.items()})
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(f"a process wrote {str(message)[:80]}, expected a message about a cluster") from None


def _value(name: str, value: Any) -> Any:
    """A field of a message from its JSON value."""
    if name == "job":
        return Job.from_dict(value)
    if name == "cluster":
        return ClusterOptions(**value)
    if name == "index":
        return None if value is None else _index(value)
    if name == "options":
        return OpenOptions(**value)
    if name == "spans":
        return tuple(Span(**span) for span in value)
    return tuple(value) if isinstance(value, list) else value


def _index(plain: Message) -> VideoIndex:
    pairs = {name: tuple((first, second) for first, second in plain[name]) for name in ("stamps", "holes")}
    lists = {name: tuple(plain[name]) for name in ("times", "keys", "before")}
    return VideoIndex(**{**plain, **lists, **pairs, "time_base": Fraction(plain["time_base"])})
