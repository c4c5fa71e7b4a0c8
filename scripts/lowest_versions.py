"""Print the lowest versions that pyproject.toml allows, as constraints for pip:

    python scripts/lowest_versions.py cpu export > build/lowest.txt
    pip install --constraint build/lowest.txt ".[cpu,export]"

Arguments: the extras to include besides the package's own dependencies. CI tests with these versions, so that a lower
bound is never a promise that nobody has tried.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[a-z,]+\])?\s*>=\s*(?P<version>[0-9.]+)")


def lowest(requirements: Iterable[str]) -> list[str]:
    """One exact version per requirement. Raises `ValueError` for a requirement without a lower bound."""
    pins = []
    for requirement in requirements:
        found = _REQUIREMENT.match(requirement)
        if found is None:
            raise ValueError(f"{requirement!r} has no lower bound, expected e.g. 'numpy>=1.26': give one")
        pins.append(f"{found['name']}=={found['version']}")
    return pins


def requirements_of(project: dict[str, Any], extras: Iterable[str]) -> list[str]:
    """The requirements of the package and of `extras`. Raises `ValueError` for an unknown extra."""
    known = project["optional-dependencies"]
    unknown = [extra for extra in extras if extra not in known]
    if unknown:
        raise ValueError(f"no extra is called {unknown[0]!r}, expected one of {', '.join(known)}")
    return [*project["dependencies"], *(one for extra in extras for one in known[extra])]


def main() -> int:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    try:
        pins = lowest(one for one in requirements_of(project, sys.argv[1:]) if not one.startswith(project["name"]))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(dict.fromkeys(pins)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
