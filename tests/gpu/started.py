"""A pytest plugin that notes the name of each test when it begins.

    python -m pytest -p tests.gpu.started --started FILE ...

The log of pytest-reportlog says which phases of a test have ended. If a test ends the whole process, this file says
which one it was.
"""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--started", metavar="FILE", type=Path, help="Append the name of each test here when it begins.")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--started")
    if path is not None:
        config.pluginmanager.register(_Started(path))


class _Started:
    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{nodeid}\n")
