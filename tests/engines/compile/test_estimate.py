"""A build that cannot work is refused before it starts; any other is described."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt.engines.bundle.card_names import find_card
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.compile.estimate import check_feasible, estimate
from swiftvr_trt.errors import MachineError, MisuseError, OutputError

FULL = Recipe("c0" * 32, 1920, 1080, 24, "fp8", "rtx5090")
PUBLISHED = 4_999_787_712 + 40_900_000
PLENTY = 10**15


IDLE_TOOL = 0.4e9  # what the tool takes while the compiler runs
MEASURED = sorted((Path(__file__).parents[3] / "benchmarks" / "results").glob("build-*.json"))


def check(
    recipe: Recipe, place: Path, *, card: str = "", memory: int | None = PLENTY, disk: int | None = PLENTY
) -> None:
    expected = estimate(PUBLISHED, recipe)
    check_feasible(expected, recipe, place, card=find_card(card), available=lambda: memory, free_disk=lambda _: disk)


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
    largest = (
        r"16384x16384 .* in fp8, the largest card of target rtx5090, the RTX PRO 6000, has 96 GB; or choose a smaller"
    )
    with pytest.raises(MisuseError, match=largest):
        check(replace(FULL, width=16384, height=16384), tmp_path)
    check(replace(FULL, width=7680, height=4320), tmp_path)


def test_a_bundle_is_refused_by_the_memory_of_the_card_that_is_named(tmp_path: Path) -> None:
    """4K in fp8 takes about 11 GB: too much for a card of 8 GB, whatever other cards of its series have."""
    large = replace(FULL, width=3840, height=2160, target="rtx3090", precision="fp16")
    with pytest.raises(
        MisuseError, match=r"3840x2160 .* of GPU memory in fp16, the RTX 3060 has 12 GB; name the card .*"
    ):
        check(large, tmp_path, card="rtx3060")
    check(large, tmp_path, card="rtx3090")
    check(replace(FULL, target="rtx4090"), tmp_path, card="rtx4060 laptop")
    with pytest.raises(
        MisuseError, match=r"the RTX 4050 Laptop has 6 GB; .* e\.g\. --target rtx\S+; or choose a smaller"
    ):
        check(replace(FULL, width=2560, height=1440, target="rtx4090"), tmp_path, card="4050")


@pytest.mark.parametrize(
    ("target", "card", "precision", "size", "advice"),
    [
        ("rtx3090", "rtx3070", "fp16", (1920, 1080), "--precision int8, which needs about 5.91 GB, or a smaller"),
        ("rtx5090", "rtx5060", "fp16", (2560, 1440), "--precision fp8, which needs about 7.26 GB, or a smaller"),
        ("rtx5090", "rtx5050laptop", "fp8", (2880, 1620), "--precision nvfp4, which needs about 6.35 GB, or a smaller"),
        ("rtx3090", "rtx3050-6gb", "int8", (3840, 2160), "a smaller --resolution, --clip-len or --precision"),
    ],
)
def test_a_card_without_enough_memory_is_told_which_precision_fits(
    tmp_path: Path, target: str, card: str, precision: str, size: tuple[int, int], advice: str
) -> None:
    recipe = replace(FULL, target=target, precision=precision, width=size[0], height=size[1])
    with pytest.raises(MisuseError, match=re.escape(f"; or choose {advice}")):
        check(recipe, tmp_path, card=card)


@pytest.mark.parametrize("file", MEASURED, ids=lambda file: file.stem)
def test_estimates_are_near_the_measured_builds(file: Path) -> None:
    """Memory within a factor of 1.5. Time, too, if the machine was idle; else no less than its cores' work allows."""
    build = json.loads(file.read_text(encoding="utf-8"))
    recipe, measured = Recipe(**{**build["recipe"], "without": ()}), build["measured"]
    expected = estimate(build["parameters"], recipe)
    if measured["weight_bytes"] is not None:
        assert 1 / 1.5 < expected.weight_bytes / measured["weight_bytes"] < 1.5
    peak = max(measured["tool_peak_bytes"], measured["compiler_peak_bytes"] + IDLE_TOOL)
    assert 1 / 1.5 < expected.resident_bytes / peak < 1.5
    assert expected.memory_bytes > measured["compiler_peak_bytes"]
    assert expected.disk_bytes > measured["bundle_bytes"]
    idle = measured["cpu_seconds"] is None or measured["cpu_seconds"] > build["cores"] * measured["seconds"] * 0.7
    if idle:
        assert 1 / 1.5 < expected.seconds / measured["seconds"] < 1.5
    else:
        assert measured["cpu_seconds"] / build["cores"] / 1.5 < expected.seconds < measured["seconds"] * 1.5


def test_a_full_size_build_was_measured() -> None:
    assert any(json.loads(file.read_text(encoding="utf-8"))["parameters"] > 5e9 for file in MEASURED)


def test_the_estimate_is_said_as_a_range_with_the_card() -> None:
    said = estimate(PUBLISHED, FULL).describe(find_card("rtx5070"))
    assert re.fullmatch(
        r"estimate: \d+ to \d+ min on 2 idle cores, 11\.13 GB of memory \(fastest with 1\d\.\d\d GB\), \S+ GB of disk; "
        r"will need 5\.\d\d GB of the 12 GB of an RTX 5070",
        said,
    )
    low, high = map(int, re.findall(r"(\d+) to (\d+) min", said)[0])
    assert low <= 8 <= high  # as measured (docs/engines.md)
