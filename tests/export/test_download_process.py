"""The process that downloads for whoever restores: one answer, whatever happens, and it can be ended."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from swiftvr_trt.child import Child
from swiftvr_trt.export import download_process
from swiftvr_trt.export.download_process import download_ordered
from tests.hub_server import REPOSITORY, Faults, serve_hub
from tests.patience import PATIENCE_S

MODULE = "swiftvr_trt.export.download_process"


def test_a_download_is_answered_with_its_directory(
    mini_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    with serve_hub(mini_checkpoint) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        with Child(MODULE, patience_s=PATIENCE_S, keep_errors=True) as child:
            answer = child.ask({"checkpoint": f"hf:{REPOSITORY}"}, lines.append)
    assert answer is not None
    assert (answer["error"], answer["misuse"]) == (None, False)
    assert (Path(answer["path"]) / "reae.safetensors").read_bytes() == (
        mini_checkpoint / "reae.safetensors"
    ).read_bytes()
    assert "licence: apache-2.0" in lines


def test_whoever_hangs_up_ends_a_download(
    mini_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_hub(mini_checkpoint) as hub:
        hub.faults = Faults(stall=threading.Event())
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        with Child(MODULE, patience_s=PATIENCE_S, keep_errors=True) as child:
            child.send({"checkpoint": f"hf:{REPOSITORY}"})
            assert hub.stalled.wait(60)
            began = time.monotonic()
        assert time.monotonic() - began < PATIENCE_S / 2
    names = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert any(name.endswith(".part") for name in names), "the next download continues it"
    assert not any(name.endswith(".safetensors") for name in names)


def test_misuse_and_other_failures_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert download_ordered({"checkpoint": str(tmp_path)}, print)["path"] == str(tmp_path)
    answer = download_ordered({"checkpoint": "hf:nonsense"}, print)
    assert answer["misuse"]
    assert "expected hf:OWNER/NAME" in answer["error"]

    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(download_process, "obtain_checkpoint", broken)
    answer = download_ordered({"checkpoint": str(tmp_path)}, print)
    assert answer == {"path": None, "error": "internal error: ZeroDivisionError: oops", "misuse": False}
