"""Check what ruff and mypy do not: sizes, names, tests for every module, references to absent documents and to commits.

Conversions of frames, too: PyAV damages frames where it is left to choose the number of threads, so all go through
`converted` of runtime/media/colour.py.

An exception needs a reason, in a comment within the signature or in the line above it:

    # long: why            a function over 50 lines
    # many parameters: why a function with more than 6 parameters
    # long module: why     a module over 400 lines; anywhere in it
    # tested with: why     a module without a test module of its own; anywhere in it

Prints one line per finding and exits with 1 if there is any.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MODULE_LINES = 400
FUNCTION_LINES = 50
PARAMETERS = 6

PACKAGE = (  # and the root's modules
    "benchmarks/suite/", "benchmarks/page/", "cli/", "engines/", "export/", "page/", "runtime/",
)  # fmt: skip
COPIED = ("tests/oracle/",)  # checked where they come from
SHARED_NAMES = {"main", "command"}  # entry points are called the same everywhere
NO_TESTS_OF_THEIR_OWN = {"__init__", "__main__"}
# Documents that are not in the repository; written in two parts so that this file does not contain them.
ABSENT = re.compile("DESIGN" r"\.md|STYLE" r"\.md|\.\./" "shared")
# Their names change where a history is written anew. A text that calls a name a digest means something else.
COMMIT = re.compile(r"(?:\bcommit `?|\bgit [\w-]+ |`)(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{7,40}\b")
DIGEST = re.compile(r"\bdigests?\b|SHA-?256", re.IGNORECASE)

CONVERTS = "runtime/media/colour.py"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A Python file: its path from the root of the repository with forward slashes, and its text."""

    path: str
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def in_package(self) -> bool:
        return "/" not in self.path or self.path.startswith(PACKAGE)


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    tracked = subprocess.run(["git", "ls-files"], cwd=root, check=True, capture_output=True, text=True).stdout
    paths = [path for path in tracked.splitlines() if (root / path).is_file() and not path.startswith(COPIED)]
    modules = [Module(path, (root / path).read_text(encoding="utf-8")) for path in paths if path.endswith(".py")]
    findings = [
        *(finding for module in modules for finding in check_module(module)),
        *repeated_names(module for module in modules if module.in_package),
        *untested(modules),
        *absent_documents(root, paths),
        *named_commits(root, paths),
    ]
    print("\n".join(findings) or f"structure: {len(modules)} modules, nothing to report")
    return 1 if findings else 0


def check_module(module: Module) -> Iterator[str]:
    """Findings inside one module: its length and its functions."""
    if len(module.lines) > MODULE_LINES and not _has_line("# long module:", module):
        yield f"{module.path}: {len(module.lines)} lines, at most {MODULE_LINES}"
    for node in ast.walk(ast.parse(module.text)):
        if isinstance(node, Function):
            yield from _check_function(module, node)
        if isinstance(node, ast.Call) and _converts(node) and module.path != CONVERTS:
            yield f"{module.path}:{node.lineno}: PyAV is told to convert a frame, expected `converted` of {CONVERTS}"


def _converts(call: ast.Call) -> bool:
    """Whether this is a method of PyAV's frames that converts, or its reformatter's."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    converts_with_arguments = name == "to_ndarray" and any(keyword.arg != "channel_last" for keyword in call.keywords)
    return converts_with_arguments or name in {"reformat", "to_image"} or (name == "to_rgb" and not call.args)


def _has_line(marker: str, module: Module) -> bool:
    """Whether a line starts with the marker and a reason follows."""
    return re.search(rf"^{marker} \S", module.text, re.MULTILINE) is not None


def _check_function(module: Module, function: Function) -> Iterator[str]:
    where = f"{module.path}:{function.lineno}: {function.name}"
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    signature = "\n".join(module.lines[max(first - 2, 0) : max(function.body[0].lineno - 1, function.lineno)])
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    if length > FUNCTION_LINES and not re.search(r"# long: \S", signature):
        yield f"{where} has {length} lines, at most {FUNCTION_LINES}"
    count = parameters(function)
    if count > PARAMETERS and not re.search(r"# many parameters: \S", signature):
        yield f"{where} has {count} parameters, at most {PARAMETERS}"


def parameters(function: Function) -> int:
    """How many parameters a function takes, without `self` and `cls`."""
    arguments = function.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    starred = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    return len(positional) - (positional[:1] in (["self"], ["cls"])) + len(arguments.kwonlyargs) + len(starred)


def repeated_names(modules: Iterable[Module]) -> Iterator[str]:
    """Public classes and functions at the top of a module whose name another module uses as well."""
    homes: dict[str, set[str]] = defaultdict(set)
    for module in modules:
        for node in ast.parse(module.text).body:
            if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].add(module.path)
    for name, paths in sorted(homes.items()):
        if len(paths) > 1 and name not in SHARED_NAMES:
            yield f"{name} is defined in {', '.join(sorted(paths))}"


def untested(modules: Iterable[Module]) -> Iterator[str]:
    """Modules of the package without the test module that mirrors them."""
    modules = list(modules)
    paths = {module.path for module in modules}
    for module in modules:
        folder, _, name = module.path.rpartition("/")
        mirror = "/".join(part for part in ("tests", folder, f"test_{name}") if part)
        excused = name.removesuffix(".py") in NO_TESTS_OF_THEIR_OWN or _has_line("# tested with:", module)
        if module.in_package and not excused and mirror not in paths:
            yield f"{module.path}: no {mirror}"


def absent_documents(root: Path, paths: Iterable[str]) -> Iterator[str]:
    """References to documents that a reader of the repository does not have."""
    for where, line in _lines(root, paths):
        if found := ABSENT.search(line):
            yield f"{where}: refers to {found.group()}, which is not in the repository"


def named_commits(root: Path, paths: Iterable[str]) -> Iterator[str]:
    """Names of commits in documents and records, where a reader may look for them in vain."""
    for where, line in _lines(root, (path for path in paths if path.endswith((".md", ".json")))):
        if (found := COMMIT.search(line)) and not DIGEST.search(line):
            yield f"{where}: names {found.group()}, expected what it did; a digest is called one in the same line"


def _lines(root: Path, paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The lines of texts, each with its place."""
    for path in paths:
        try:
            text = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not a text
        for number, line in enumerate(text.splitlines(), start=1):
            yield f"{path}:{number}", line


if __name__ == "__main__":
    sys.exit(main())
