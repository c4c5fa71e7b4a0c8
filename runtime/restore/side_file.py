"""Files that a run writes besides its output, such as a trace."""

from __future__ import annotations

from pathlib import Path

from ...errors import MisuseError
from ..media.files import check_parent, is_same_file

_EXAMPLES = {"--trace": "trace.json", "--report": "report.html"}


def check_side_file(option: str, path: Path, source: Path, output: Path, *, overwrite: bool) -> None:
    """Raise, before anything is done, if the file that `option` names would overwrite something else."""
    check_parent(path)
    example = _EXAMPLES[option]
    for name, other in (("INPUT", source), ("OUTPUT", output)):
        if is_same_file(path, other):
            raise MisuseError(f"{option} {path} is {name}: give the {option[2:]} a name of its own, e.g. {example}")
    if path.is_dir():
        raise MisuseError(f"{option} {path} is a directory, expected the name of a file, e.g. {example}")
    if path.is_file() and not overwrite:
        raise MisuseError(f"{option} {path} already exists: choose another name, or allow overwriting it with -y")
