"""What tests of commands share."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from swiftvr_trt.cli import console
from swiftvr_trt.cli.export import command

from .program import Call, Said


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache directory of a user who has none yet; tables are wide."""
    place = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("SWIFTVR_CACHE", raising=False)
    return place


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    """What `-v` of one test shows is not shown in the next one."""
    logger = logging.getLogger("swiftvr_trt")
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`swiftvr-export` in this process."""

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["swiftvr-export", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            console.run(command, "swiftvr-export")
        out, err = capsys.readouterr()
        return Said(caught.value.code, out, err)

    return call
