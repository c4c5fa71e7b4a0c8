"""What a run cannot do with pipes, which are read and written once, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import MisuseError
from ..media.pipes import input_name, is_input_pipe, is_output_pipe, output_name


def check_pipes(sources: Sequence[Path], output: str, asked: Mapping[str, bool]) -> None:
    """Raise `MisuseError` for options that pipes do not allow. asked: names of options, and whether they were given."""
    piped = next((input_name(source) for source in sources if is_input_pipe(source)), None)
    if piped is not None and len(sources) > 1:
        raise MisuseError(
            f"{piped} is one of {len(sources)} INPUTs, expected it alone: restore the files by themselves"
        )
    if is_output_pipe(output) and len(sources) > 1:
        raise MisuseError(f"OUTPUT is {output_name(output)}, expected a folder for {len(sources)} INPUTs")
    where = piped or (output_name(output) if is_output_pipe(output) else None)
    for name, given in asked.items():
        if where is not None and given:
            raise MisuseError(f"{name} was given, but {where} is a pipe, which is {_ONCE[name]}: {_REMEDY[name]}")


_ONCE = {
    "--cluster": "read and written in order by one process",
    "--devices": "read and written in order by one process",
    "--preview": "not read twice",
    "--skip-existing": "neither there nor missing",
    "--resume": "not read twice, so a run cannot be continued",
}
_REMEDY = {
    "--cluster": "leave it out, or restore from file to file",
    "--devices": "name one device with --device, or restore from file to file",
    "--preview": "make it from a file",
    "--skip-existing": "leave it out",
    "--resume": "leave it out, or restore from file to file",
}
