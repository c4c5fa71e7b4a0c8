"""The kernels of the compiled blocks stand for those of all blocks."""

from __future__ import annotations

from collections import Counter

from benchmarks.card_facts import SIZES, TARGETS, pack_kernels
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.targets import choose_target


def test_every_combination_can_be_built() -> None:
    for precision, targets in TARGETS.items():
        assert all(choose_target(name, precision).compiled for name in targets)
    assert all(str(Resolution.parse(size)) == size for size in SIZES)


def test_kernels_are_kept_with_their_count() -> None:
    kernels = Counter({("Half", 10, 20): 3, ("FP8", 1, 2): 30})
    assert pack_kernels(kernels) == [["FP8", 1, 2, 30], ["Half", 10, 20, 3]]
