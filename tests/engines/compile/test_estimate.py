"""A build that cannot work is refused before it starts; any other is described."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.compile.estimate import check_feasible, count_parameters, estimate
from swiftvr_trt.errors import CheckpointError, MachineError, MisuseError, OutputError

FULL = Recipe("c0" * 32, 1920, 1080, 24, "fp8", "rtx5090")
PUBLISHED = 4_999_787_712 + 40_900_000
PLENTY = 10**15


def check(recipe: Recipe, place: Path, *, memory: int | None = PLENTY, disk: int | None = PLENTY) -> None:
    expected = estimate(PUBLISHED, recipe)
    check_feasible(expected, recipe, place, available=lambda: memory, free_disk=lambda _: disk)


def test_the_published_model_is_expected_to_build_on_a_machine_of_24_gb() -> None:
    expected = estimate(PUBLISHED, FULL)
    assert expected.weight_bytes < 0.85 * PUBLISHED  # the others become constants (docs/rewrites.md)
    assert expected.memory_bytes < 18e9
    assert 5.7e9 < expected.gpu_bytes < 6.2e9  # the plan of the engines that were built says 5.85 GB
    assert expected.seconds < 20 * 60


def test_twice_the_bits_take_twice_the_weights() -> None:
    twice, once = (estimate(PUBLISHED, replace(FULL, precision=name)).weight_bytes for name in ("fp16", "fp8"))
    assert twice == pytest.approx(2 * once)


def test_a_build_that_fits_is_not_refused(tmp_path: Path) -> None:
    check(FULL, tmp_path)
    check(FULL, tmp_path, memory=None, disk=None)  # a system that does not tell is given the benefit of the doubt


def test_too_little_memory_is_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"take about 11\.13 GB of memory, 8\.00 GB are free; close other"):
        check(FULL, tmp_path, memory=8 * 10**9)


def test_too_little_disk_is_refused_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"bundle: the build would take about 9\.61 GB of disk, 1\.00 GB are free"):
        check(FULL, tmp_path / "bundle", disk=10**9)


def test_a_size_that_fits_no_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match=r"16384x16384 .* largest card of target rtx5090 has 96\.00 GB; choose"):
        check(replace(FULL, width=16384, height=16384), tmp_path)
    check(replace(FULL, width=7680, height=4320), tmp_path)


def test_parameters_are_counted_without_reading_the_weights(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    save_file({"a": np.zeros((3, 5), np.float32)}, tmp_path / "reae.safetensors")
    save_file({"b": np.zeros(7, np.float32), "c": np.zeros((), np.float32)}, tmp_path / "transformer" / "x.safetensors")
    save_file({"prompt_emb": np.zeros((1, 9, 9), np.float32)}, tmp_path / "prompt_embedding.safetensors")
    assert count_parameters(tmp_path) == 15 + 7 + 1


@pytest.mark.parametrize("content", [b"", b"\x02\0\0\0\0\0\0\0[]", b"\xff" * 16, b"\x09\0\0\0\0\0\0\0{"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "reae.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"reae.safetensors: not a safetensors file \(.*\); download"):
        count_parameters(tmp_path)
