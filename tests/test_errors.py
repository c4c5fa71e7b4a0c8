"""The tree of errors is the one that its docstring draws, and each error has the exit code that stands beside it."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

import swiftvr_trt
from swiftvr_trt import cli, engines, errors, export, page, runtime
from swiftvr_trt.errors import (
    Cancelled,
    DeviceError,
    InternalError,
    MachineError,
    MissingPackageError,
    Moment,
    NameTakenError,
    NoBundleError,
    OutputError,
    StageError,
    SwiftVRError,
    cannot_import,
    message_of,
    unexpected,
)
from swiftvr_trt.runtime.restore.segments.sink import NoFrameError

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
        (MemoryError(), "not enough memory (MemoryError); close other programs"),
        (MemoryError("cannot allocate 8 GB\n"), "not enough memory (cannot allocate 8 GB); close other programs"),
        (RuntimeError("can't start new thread"), "not enough memory or processes for another thread (can't start"),
        (MissingPackageError("onnx", "tracing", "export"), "tracing needs the package 'onnx', which is not installed"),
    ],
)
def test_every_error_has_one_line(error: Exception, said: str) -> None:
    assert message_of(error).startswith(said)
    assert "\n" not in message_of(error)


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (MemoryError(), MachineError(message_of(MemoryError()))),
        (RuntimeError("can't start new thread"), MachineError(message_of(RuntimeError("can't start new thread")))),
        (RuntimeError("no kernel"), InternalError("reading failed: RuntimeError: no kernel")),
    ],
)
def test_what_the_machine_lacks_is_no_internal_error(error: Exception, becomes: SwiftVRError) -> None:
    found = unexpected(error, "reading")
    assert (type(found), str(found), found.__cause__) == (type(becomes), str(becomes), error)


def made() -> list[Exception]:
    """One of every class of the package that can be raised."""
    for room in (cli, engines, export, page, runtime):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    kinds = [kind for kind in subclasses(Exception) if kind.__module__.startswith("swiftvr_trt.")]
    fields: dict[type, tuple[object, ...]] = {
        MissingPackageError: ("onnx", "tracing", "export"),
        DeviceError: ("no memory", Moment.MIDDLE),
        StageError: ("dit failed", Moment.BEGIN),
        NoBundleError: ("no bundle", "640x480"),
        NameTakenError: (Path("out.mp4"), Path("out (2).mp4")),
        NoFrameError: ("no frame was restored", "the input promises 2 frames"),
    }
    return [kind(*fields.get(kind, ("a message",))) for kind in kinds]


def subclasses(kind: type[Exception]) -> list[type[Exception]]:
    return [found for child in kind.__subclasses__() for found in (child, *subclasses(child))]


def raised_elsewhere(error: Exception) -> None:
    raise error


def test_every_error_survives_pickling_with_its_fields() -> None:
    errors_made = made()
    assert {type(error) for error in errors_made} >= {getattr(errors, name) for _, name, _, _ in drawn()} | {Cancelled}
    for error in errors_made:
        error.add_note("a note")
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            back = pickle.loads(pickle.dumps(error, protocol))
            assert (type(back), str(back), back.args, vars(back)) == (type(error), str(error), error.args, vars(error))


def test_an_error_comes_out_of_a_process_pool() -> None:
    error = MissingPackageError("onnx", "tracing", "export")
    with ProcessPoolExecutor(1) as pool:
        back = pool.submit(raised_elsewhere, error).exception(timeout=60)
    assert isinstance(back, MissingPackageError)
    assert str(back) == str(error)


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\nerror: b", "a\u202eb", "a\udcffb"])
def test_a_message_is_one_printable_line_whatever_is_in_it(text: str) -> None:
    for error in (OutputError(f"cannot write {text}"), KeyError(text), RuntimeError(text)):
        assert message_of(error).isprintable()


def test_a_package_that_is_missing_and_one_that_cannot_be_loaded_are_told_apart() -> None:
    missing = cannot_import(ModuleNotFoundError("No module named 'onnx'"), "onnx", "tracing", "export")
    assert isinstance(missing, MissingPackageError)
    for reason in (ImportError("libx.so: failed to map segment"), OSError(12, "Cannot allocate memory")):
        broken = cannot_import(reason, "onnx", "tracing", "export")
        assert type(broken) is MachineError
        assert "is installed but cannot be loaded (" in str(broken)
        assert "not installed" not in str(broken)
