"""Targets, their precisions, and the reasons to refuse a build."""

from __future__ import annotations

import pytest

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle import targets
from swiftvr_trt.engines.bundle.targets import (
    ONNX,
    PRECISIONS,
    TARGETS,
    Target,
    bundle_target,
    choose_target,
    find_target,
)

READY = [t for t in TARGETS if t.ready]


def test_the_names_are_those_of_the_contract() -> None:
    names = {t.name for t in TARGETS}
    assert names >= {"cpu", "cuda", "rtx5090", "rtx4090", "rtx3090", "h100", "local"}
    assert names.isdisjoint(other for t in TARGETS for other in t.also)


@pytest.mark.parametrize("known", TARGETS, ids=lambda t: t.name)
def test_a_target_is_found_by_its_name_and_has_known_precisions(known: Target) -> None:
    found = find_target(known.name)
    assert found is known
    assert set(found.precisions) <= set(PRECISIONS)
    assert found.precisions


@pytest.mark.parametrize(
    ("asked", "name"), [("rtx4070", "rtx4090"), ("RTX5090", "rtx5090"), ("sm86", "rtx3090"), ("a100", "sm80")]
)
def test_a_card_stands_for_its_series(asked: str, name: str) -> None:
    assert find_target(asked).name == name


def test_a_precision_that_a_card_lacks_is_refused_with_the_reason() -> None:
    """TensorRT-RTX 1.7.1 itself refuses each of these, but only after everything was traced."""
    for name, precision, why in (
        ("rtx3090", "fp8", "SM86 cannot compute in it"),
        ("rtx4090", "nvfp4", "SM89 cannot compute in it"),
        ("rtx2080", "bf16", "SM75 cannot compute in it"),
        ("rtx5090", "fp32", "no fused attention in FP32"),
    ):
        with pytest.raises(MisuseError, match=f"^precision {precision} .*{name} .*{why}.*; it takes: "):
            choose_target(name, precision)


@pytest.mark.parametrize("name", ["ONNX", "onnx"])
def test_onnx_is_a_target_that_is_found_but_not_offered(name: str) -> None:
    assert find_target(name) is ONNX
    assert choose_target(name, "fp8") is ONNX
    assert ONNX not in TARGETS
    with pytest.raises(MisuseError, match="is not known"):
        find_target(name, TARGETS)


def test_graphs_run_on_any_cpu_and_engines_on_their_gpu_only() -> None:
    assert {t.name for t in (ONNX, *TARGETS) if t.runs_on_cpu} == {"onnx", "cpu", "cuda"}
    assert {t.name for t in (ONNX, *TARGETS) if t.usual_device == "cpu"} == {"onnx", "cpu"}
    assert all(t.compiled is not t.runs_on_cpu for t in (ONNX, *TARGETS))


def test_every_target_names_the_command_that_builds_for_it() -> None:
    assert (ONNX.command, find_target("cpu").command) == ("onnx", "build-engine --target cpu")


def test_the_compute_capability_is_written_as_by_the_driver() -> None:
    words = {t.name: t.compute_capability for t in TARGETS}
    assert (words["rtx5090"], words["rtx4090"], words["local"]) == ("12.0", "8.9", None)


def test_an_unknown_target_is_refused_with_the_known_ones() -> None:
    with pytest.raises(MisuseError, match=r"target 'tpu' is not known, expected one of cpu, .*local$"):
        find_target("tpu")


def test_a_bundle_may_name_a_target_that_this_version_does_not_know() -> None:
    assert bundle_target("rtx4090") is find_target("rtx4090")
    later = bundle_target("rtx9090")
    assert (later.name, later.compiled, later.usual_device) == ("rtx9090", True, "cuda")
    assert later.command == "build-engine --target rtx9090"


def test_a_target_that_this_version_cannot_build_is_refused_with_the_ones_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = Target("abacus", "beads", "wood", "cpu", ("fp32",), ready=False)
    monkeypatch.setattr(targets, "TARGETS", (*TARGETS, waiting))
    names = ", ".join(t.name for t in READY)
    with pytest.raises(MisuseError, match=f"^target {waiting.name} .* cannot be built .*; it builds: {names}$"):
        choose_target(waiting.name, "fp32")


@pytest.mark.parametrize("ready", READY, ids=lambda t: t.name)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_ready_target_is_built_in_its_precisions_and_no_other(ready: Target, precision: str) -> None:
    chosen = find_target(ready.name)
    if precision in chosen.precisions:
        assert choose_target(chosen.name, precision) is chosen
    else:
        with pytest.raises(MisuseError, match=f"precision {precision} .* takes: {', '.join(chosen.precisions)}$"):
            choose_target(chosen.name, precision)
