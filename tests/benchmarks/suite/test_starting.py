"""Starts: cold ones find nothing that an earlier run has kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt import Bundle
from swiftvr_trt.benchmarks.suite.starting import measure_build, measure_startup
from swiftvr_trt.export import build as build_module

from .lab import order_for, trial_bundle


def test_the_first_start_is_cold_and_the_next_is_not(tmp_path: Path) -> None:
    order = replace(order_for(trial_bundle(), tmp_path, "startup"), began=time.time() - 5)
    cold = {figure.name: figure.value for figure in measure_startup(order).figures}
    (place,) = tmp_path.glob("startup-*")
    kept = place.with_name(f"{place.name}.0123abcd.kernels")
    kept.touch()  # as a GPU leaves there
    warm = {figure.name: figure.value for figure in measure_startup(replace(order, first=False)).figures}
    assert kept.exists()
    assert set(cold) == {"cold_start"}
    assert set(warm) == {"warm_start", "load"}
    assert cold["cold_start"] > 5
    assert warm["warm_start"] > 5 + warm["load"]
    measure_startup(order)
    assert not kept.exists()


def test_bundles_that_take_turns_start_from_places_of_their_own(tmp_path: Path) -> None:
    order = replace(order_for(trial_bundle(), tmp_path, "startup"), began=time.time())
    other = shutil.copytree(order.bundle, tmp_path / "other")
    for bundle in (order.bundle, str(other)):
        measure_startup(replace(order, bundle=bundle))
    first, second = tmp_path.glob("startup-*")
    assert (first / "manifest.json").exists()
    assert (second / "manifest.json").exists()


def test_a_build_is_timed_and_weighed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build itself, which takes half a minute, is that of `export/build.py` and is tested there."""

    def build(options: build_module.BuildOptions, _report: object) -> Iterator[Bundle]:
        assert str(options.resolutions[0]) == "96x64"
        assert options.output == tmp_path / "built"
        shutil.copytree(trial_bundle().path, options.output)
        yield Bundle.open(options.output)

    monkeypatch.setattr(build_module, "build_bundles", build)
    order = replace(order_for(trial_bundle(), tmp_path, "build", checkpoint=tmp_path), bundle=str(tmp_path / "built"))
    order = replace(order, subject=replace(order.subject, target="cpu"))
    figures = {figure.name: figure.value for figure in measure_build(order).figures}
    assert figures["build_s"] > 0
    assert figures["bundle_bytes"] == sum(file.size for file in trial_bundle().manifest.files)
    assert figures["build_rss_bytes"] > figures["bundle_bytes"]
