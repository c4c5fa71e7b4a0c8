"""Two records side by side: the ratio of each figure that both have, with an interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...errors import MisuseError
from .metrics import HIGHER, LOWER, find_metric
from .protocols import MOVING
from .record import BenchRun, Case, Figure, How, State
from .statistics import RatioInterval, ratio
from .tables import figure_text, row_label, subject_name, told_apart

_LEAST_ERROR = 1e-5
"""What a perfect agreement counts as, so that ratios of errors stay finite."""


@dataclass(frozen=True)
class Change:
    """A figure of A, and what became of it.

    after    None if B lacks it: its case was not measured, or did not get to its end
    ratio    B / A; of the errors that PSNR, SSIM and VMAF stand for
    loss     how many times worse B is than A, with the same interval; below 1 if it is better. None if neither
             direction is better
    """

    name: str
    before: Figure
    after: Figure | None
    ratio: RatioInterval
    loss: RatioInterval | None

    @property
    def row(self) -> tuple[str, ...]:
        """As texts: name, A, B, ratio, interval."""
        if self.after is None:
            return self.name, figure_text(self.before), "missing", "", ""
        interval = "" if self.ratio.low is None else f"{self.ratio.low:.3f} ... {self.ratio.high:.3f}"
        return self.name, figure_text(self.before), figure_text(self.after), f"{self.ratio.value:.3f}", interval

    def is_worse(self, limit: float) -> bool:
        """True if B is worse by more than the factor with the whole interval, or the value if there is none."""
        if self.loss is None:
            return False
        return (self.loss.value if self.loss.low is None else self.loss.low) > limit


def by_subject(changes: Sequence[Change]) -> dict[str, tuple[tuple[str, ...], ...]]:
    """The rows of the changes, without what all rows of one protocol and subject have in common: by that."""
    found: dict[str, tuple[tuple[str, ...], ...]] = {}
    for change in changes:
        where, _, label = change.name.partition(": ")
        found[where] = (*found.get(where, ()), (label, *change.row[1:]))
    return found


def compare_runs(before: BenchRun, after: BenchRun) -> tuple[Change, ...]:
    """Every figure of A, beside that of B if it was obtained in the same way. Raises `MisuseError` if none is in both.

    What B lacks is infinitely worse, so that a broken run never passes for a good one.
    """
    changes = tuple(_changes(_cases(before), _cases(after)))
    if all(change.after is None for change in changes):
        raise MisuseError(
            "the two records have no figure in common; measure the same protocol, clip, size and precision in both"
        )
    return changes


def worst(changes: Sequence[Change], limit: float) -> Change | None:
    """The change that is most certainly worse than allowed; None if none is."""
    bad = [change for change in changes if change.is_worse(limit)]
    return max(bad, key=lambda change: change.loss.value if change.loss else 0.0, default=None)


def _cases(run: BenchRun) -> dict[tuple[object, ...], Case]:
    """The cases by what makes two of them comparable. Another machine or digest is allowed: that is the question.

    So are other options of engines, and another encoder of a made-up clip, whose name says what is in it. Several
    bundles of one kind are told apart by their order, imported times by the name of their file.
    """
    clips = {clip.name: clip.name if clip.name.startswith(f"{MOVING}-") else clip.sha256 for clip in run.clips}
    found: dict[tuple[object, ...], Case] = {}
    for case, named in zip(run.cases, told_apart(run).cases, strict=True):
        one = case.subject
        trace = tuple(figure.name for figure in case.figures if figure.how is How.IMPORTED)
        clip = clips.get(case.clip, "")
        key = (case.suite, case.protocol, one.side, one.precision, one.size, one.clip_len, clip, trace)
        found[*key, sum(other[:-1] == key for other in found)] = named
    return found


def _changes(before: dict[tuple[object, ...], Case], after: dict[tuple[object, ...], Case]) -> Iterator[Change]:
    for key, case in before.items():
        twin = after.get(key)
        twin = twin if twin and twin.state is State.DONE else None  # what others have is of their first turns only
        for old in case.figures:
            new = twin and next((one for one in twin.figures if _alike(one, old)), None)
            name = f"{case.protocol}, {subject_name(case.subject)}{_run_otherwise(case, twin)}: {_label(old, case)}"
            if new:
                yield from _change(name, old, new)
            elif find_metric(old.name).better:
                yield Change(name, old, None, RatioInterval(math.inf), RatioInterval(math.inf))


def _run_otherwise(case: Case, twin: Case | None) -> str:
    """How engines are run in B, if not as in A."""
    if twin is None or twin.subject.options == case.subject.options:
        return ""
    return f", B {twin.subject.options or 'without'}"


def _alike(one: Figure, other: Figure) -> bool:
    """True for figures that say the same of two subjects."""
    return (one.name, one.how) == (other.name, other.how)


def _change(name: str, old: Figure, new: Figure, *, took_turns: bool = False) -> Iterator[Change]:
    """Nothing if both are 0."""
    if old.value == new.value == 0:
        return
    a, b = (_amounts(one) for one in (old, new))
    found = ratio(a, b, old.groups, new.groups, took_turns=took_turns)
    better = LOWER if _is_likeness(old) else find_metric(old.name).better
    loss = found if better == LOWER else _inverse(found) if better == HIGHER else None
    yield Change(name, old, new, found, loss)


def _is_likeness(figure: Figure) -> bool:
    """True for scores whose ratio says nothing: 50 dB are not twice as good as 25."""
    return figure.unit == "dB" or figure.name.partition("_")[0] in ("ssim", "vmaf")


def _amounts(figure: Figure) -> tuple[float, ...]:
    """The samples; those of a score as the error that it stands for."""
    samples = figure.samples or (figure.value,)
    if not _is_likeness(figure):
        return samples
    if figure.unit == "dB":
        return tuple(10 ** (-value / 20) for value in samples)
    best = 100.0 if figure.name.startswith("vmaf") else 1.0
    return tuple(max(best - value, _LEAST_ERROR) for value in samples)


def _inverse(one: RatioInterval) -> RatioInterval:
    if one.low is None or one.high is None:
        return RatioInterval(_over(one.value))
    return RatioInterval(_over(one.value), _over(one.high), _over(one.low))


def _over(value: float) -> float:
    return 1 / value if value else math.inf


def sides_of(run: BenchRun, against: str) -> Iterator[Change]:
    """Every figure of a run's bundles beside that of `against`, as a change from `against` to the bundle."""
    for case, named in zip(run.cases, told_apart(run).cases, strict=True):
        twin = next(
            (
                other
                for other in run.cases
                if other.subject.side == against
                and case.subject.side == "bundle"
                and (other.suite, other.protocol, other.subject.size) == (case.suite, case.protocol, case.subject.size)
            ),
            None,
        )
        for new in case.figures if twin else ():
            old = twin.figure(new.name) if twin else None
            if old is not None and _alike(old, new) and _matters(new):
                name = f"{case.protocol}, {subject_name(named.subject)}: {_label(new, case)}"
                yield from _change(name, old, new, took_turns=True)


def _matters(figure: Figure) -> bool:
    """False for what is neither better nor worse, such as a number of frames."""
    return bool(find_metric(figure.name).better)


def _label(figure: Figure, case: Case) -> str:
    """What a figure is called; several suites look at the memory."""
    label = row_label(figure.name) + (", as an error" if _is_likeness(figure) else "")
    return label if figure.scope == case.suite else f"{label}, {case.suite}"
