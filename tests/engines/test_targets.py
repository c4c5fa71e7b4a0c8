"""What can be built for what is known before anything is built."""

from __future__ import annotations

import pytest

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.manifest import PRECISIONS
from swiftvr_trt.engines.targets import TARGETS, Target, check_buildable, target

READY = [t for t in TARGETS if t.ready]


def test_the_names_are_those_of_the_contract() -> None:
    assert [t.name for t in TARGETS] == ["cpu", "cuda", "rtx5090", "rtx4090", "rtx3090", "h100", "local"]


@pytest.mark.parametrize("known", TARGETS, ids=lambda t: t.name)
def test_a_target_is_found_by_its_name_and_takes_known_precisions(known: Target) -> None:
    found = target(known.name)
    assert found is known
    assert set(found.precisions) <= set(PRECISIONS)
    assert "fp32" in found.precisions


def test_an_unknown_target_is_answered_with_the_known_ones() -> None:
    with pytest.raises(MisuseError, match=r"target 'tpu' is not known, expected one of cpu, .*local$"):
        target("tpu")


def test_a_target_that_this_version_cannot_build_is_refused_with_those_that_it_can() -> None:
    waiting = next(t for t in TARGETS if not t.ready)
    names = ", ".join(t.name for t in READY)
    with pytest.raises(MisuseError, match=f"^target {waiting.name} .* cannot be built .*; it builds: {names}$"):
        check_buildable(waiting.name, "fp32")


@pytest.mark.parametrize("ready", READY, ids=lambda t: t.name)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_ready_target_is_built_in_its_precisions_and_no_other(ready: Target, precision: str) -> None:
    chosen = target(ready.name)
    if precision in chosen.precisions:
        assert check_buildable(chosen.name, precision) is chosen
    else:
        with pytest.raises(MisuseError, match=f"precision {precision} .* takes: {', '.join(chosen.precisions)}$"):
            check_buildable(chosen.name, precision)
