"""Finds the numbers that are missing among numbered images. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

_NAMED = 3
"""Gaps that a message names; it only counts the others."""
_FEWEST_PER_GAP = 3
"""Names with fewer files per gap are no sequence: photographs, of which somebody has kept some."""


def gap_note(files: Sequence[Path]) -> str | None:
    """A line about the numbers that are missing; None if none are, or the files are no sequence. In natural order."""
    numbers = _numbers([file.stem for file in files])
    steps = Counter(later - earlier for earlier, later in pairwise(numbers))
    if not steps:
        return None
    step, _ = steps.most_common(1)[0]
    if step <= 0:  # 1.png and 01.png have one number
        return None
    gaps = [(one, other) for one, other in pairwise(numbers) if other - one > step and (other - one) % step == 0]
    if not gaps or len(gaps) * _FEWEST_PER_GAP > len(files):
        return None
    missing = sum((other - one) // step - 1 for one, other in gaps)
    named = [_gap(one + step, other - step) for one, other in gaps[:_NAMED]]
    more = [f"{len(gaps) - _NAMED} more"] if len(gaps) > _NAMED else []
    *most, last = [*named, *more]
    words = f"{', '.join(most)} and {last}" if most else last
    are = f"number {words} is" if missing == 1 else f"numbers {words} are"
    return f"{are} missing between {files[0].name} and {files[-1].name}; the other images follow one another"


def _gap(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _numbers(stems: Sequence[str]) -> list[int]:
    """What differs between the names if it is one number; empty otherwise."""
    parts = [re.split("([0-9]+)", stem) for stem in stems]
    if len({len(each) for each in parts}) != 1:
        return []
    differing = [place for place, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    if len(differing) != 1 or differing[0] % 2 == 0:
        return []
    return [int(each[differing[0]]) for each in parts]
