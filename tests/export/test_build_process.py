"""The process that builds a bundle for whoever restores: one answer, whatever happens."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from swiftvr_trt.child import Child, Message
from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.export import build_process
from swiftvr_trt.export.build_process import build_ordered
from tests.patience import PATIENCE_S


def order(checkpoint: Path, cache: Path, **changes: object) -> Message:
    plain = {"resolution": "64x32", "clip_len": 4, "precision": "fp32", "target": "cpu"}
    return {"checkpoint": str(checkpoint), "cache": str(cache), **plain, **changes}


def test_a_bundle_is_built_into_the_cache(mini_checkpoint: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    details: list[str] = []
    with Child("swiftvr_trt.export.build_process", patience_s=PATIENCE_S, keep_errors=True) as builder:
        assert builder.ask(order(mini_checkpoint, tmp_path), lines.append, details.append) == {
            "error": None,
            "misuse": False,
        }
    (path,) = BundleCache(tmp_path).search()
    recipe = Bundle.open(path).manifest.recipe
    assert (str(recipe.resolution), recipe.clip_len, recipe.precision, recipe.target) == ("64x32", 4, "fp32", "cpu")
    assert [line[10:] for line in lines[-4:]] == [f"prepared part {number} of 4" for number in range(1, 5)]
    assert any(line.startswith("traced encode") for line in details)
    assert all(line[6:10] == " s  " and float(line[:6]) >= 0 for line in lines)


def test_the_gpu_of_an_order_is_chosen_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    monkeypatch.setattr(build_process, "leave_only", done.append)
    monkeypatch.setattr(build_process, "build_ordered", lambda *_: done.append("built"))
    monkeypatch.setattr(build_process, "logging", Mock())  # it would keep a handler
    build_process.main(Mock(**{"receive.return_value": {"gpu": 2}}))
    assert done == [2, "built"]


def test_misuse_and_other_failures_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = build_ordered(order(tmp_path / "none", tmp_path), print)
    assert answer["misuse"]
    assert "none" in answer["error"]
    assert build_ordered(order(tmp_path, tmp_path, precision="fp8"), print)["misuse"]

    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(build_process, "build_bundles", broken)
    answer = build_ordered(order(tmp_path, tmp_path), print)
    assert answer == {"error": "internal error: ZeroDivisionError: oops", "misuse": False}
