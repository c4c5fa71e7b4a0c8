"""The bundle for a request: from the cache, or built by another process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from swiftvr_trt import MisuseError
from swiftvr_trt.child import Message
from swiftvr_trt.engines.bundle.auto import Host
from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.errors import BuildError, DownloadError
from swiftvr_trt.installing import PACKAGES
from swiftvr_trt.runtime.restore import selection
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest, output_size
from swiftvr_trt.runtime.restore.selection import find_and_name_bundle, find_or_build_bundle
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


@pytest.mark.skipif(sys.platform == "win32", reason="files have no such permissions")
def test_a_bundle_that_others_can_have_changed_is_used_with_a_warning(tmp_path: Path) -> None:
    bundle = stored(tmp_path / "cache", "a", seconds=1)
    for mode, warnings in ((0o755, 0), (0o777, 1)):
        (tmp_path / "cache").chmod(mode)
        display = Mock()
        asked = request(tmp_path / "cache")
        assert find_and_name_bundle(asked, RECIPE.resolution, display).path == bundle.path
        assert display.warn.call_count == warnings
    assert f"everyone can write {tmp_path / 'cache'}; choose a folder" in display.warn.call_args.args[0]
    display = Mock()
    find_and_name_bundle(BundleRequest(bundle=bundle.path), RECIPE.resolution, display)
    assert not display.warn.called


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

    def ask(
        self, order: Message, say: Callable[[str], None], _detail: Callable[[str], None] | None = None
    ) -> Message | None:
        self.orders.append(order)
        self.build(order)
        say("built it")
        return self.answer

    def ending(self, _patience_s: float) -> str:
        return "exit code 3: last words"


BUILT: Message = {"error": None, "misuse": False}


def missing(cache: Path, monkeypatch: pytest.MonkeyPatch, builder: Builder) -> BundleRequest:
    """A request for a bundle that has to be built."""
    (cache / "SwiftVR").mkdir()
    monkeypatch.setattr(selection, "Child", builder)
    monkeypatch.setattr(BundleCache, "checkpoint_digest", lambda _cache, _path: RECIPE.checkpoint)
    return BundleRequest(checkpoint=cache / "SwiftVR", cache=cache, clip_len=RECIPE.clip_len, target="cpu")


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
        "precision": None,
        "target": "cpu",
        "gpu": 0,
    }


RTX4090 = Host("RTX 4090", "", "8.9", None, frozenset(PACKAGES))
ENGINES = replace(RECIPE, precision="fp8", target="rtx4090")
GRAPHS = replace(RECIPE, precision="fp16", target="cuda")


def test_auto_builds_for_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Builder(BUILT, lambda _order: write_fake_bundle(BundleCache(tmp_path).path(ENGINES), ENGINES))
    wanted = replace(missing(tmp_path, monkeypatch, builder), target="auto", host=RTX4090)
    lines = list[str]()
    assert find_or_build_bundle(wanted, RECIPE.resolution, lines.append).manifest.recipe == ENGINES
    assert lines == ["TensorRT-RTX engines (target rtx4090) in fp8 on the RTX 4090", "built it"]
    assert [(order["target"], order["precision"]) for order in builder.orders] == [("rtx4090", "fp8")]


def test_engines_are_built_for_the_gpu_that_restores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Builder({"error": "no room", "misuse": False})
    wanted = replace(missing(tmp_path, monkeypatch, builder), target="local", gpu=2)
    with pytest.raises(BuildError):
        find_or_build_bundle(wanted, RECIPE.resolution, print)
    assert [order["gpu"] for order in builder.orders] == [2]


def test_auto_builds_graphs_where_engines_cannot_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(order: Message) -> None:
        if order["target"] != "cuda":
            raise BuildError("the compiler gave up")
        write_fake_bundle(BundleCache(tmp_path).path(GRAPHS), GRAPHS)

    builder, lines = Builder(BUILT, build), list[str]()
    wanted = replace(missing(tmp_path, monkeypatch, builder), target="auto", host=RTX4090)
    assert find_or_build_bundle(wanted, RECIPE.resolution, lines.append).manifest.recipe == GRAPHS
    assert lines == [
        "TensorRT-RTX engines (target rtx4090) in fp8 on the RTX 4090",
        "this bundle cannot be built: the compiler gave up",
        "TensorRT engines (target local) in fp8 on the RTX 4090",
        "this bundle cannot be built: the compiler gave up",
        "ONNX Runtime in fp16 on the RTX 4090",
        "built it",
    ]


def test_auto_gives_up_when_nothing_can_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Builder({"error": "no room", "misuse": False})
    wanted = replace(missing(tmp_path, monkeypatch, builder), target="auto", host=RTX4090)
    with pytest.raises(BuildError, match=r"^no room$"):
        find_or_build_bundle(wanted, RECIPE.resolution, print)
    assert [order["target"] for order in builder.orders] == ["rtx4090", "local", "cuda", "cpu"]


def test_auto_finds_the_best_bundle_that_is_there(tmp_path: Path) -> None:
    wanted = BundleRequest(cache=tmp_path, clip_len=RECIPE.clip_len, host=RTX4090)
    for recipe in (RECIPE, GRAPHS, ENGINES):
        stored_path = BundleCache(tmp_path).path(recipe)
        write_fake_bundle(stored_path, recipe)
        assert find_or_build_bundle(wanted, RECIPE.resolution, print).path == stored_path


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


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ({"path": None, "error": "no such revision", "misuse": True}, MisuseError, "^no such revision$"),
        ({"path": None, "error": "no network", "misuse": False}, DownloadError, "^no network$"),
        (None, DownloadError, "the process that downloads the checkpoint ended: exit code 3: last words"),
    ],
    ids=["misuse", "failure", "death"],
)
def test_a_download_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Message | None, kind: type[Exception], said: str
) -> None:
    downloader = Builder(answer)
    wanted = replace(missing(tmp_path, monkeypatch, downloader), checkpoint="hf:someone/SwiftVR@v1")
    with pytest.raises(kind, match=said):
        find_or_build_bundle(wanted, RECIPE.resolution, print)
    assert downloader.orders == [{"checkpoint": "hf:someone/SwiftVR@v1"}]


def test_a_bundle_that_is_not_there_names_the_ways_to_get_one(tmp_path: Path) -> None:
    said = (
        f"^no model was named, and the cache has none for {RECIPE.resolution},.*; name a --checkpoint, .* a --bundle$"
    )
    with pytest.raises(MisuseError, match=said):
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
    for in_tiles in (True, False):  # a live run has none
        with pytest.raises(MisuseError, match="restores to 100x60, but 80x50 was requested") as caught:
            output_size(BundleRequest(bundle=bundle, resolution="80x50"), 32, 23, in_tiles=in_tiles)
        assert ("--tile" in str(caught.value)) == in_tiles


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
