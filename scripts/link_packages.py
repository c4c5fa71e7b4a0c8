"""Give a new virtual environment packages of this one without unpacking them again: torch alone takes half a minute.

Their files are linked, or copied where the file system does not link. pip takes them for installed, and checks their
versions and what they need as always.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "swiftvr-trt"
"""Is never linked, only what it needs."""


def link_packages(environment: Path, requirement: str) -> None:
    """Link what a requirement such as `swiftvr-trt[cpu]` needs into an environment of the same Python, without scripts.

    Raises `PackageNotFoundError` if it is not installed here.
    """
    packages = next(environment.glob("lib*/**/site-packages"))
    for name in needed(requirement):
        if name != ROOT:
            _link(distribution(name), packages)


def needed(requirement: str) -> set[str]:
    """The names of the packages that a requirement leads to on this machine, itself among them."""
    todo, seen = {*_with_extras(requirement)}, set[tuple[str, str]]()
    while todo:
        name, extra = todo.pop()
        seen.add((name, extra))
        for line in distribution(name).requires or ():
            marker = Requirement(line).marker
            if marker is None or marker.evaluate({"extra": extra}):
                todo.update(set(_with_extras(line)) - seen)
    return {name for name, _ in seen}


def _with_extras(line: str) -> Iterator[tuple[str, str]]:
    """The package that a requirement names, without an extra and with each that it asks for."""
    requirement = Requirement(line)
    return ((canonicalize_name(requirement.name), extra) for extra in ("", *requirement.extras))


def _link(source: Distribution, packages: Path) -> None:
    for file in source.files or ():
        origin, target = Path(str(file.locate())), packages / file
        if ".." in file.parts or not origin.is_file():  # a script; a compiled file that was removed
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(origin, target)
        except OSError:
            shutil.copy2(origin, target)
