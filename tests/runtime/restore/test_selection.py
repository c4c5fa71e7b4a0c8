"""The bundle for a request: from the cache, or built by another process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt import MisuseError
from swiftvr_trt.child import Message
from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.errors import BuildError
from swiftvr_trt.runtime.restore import selection
from swiftvr_trt.runtime.restore.selection import BundleRequest, find_or_build_bundle, output_size
from tests.engines.fakes import RECIPE, write_fake_bundle

FP8 = replace(RECIPE, precision="fp8", target="rtx5090")


def stored(cache: Path, calibration: str, *, seconds: int, checkpoint: str = RECIPE.checkpoint) -> Bundle:
    """A bundle in the cache, built `seconds` after a fixed time."""
    recipe = replace(FP8, calibration=calibration * 64, checkpoint=checkpoint)
    bundle = write_fake_bundle(BundleCache(cache).path(recipe), recipe)
    os.utime(bundle.path / "manifest.json", (1e9 + seconds, 1e9 + seconds))
    return bundle


def request(cache: Path) -> BundleRequest:
    return BundleRequest(cache=cache, precision="fp8", target="rtx5090", clip_len=RECIPE.clip_len)


def test_of_several_calibrations_the_latest_serves(tmp_path: Path) -> None:
    latest = stored(tmp_path, "b", seconds=2)
    stored(tmp_path, "a", seconds=1)
    assert find_or_build_bundle(request(tmp_path), RECIPE.resolution, print).path == latest.path


def test_of_several_checkpoints_none_is_guessed(tmp_path: Path) -> None:
    stored(tmp_path, "a", seconds=1)
    stored(tmp_path, "a", seconds=2, checkpoint="d" * 64)
    with pytest.raises(MisuseError, match="bundles of several checkpoints fit"):
        find_or_build_bundle(request(tmp_path), RECIPE.resolution, print)


class Builder:
    """Stands in for the process that builds: gives this answer, and does this with the order first."""

    def __init__(self, answer: Message | None, build: Callable[[Message], object] = lambda _order: None) -> None:
        self.answer, self.build, self.orders = answer, build, list[Message]()

    def __call__(self, _module: str, **_options: object) -> Builder:
        return self

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *_: object) -> None: ...

    def ask(self, order: Message, say: Callable[[str], None]) -> Message | None:
        self.orders.append(order)
        self.build(order)
        say("built it")
        return self.answer

    def ending(self, _patience_s: float) -> str:
        return "exit code 3: last words"


BUILT: Message = {"error": None, "misuse": False}


def missing(cache: Path, monkeypatch: pytest.MonkeyPatch, builder: Builder) -> BundleRequest:
    """A request for a bundle that has to be built."""
    monkeypatch.setattr(selection, "Child", builder)
    monkeypatch.setattr(BundleCache, "checkpoint_digest", lambda _cache, _path: RECIPE.checkpoint)
    return BundleRequest(checkpoint=cache / "SwiftVR", cache=cache, clip_len=RECIPE.clip_len)


def test_a_missing_bundle_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Builder(BUILT, lambda _order: write_fake_bundle(BundleCache(tmp_path).path(RECIPE), RECIPE))
    wanted, lines = missing(tmp_path, monkeypatch, builder), list[str]()
    first = find_or_build_bundle(wanted, RECIPE.resolution, lines.append)
    assert find_or_build_bundle(wanted, RECIPE.resolution, lines.append).path == first.path
    assert lines == ["built it"]
    (order,) = builder.orders
    assert order == {
        "checkpoint": str(tmp_path / "SwiftVR"),
        "cache": str(tmp_path),
        "resolution": str(RECIPE.resolution),
        "clip_len": RECIPE.clip_len,
        "precision": "fp32",
        "target": "cpu",
    }


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ({"error": "no such checkpoint", "misuse": True}, MisuseError, "^no such checkpoint$"),
        ({"error": "out of memory", "misuse": False}, BuildError, "^out of memory$"),
        (None, BuildError, "the process that builds the bundle ended: exit code 3: last words"),
        (BUILT, BuildError, "was built but has disappeared"),
    ],
    ids=["misuse", "failure", "death", "nothing built"],
)
def test_a_build_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Message | None, kind: type[Exception], said: str
) -> None:
    wanted = missing(tmp_path, monkeypatch, Builder(answer))
    with pytest.raises(kind, match=said):
        find_or_build_bundle(wanted, RECIPE.resolution, print)


def test_a_bundle_that_is_not_there_names_the_ways_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="name a --bundle, or a --checkpoint to build one"):
        find_or_build_bundle(request(tmp_path), RECIPE.resolution, print)


def test_the_output_size_is_the_requested_one_the_bundles_or_twice_the_inputs(tmp_path: Path) -> None:
    bundle = write_fake_bundle(tmp_path / "bundle").path
    for wanted, size in (
        (BundleRequest(), Resolution(64, 46)),
        (BundleRequest(upscale=1.5), Resolution(48, 34)),
        (BundleRequest(upscale=0.1), Resolution(3, 2)),
        (BundleRequest(resolution="80x50"), Resolution(80, 50)),
        (BundleRequest(bundle=bundle), RECIPE.resolution),
        (BundleRequest(bundle=bundle, resolution=str(RECIPE.resolution)), RECIPE.resolution),
    ):
        assert output_size(wanted, 32, 23) == size
    with pytest.raises(MisuseError, match="restores to 100x60, but 80x50 was requested"):
        output_size(BundleRequest(bundle=bundle, resolution="80x50"), 32, 23)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bundle": Path("b"), "checkpoint": Path("c")}, "--bundle and --checkpoint"),
        ({"resolution": "8x8", "upscale": 2.0}, "--resolution and --upscale"),
        ({"upscale": 17.0}, "expected a factor from 0.1 to 16"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(MisuseError, match=said):
        BundleRequest(**options)
