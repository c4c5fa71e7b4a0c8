"""The bundle that a run would use: found, to be built, or to be downloaded first; nothing is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from swiftvr_trt import Bundle
from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.runtime.restore import selection
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.expected_bundle import BundleToBuild, expect_bundle
from swiftvr_trt.runtime.restore.selection import find_or_build_bundle
from tests.conftest import BundleFactory
from tests.hub_server import REPOSITORY, serve_hub

SIZE = Resolution(48, 32)


def expect(**request: object) -> Bundle | BundleToBuild:
    return expect_bundle(BundleRequest(**request), SIZE, lambda _line: None)  # type: ignore[arg-type]


def test_before_the_build_it_is_to_be_built_and_after_it_is_there(
    mini_checkpoint: Path, mini_bundle: BundleFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that builds only copies the bundle that it would write."""
    ready = mini_bundle(SIZE.width, SIZE.height, 4)

    def copy(path: Path) -> Bundle:
        return Bundle.open(shutil.copytree(ready.path, path))

    def build(*_: object) -> None:
        BundleCache(tmp_path / "cache").get_or_build(ready.manifest.recipe, copy)

    monkeypatch.setattr(selection, "delegate", build)
    asked = {"checkpoint": mini_checkpoint, "clip_len": 4, "target": "onnx", "cache": tmp_path / "cache"}
    assert isinstance(expect(**asked), BundleToBuild)
    assert not (tmp_path / "cache").exists()
    built = find_or_build_bundle(BundleRequest(**asked), SIZE, lambda _line: None)  # type: ignore[arg-type]
    (tmp_path / "cache" / "digests.json").unlink()
    found = expect(**asked)
    assert isinstance(found, Bundle)
    assert found.path == built.path
    assert not (tmp_path / "cache" / "digests.json").exists()
    assert isinstance(expect(**{**asked, "clip_len": 8}), BundleToBuild)


def test_a_checkpoint_on_the_hub_is_described_and_not_downloaded(
    mini_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_hub(mini_checkpoint) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        found = expect(checkpoint=f"hf:{REPOSITORY}", cache=tmp_path / "cache")
    assert isinstance(found, BundleToBuild)
    assert found.download is not None
    assert f"from hf:{REPOSITORY} at" in found.download
    assert found.estimate is None
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
