"""Which cases a run has, as a pure function of what the user asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...engines.bundle.files import Bundle
from ...errors import MisuseError
from .protocols import MOVING, Protocol
from .record import SUITES, Case, Subject

TORCH, BUNDLE = "torch", "bundle"
_FIRST = ("build",)
_SUITES = {BUNDLE: SUITES, TORCH: ("core", "file", "latency", "memory", "startup")}
"""Those that make sense for a side."""
_OF_COMMANDS = ("file",)


@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    checkpoint   directory of the checkpoint; None if only a bundle was named
    bundles      directories of bundles; empty to build what the protocols need
    target, precisions     of bundles that are built
    against      `torch` or a command with {input} and {output}; several are possible
    clip, clean  files instead of the protocol's clip
    graphs, overlap     how engines are run, see `OpenOptions`
    turns        how often each case is measured, the sides of a comparison in turn
    limit_s      how long a case may take
    """

    protocols: tuple[Protocol, ...]
    suites: tuple[str, ...] = SUITES
    checkpoint: Path | None = None
    bundles: tuple[Path, ...] = ()
    target: str = "auto"
    precisions: tuple[str | None, ...] = (None,)
    device: str | None = None
    against: tuple[str, ...] = ()
    clip: Path | None = None
    clean: Path | None = None
    threads: int = 0
    graphs: bool = True
    overlap: bool = False
    turns: int = 1
    limit_s: float = 3600.0

    @property
    def engine_options(self) -> str:
        """How engines are run if not as usual, as on the command line."""
        return " ".join(("--no-graphs",) * (not self.graphs) + ("--overlap",) * self.overlap)

    def __post_init__(self) -> None:
        for suite in self.suites:
            if suite not in SUITES:
                raise MisuseError(f"the suite {suite!r} is not known, expected one of {', '.join(SUITES)}")
        if TORCH in self.against and self.checkpoint is None:
            raise MisuseError("--against torch needs the weights: name a --checkpoint")
        if self.checkpoint is None and not self.bundles:
            raise MisuseError(
                "neither a --bundle nor a --checkpoint was named, expected one of them, e.g. --preset quick"
            )
        for command in self.against:
            if command != TORCH and not ("{input}" in command and "{output}" in command):
                raise MisuseError(
                    f"--against is {command!r}, expected torch, or a command with {{input}} and {{output}}"
                )
        self._refuse_what_no_suite_uses()

    def _refuse_what_no_suite_uses(self) -> None:
        """Raise if something was named that would be ignored."""
        needs = [(f"--against {side}", _SUITES.get(side, _OF_COMMANDS)) for side in self.against]
        needs += [("--clean", ("quality",))] if self.clean is not None else []
        most = tuple(suite for suite in SUITES if suite not in _FIRST)
        needs += [("--clip", most)] if self.clip is not None else []
        needs += [("--turns", most)] if self.turns > 1 else []
        needs += [(option, most) for option in self.engine_options.split()]
        for option, possible in needs:
            if not set(possible) & set(self.suites):
                raise MisuseError(
                    f"{option} has no use with --suite {','.join(self.suites)}, expected {' or '.join(possible)} in it"
                )


def protocol_of(bundle: Bundle, base: Protocol) -> Protocol:
    """The protocol for a bundle that was named: a made-up clip of half its size, in chunks of its length."""
    recipe = bundle.manifest.recipe
    if (recipe.width, recipe.height, recipe.clip_len) == (base.width, base.height, base.clip_len):
        return base
    return replace(
        base,
        name=f"bundle-{recipe.width}x{recipe.height}-{recipe.clip_len}",
        text=f"{recipe.clip_len}-frame chunks, {recipe.width}x{recipe.height} from half of both sides",
        width=recipe.width,
        height=recipe.height,
        input_width=max(recipe.width // 2, 2),
        input_height=max(recipe.height // 2, 2),
        clip_len=recipe.clip_len,
        clip=MOVING,
    )


def plan_cases(
    subject: Subject, protocol: Protocol, clip: str, options: BenchOptions, *, beside: bool = False
) -> Iterator[Case]:
    """The cases of one bundle, then those of what it is compared with.

    beside       another bundle of this protocol stands beside it, so what both are compared with is there already
    """
    for side in (BUNDLE, *(() if beside else options.against)):
        for suite in _suites(side, options.suites):
            other = _other_side(subject, side)
            name = f"{suite} {other.program} {subject.size} {subject.precision if side == BUNDLE else ''}".strip()
            yield Case(f"{name} {other.options}".strip(), suite, other, protocol.name, clip)


def in_turn(cases: Sequence[Case], turn: int) -> list[int]:
    """The numbers of cases in the order of a turn: suite by suite, so that the sides alternate, and there and back.

    Builds come first, and only in the first turn.
    """
    numbers = [number for number, case in enumerate(cases) if not (turn and case.suite in _FIRST)]
    suites = list(dict.fromkeys(case.suite for case in cases))
    backwards = numbers[::-1] if turn % 2 else numbers
    return sorted(backwards, key=lambda number: suites.index(cases[number].suite))


def _suites(side: str, suites: Sequence[str]) -> Iterator[str]:
    """The suites that make sense for a side, builds first."""
    possible = _SUITES.get(side, _OF_COMMANDS)
    yield from sorted((suite for suite in suites if suite in possible), key=lambda suite: suite not in _FIRST)


def _other_side(subject: Subject, side: str) -> Subject:
    if side == BUNDLE:
        return subject
    other = replace(subject, side=side, digest="", target="", options="")
    return replace(other, precision="fp32", device="cpu") if side == TORCH else replace(other, precision="", device="")
