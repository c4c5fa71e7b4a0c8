"""The tree of errors is the one that its docstring draws, and each error has the exit code that stands beside it."""

from __future__ import annotations

import re

import pytest

import swiftvr_trt
from swiftvr_trt import errors
from swiftvr_trt.errors import DeviceError, MissingPackageError, Moment, OutputError, StageError, message_of

LINE = re.compile(r"^    (?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+Error)(?: \((?P<builtin>\w+)\))? +(?P<code>\d?)")


def drawn() -> list[tuple[int, str, str | None, str]]:
    """(depth, name, built-in base, exit code) of each class in the docstring, from top to bottom."""
    lines = (errors.__doc__ or "").splitlines()
    found = [LINE.match(line) for line in lines]
    return [(len(m["branch"]) // 4, m["name"], m["builtin"], m["code"]) for m in found if m]


def test_the_docstring_draws_every_class_below_its_base() -> None:
    path: list[str] = []
    for depth, name, builtin, _ in drawn():
        bases = [base.__name__ for base in getattr(errors, name).__bases__]
        path = [*path[:depth], name]
        assert bases == [path[-2] if depth else "Exception", *([builtin] if builtin else [])]
    classes = {name for name, value in vars(errors).items() if isinstance(value, type) and name.endswith("Error")}
    assert classes == {name for _, name, _, _ in drawn()}


def test_exit_codes_are_inherited() -> None:
    codes: dict[int, str] = {0: "1"}
    for depth, name, _, code in drawn():
        codes[depth] = code or codes[max(depth - 1, 0)]
        assert str(getattr(errors, name).exit_code) == codes[depth]


def test_device_errors_are_not_public_names() -> None:
    assert not {"BuildError", "DeviceError", "InternalError", "Moment"} & set(swiftvr_trt.__all__)


def test_a_device_fails_at_the_beginning_and_a_stage_in_the_middle() -> None:
    assert DeviceError("no memory").moment is Moment.BEGIN
    assert StageError("dit failed").moment is Moment.MIDDLE


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OutputError("the disk is full"), "the disk is full"),
        (KeyError("x"), "internal error: KeyError: 'x'"),
        (RuntimeError("no kernel\nand a long story"), "internal error: RuntimeError: no kernel"),
        (MemoryError(), "internal error: MemoryError"),
        (MissingPackageError("onnx", "tracing", "export"), "tracing needs the package 'onnx', which is not installed"),
    ],
)
def test_every_error_has_one_line(error: Exception, said: str) -> None:
    assert message_of(error).startswith(said)
    assert "\n" not in message_of(error)
