"""The report of a GPU run: the outcome of each test, and the JSON file that is sent back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftvr_trt.errors import MisuseError
from swiftvr_trt.outside import Door, parse_json

_LOG = Door("line of pytest's log", MisuseError, "run the tests again", max_bytes=1 << 26)
_MOST_CHARACTERS = 4000
"""How much is kept of the reason why a test failed: its end, where the error is."""


class ReportError(Exception):
    """The report cannot be written; the message is one line."""


class Report:
    """The file to send back. It is complete and valid JSON after every call."""

    def __init__(self, path: Path, **content: Any) -> None:
        self.path, self.content = path, content

    def add(self, **parts: Any) -> None:
        """Add parts and write. A failure is ignored: a full disk may have room once the bundles are removed."""
        self.content |= parts
        with suppress(ReportError):
            self.write()

    def write(self) -> None:
        """Write everything, or raise `ReportError` and leave the file as it was."""
        partial = self.path.with_name(f"{self.path.name}.part")
        for wait in (0.2, 1.0, 3.0, None):
            try:
                partial.write_text(json.dumps(self.content, indent=1, default=str), encoding="utf-8")
                os.replace(partial, self.path)
                return
            except OSError as error:
                # Windows refuses for a moment while a virus scanner or an editor has the file open.
                if wait is None or not isinstance(error, PermissionError):
                    raise ReportError(f"{self.path} cannot be written ({error.strerror or error})") from error
                time.sleep(wait)


@dataclass(frozen=True)
class TestLog:
    """What one pytest process recorded.

    tests          by name, in order: outcome, seconds, why, and what the test noted
    unfinished     the test that was running when the process ended; None if there was none
    complete       whether pytest came to its end
    """

    tests: dict[str, dict[str, Any]]
    unfinished: str | None
    complete: bool

    __test__ = False  # the name begins with Test, but pytest must not collect it


def read_log(log: Path, started: Path) -> TestLog:
    """Read the log of pytest-reportlog and the names of the tests that began. Either file may be missing."""
    tests = {name: _empty(name) for name in _lines(started)}
    running = set(tests)
    complete = False
    for text in _lines(log):
        line = parse_json(text, log, _LOG).content()
        if line.get("$report_type") == "SessionFinish":
            complete = True
        elif line.get("$report_type") == "TestReport":
            _add(tests[line["nodeid"]], line)
            if line["when"] == "teardown":
                running.discard(line["nodeid"])
    unfinished = next((name for name in tests if name in running), None)
    return TestLog(tests, unfinished, complete)


def _empty(name: str) -> dict[str, Any]:
    return {"name": name.split("::")[-1], "outcome": "passed", "seconds": 0.0, "why": "", "noted": {}}


def _add(test: dict[str, Any], line: dict[str, Any]) -> None:
    """Add a phase to a test. The first phase that does not pass decides the outcome."""
    test["seconds"] = round(test["seconds"] + line["duration"], 3)
    test["noted"] |= dict(line["user_properties"])
    if test["outcome"] == "passed" and line["outcome"] != "passed":
        test["outcome"], test["why"] = line["outcome"], _reason(line["longrepr"])


def _reason(longrepr: Any) -> str:
    """Why a test did not pass: the reason of a skip, or the end of a traceback (`--tb=native`)."""
    if isinstance(longrepr, list):  # path, line number, reason
        return str(longrepr[2])
    if not isinstance(longrepr, dict):
        return str(longrepr)[-_MOST_CHARACTERS:]
    entries = longrepr["reprtraceback"]["reprentries"]
    lines = (line.removesuffix("\n") for entry in entries for line in entry["data"]["lines"])
    return "\n".join(lines)[-_MOST_CHARACTERS:]


def _lines(path: Path) -> Iterable[str]:
    """The complete lines of a file: a process may end in the middle of one."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line.removesuffix("\n") for line in text.splitlines(keepends=True) if line.endswith("\n")]
