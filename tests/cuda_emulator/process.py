"""Tests marked `cuda_emulator` run in a second pytest process whose driver is the emulator.

A process that has loaded the emulator keeps it, and tests of a machine without a driver would not like that. So the
first marked test starts the second process; the name of each test goes to it, its reports come back and are shown as
this process's own. A crash or a hang there is the failure of the test that ran; the next test gets a new process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import pytest

from . import load

MARKER = "cuda_emulator"
SECOND = "SWIFTVR_CUDA_EMULATOR_REPORTS"
"""Environment variable that makes a pytest process the second one: the descriptors of requests and of reports."""
LIMIT_SECONDS = 300


class Second:
    """The second process. Serves one test at a time."""

    def __init__(self, config: pytest.Config, files: Iterable[Path]) -> None:
        asked, asking = os.pipe()  # apart from stdin and stdout, which pytest takes for itself
        reading, reporting = os.pipe()
        self._printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        coverage = config.pluginmanager.hasplugin("_cov")
        measured = ["-m", "coverage", "run", "--parallel-mode"] if coverage else []  # pytest-cov adds up what it finds
        shared = shared_directory(config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]
        command = [sys.executable, *measured, "-m", "pytest"]
        command += ["-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:xdist"]
        if profile := config.getoption("--hypothesis-profile", None):
            command += ["--hypothesis-profile", profile]
        command += ["--basetemp", tempfile.mkdtemp(prefix="emulator-", dir=shared)]
        self._process = subprocess.Popen(
            [*command, *map(str, files)],
            stdin=subprocess.DEVNULL,
            stdout=self._printed,
            stderr=self._printed,
            env={**os.environ, SECOND: f"{asked} {reporting}"},
            pass_fds=[asked, reporting],
            cwd=config.rootpath,
        )
        os.close(asked)
        os.close(reporting)
        self._requests = os.fdopen(asking, "w")
        self._reports = os.fdopen(reading)

    def run(self, nodeid: str) -> Iterator[dict[str, Any]]:
        """The serialised reports of one test. Raises EOFError, with all that the process printed, if it ended."""
        watchdog = threading.Timer(LIMIT_SECONDS, self._process.kill)
        watchdog.start()
        try:
            print(nodeid, file=self._requests, flush=True)
            for line in self._reports:
                if line == "\n":
                    return
                yield json.loads(line)
        except BrokenPipeError:
            pass
        finally:
            watchdog.cancel()
        self._process.wait()
        self._printed.seek(0)
        said = self._printed.read().decode(errors="replace")
        raise EOFError(f"the process with the emulator ended with {self._process.returncode}\n{said}")

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self._requests.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reports.close()
        self._printed.close()


def shared_directory(own: Path) -> Path:
    """Where the processes of one run keep what they share. own: the base directory of this process, from pytest."""
    return own.parent if SECOND in os.environ or "PYTEST_XDIST_WORKER" in os.environ else own


SECOND_PROCESS = pytest.StashKey[Second | None]()


def pytest_configure() -> None:
    if SECOND in os.environ:
        load()


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """In the second process: run the tests that are asked for, until there are no more."""
    if SECOND not in os.environ:
        return None
    items = {item.nodeid: item for item in session.items}
    asked, reporting = map(int, os.environ[SECOND].split())
    with os.fdopen(asked) as requests, os.fdopen(reporting, "w") as out:
        session.config.pluginmanager.register(_Sender(session.config, out))
        for line in requests:
            item = items[line.rstrip("\n")]
            # What comes next is not known, so all but the session's fixtures end with each test.
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=session)
            print(file=out, flush=True)
    return True


def pytest_runtest_teardown() -> None:
    """In the first process: the emulator must not be there, since the tests that follow would take it for a GPU."""
    if SECOND not in os.environ and load.cache_info().currsize:
        pytest.fail(f"the emulator was loaded in this process: mark the test {MARKER}")


class _Sender:
    def __init__(self, config: pytest.Config, out: IO[str]) -> None:
        self._config, self._out = config, out

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        print(json.dumps(data), file=self._out, flush=True)


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """In the first process: let the second one run what is marked."""
    if SECOND in os.environ or item.get_closest_marker(MARKER) is None:
        return None
    missing = "Linux" if sys.platform != "linux" else None if find_spec("cuda") else "cuda-core and cuda-bindings"
    if missing:
        item.add_marker(pytest.mark.skip(f"the CUDA emulator needs {missing}"))
        return None
    config = item.config
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    files = dict.fromkeys(other.path for other in item.session.items if other.get_closest_marker(MARKER))
    second = config.stash.get(SECOND_PROCESS, None) or Second(config, files)
    config.stash[SECOND_PROCESS] = second
    try:
        for data in second.run(item.nodeid):
            if isinstance(data["longrepr"], list):  # why a test was skipped; JSON has no tuples
                data["longrepr"] = tuple(data["longrepr"])
            report = config.hook.pytest_report_from_serializable(config=config, data=data)
            item.ihook.pytest_runtest_logreport(report=report)
    except EOFError as end:
        config.stash[SECOND_PROCESS] = None
        second.close()
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", str(end), "call")
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # The test before this one left standing in this process what the two of them share; the next one may not share it.
    item.session._setupstate.teardown_exact(nextitem)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the second process, before anybody counts what it covered."""
    second = session.config.stash.get(SECOND_PROCESS, None)
    if second:
        second.close()
