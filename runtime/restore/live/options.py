"""How a live stream is restored: what a user may choose, checked once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ....errors import MisuseError
from ....redaction import keep_secret_values
from ....text import parse_seconds
from ...media.source_options import SCENE_CUTS
from .latency import Latency

WHEN_LATE = ("drop", "wait", "bypass")
"""What becomes of frames that cannot be restored in time."""
ON_GAP = ("hold", "skip")
"""What is sent while the source is away: its last picture, or nothing."""
STALL_S = 5.0
"""Seconds without a packet after which a source or a receiver counts as gone."""


def patience_with(rate: Fraction, usual_s: float) -> float:
    """Seconds to wait for frames: as usual, or four frames of a source that sends few."""
    return max(usual_s, float(4 / rate))


@dataclass(frozen=True)
class LiveOptions:
    """The options of a live run.

    latency         low, normal, or the most seconds until a frame gets its turn; restoring it comes on top
    when_late       one of `WHEN_LATE`
    on_gap          one of `ON_GAP`
    reconnect       seconds to try to get a source or a receiver back; 0 ends at once, None never does
    in_options, out_options   of FFmpeg's protocols, demuxers and muxers
    metrics         port of the metrics on loopback; None for none
    scene_cut       one of `SCENE_CUTS`

    Raises `MisuseError` for a value out of range.
    """

    latency: str = "normal"
    when_late: str = "drop"
    on_gap: str = "hold"
    reconnect: Fraction | None = None
    in_options: tuple[tuple[str, str], ...] = ()
    out_options: tuple[tuple[str, str], ...] = ()
    metrics: int | None = None
    scene_cut: str = "keep"
    chosen: Latency = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "chosen", Latency.parse(self.latency))
        for name, allowed in (("when_late", WHEN_LATE), ("on_gap", ON_GAP), ("scene_cut", SCENE_CUTS)):
            if getattr(self, name) not in allowed:
                option = f"--{name.replace('_', '-')}"
                raise MisuseError(f"{option} is {getattr(self, name)!r}, expected one of {', '.join(allowed)}")
        if self.reconnect is not None and self.reconnect < 0:
            raise MisuseError(f"--reconnect is {self.reconnect}, expected seconds from 0 up")
        if self.metrics is not None and not 0 <= self.metrics <= 65535:
            raise MisuseError(
                f"--metrics is {self.metrics}, expected a port from 1 to 65535, or 0 for any that is free"
            )
        for options in (self.in_options, self.out_options):
            keep_secret_values(dict(options))


def parse_pairs(name: str, given: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """`KEY=VALUE` texts as pairs. name: of the option, for the `MisuseError` about another text."""
    pairs = []
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise MisuseError(f"{name} is {key or text!r} without a value, expected KEY=VALUE, e.g. rtsp_transport=udp")
        pairs.append((key, value))
    return tuple(pairs)


def seconds_or_none(given: Any) -> Fraction | None:
    """Seconds from a number or a text such as 1:30. Raises `MisuseError`."""
    if given is None:
        return None
    try:
        return parse_seconds(given) if isinstance(given, str) else Fraction(given)
    except (ValueError, OverflowError, TypeError):
        raise MisuseError(f"--reconnect is {given!r}, expected seconds or a time such as '1:30'") from None
