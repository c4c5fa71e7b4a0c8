"""What the structure check finds, and which reasons it accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.check_structure import (
    FUNCTION_LINES,
    MODULE_LINES,
    Module,
    absent_documents,
    check_module,
    named_commits,
    repeated_names,
    untested,
)

LONG = "def f() -> None:\n" + "    pass\n" * FUNCTION_LINES
WIDE = "def f(a, b, c, d, e, *, g): ...\n"


def findings(text: str) -> list[str]:
    return list(check_module(Module("runtime/stream/plan.py", text)))


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("x = 1\n" * (MODULE_LINES + 1), "runtime/stream/plan.py: 401 lines, at most 400"),
        (LONG, "runtime/stream/plan.py:1: f has 51 lines, at most 50"),
        (WIDE.replace("*,", "*h,"), "runtime/stream/plan.py:1: f has 7 parameters, at most 6"),
    ],
)
def test_a_finding_names_the_place_and_the_limit(text: str, finding: str) -> None:
    (found,) = findings(text)
    assert finding in found


@pytest.mark.parametrize(
    "text",
    [
        "x = 1\n" * MODULE_LINES,
        "def f() -> None:\n" + "    pass\n" * (FUNCTION_LINES - 1),
        WIDE,
        "class A:\n    def f(self, a, b, c, d, e, *, g): ...\n",
        "class A:\n    @classmethod\n    def f(cls, a, b, c, d, e, *, g): ...\n",
    ],
)
def test_code_within_the_limits_is_not_reported(text: str) -> None:
    assert not findings(text)


@pytest.mark.parametrize(
    ("text", "marker"),
    [
        ("x = 1\n" * (MODULE_LINES + 1), "# long module:"),
        (LONG, "# long:"),
        (WIDE.replace("*,", "*h,"), "# many parameters:"),
        ("@cache\n" + LONG, "# long:"),
    ],
)
def test_an_exception_needs_a_reason(text: str, marker: str) -> None:
    assert not findings(f"{marker} one for each option\n{text}")
    assert findings(f"{marker}\n{text}")


def test_a_reason_may_stand_in_the_signature() -> None:
    assert not findings("def f(  # many parameters: as the library has them\n    a, b, c, d, e, g, h\n): ...\n")


def test_a_reason_holds_for_one_function_only() -> None:
    assert len(findings(f"# long: a table\n{LONG}\n{LONG}")) == 1


@pytest.mark.parametrize(
    "call",
    [
        'frame.reformat(format="rgb24")',
        "self._reformatter.reformat(frame, 64, 48)",
        'next(container.decode(video=0)).to_ndarray(format="rgb24")',
        "frame.to_ndarray(channel_last=True, **options)",
        "frame.to_rgb()",
        "frame.to_image(width=64)",
    ],
)
def test_frames_are_converted_in_one_place(call: str) -> None:
    (found,) = findings(f"x = 1\ny = {call}\n")
    assert "runtime/stream/plan.py:2: PyAV is told to convert a frame" in found
    assert not list(check_module(Module("runtime/media/colour.py", call)))


@pytest.mark.parametrize(
    "call",
    [
        "converted(frame, width=64)",
        "frame.to_ndarray()",
        "frame.to_ndarray(channel_last=True)",
        "colour.to_rgb(8)",
        "colour.to_rgb(frame, reformatter, deep=True)",
    ],
)
def test_what_converts_nothing_by_itself_is_not_reported(call: str) -> None:
    assert not findings(call)


def test_a_public_name_belongs_to_one_module() -> None:
    modules = [
        Module("cli/run.py", "class Job: ...\ndef main(): ...\ndef _help(): ...\n"),
        Module("engines/compile/compiler.py", "def Job(): ...\ndef main(): ...\ndef _help(): ...\n"),
        Module("runtime/stream/plan.py", "class Plan:\n    def Job(self): ...\n"),
    ]
    assert list(repeated_names(modules)) == ["Job is defined in cli/run.py, engines/compile/compiler.py"]


def test_every_module_of_the_package_has_its_test_module() -> None:
    modules = [
        Module("errors.py", ""),
        Module("tests/test_errors.py", ""),
        Module("runtime/__init__.py", ""),
        Module("runtime/stream/plan.py", ""),
        Module("runtime/stream/device.py", "# tested with: its users, it holds protocols only\n"),
        Module("benchmarks/quality.py", ""),
    ]
    assert list(untested(modules)) == ["runtime/stream/plan.py: no tests/runtime/stream/test_plan.py"]


def test_a_document_that_readers_do_not_have_is_not_referred_to(tmp_path: Path) -> None:
    absent = "DESIGN" + ".md"
    (tmp_path / "a.md").write_text(f"fine\nsee {absent}\n")
    (tmp_path / "b.bin").write_bytes(b"\xff\x00")
    assert list(absent_documents(tmp_path, ["a.md", "b.bin"])) == [
        f"a.md:2: refers to {absent}, which is not in the repository"
    ]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("| INT8 linears (`b8e14f8`) | 1 |", "`b8e14f8"),
        ("on an idle machine (commit a9e6246)", "commit a9e6246"),
        ("the previous weights (commit `7923e73`, trained", "commit `7923e73"),
        ("`0123456789abcdef0123456789abcdef01234567` is it", "`0123456789abcdef0123456789abcdef01234567"),
        ("the folder that `git archive 7923e73 export/demo` packs", "git archive 7923e73"),
        ("the digest `7923e73` of the file", None),
        ("[learn](https://example.com/tree/e83c256/a) `--seed 1234567` `12345678` `defaced` `a1b2c3`", None),
        ("`swiftvr-7923e73` `fp8e4m3fn`", None),
    ],
)
def test_documents_name_no_commits(tmp_path: Path, line: str, named: str | None) -> None:
    for name in ("a.md", "a.json", "a.py"):
        (tmp_path / name).write_text(f"fine\n{line}\n")
    found = list(named_commits(tmp_path, ["a.md", "a.json", "a.py"]))
    assert [each.split(", ")[0] for each in found] == (
        [f"{name}:2: names {named}" for name in ("a.md", "a.json")] if named else []
    )
