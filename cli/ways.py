"""The ways to give `swiftvr-run` a model, as commands to paste, for a command line that named none."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..engines.bundle.checkpoints import DEMO, PUBLISHED
from ..errors import NoBundleError
from . import console

_OF_THE_BUNDLE = ("--precision", "--target", "--clip-len")
"""Options that `build-engine` takes, too, and that cannot be given along with `--bundle`."""
_PLAIN_ON_WINDOWS = re.compile(r"[\w.:\\/=+-]+")


def ways_to_a_model(arguments: Sequence[str], size: str) -> Iterator[str]:
    """Lines with three ways. arguments: of `swiftvr-run`, as typed. size: of the output, `WxH`."""
    bundle = f"bundle-{size}"
    rest, built_with = _split(arguments)
    build = ("--checkpoint", str(PUBLISHED), "--resolution", size, *built_with, "-o", bundle)
    yield "A model is needed. Three ways to get one:"
    yield "  try the demonstration model, which is small and comes with this package:"
    yield f"    {command_line('swiftvr-run', _with(arguments, '--checkpoint', DEMO))}"
    yield "  download the published weights, once (20 GB):"
    yield f"    {command_line('swiftvr-run', _with(arguments, '--checkpoint', str(PUBLISHED)))}"
    yield "  build a bundle, here or on another machine, and name it:"
    yield f"    {command_line('swiftvr-export', ('build-engine', *build))}"
    yield f"    {command_line('swiftvr-run', _with(rest, '--bundle', bundle))}"


@contextmanager
def saying_ways(*, quiet: bool) -> Iterator[None]:
    """If no bundle is found within the block, print how to go on without one."""
    try:
        yield
    except NoBundleError as error:
        if not quiet:
            for line in ways_to_a_model(sys.argv[1:], error.size):
                console.say(line)
        raise


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments that may stand next to `--bundle`, and those that belong to the build."""
    rest: list[str] = []
    build: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            rest += [argument, *remaining]
        elif argument in _OF_THE_BUNDLE:
            build += [argument, *([value] if (value := next(remaining, None)) is not None else [])]
        else:
            (build if argument.startswith(tuple(f"{name}=" for name in _OF_THE_BUNDLE)) else rest).append(argument)
    return rest, build


def _with(arguments: Sequence[str], *options: str) -> list[str]:
    """The arguments and some options: at the end, or before a `--`, after which nothing is an option."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [*arguments[:end], *options, *arguments[end:]]


def command_line(program: str, arguments: Sequence[str]) -> str:
    """A command as the shells of this platform read it."""
    if sys.platform == "win32":
        return " ".join([program, *map(_quoted_for_windows, arguments)])
    return shlex.join([program, *arguments])


def _quoted_for_windows(argument: str) -> str:
    """For the Command Prompt and PowerShell, where more characters than the space are special."""
    if _PLAIN_ON_WINDOWS.fullmatch(argument):
        return argument
    quoted = subprocess.list2cmdline([argument])
    return quoted if quoted.startswith('"') else f'"{quoted}"'
