"""Targets, their precisions, and the reasons to refuse a build."""

from __future__ import annotations

import pytest

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle import targets
from swiftvr_trt.engines.bundle.cards import CARDS, Card
from swiftvr_trt.engines.bundle.targets import (
    ONNX,
    PRECISIONS,
    TARGETS,
    Target,
    bundle_target,
    choose_autoencoder,
    choose_target,
    find_target,
)

READY = [t for t in TARGETS if t.ready]


def test_the_names_are_those_of_the_contract() -> None:
    names = {t.name for t in TARGETS}
    assert names >= {"cpu", "cuda", "rtx5090", "rtx4090", "rtx3090", "h100", "local"}
    assert len(names) == len(TARGETS)


@pytest.mark.parametrize("known", TARGETS, ids=lambda t: t.name)
def test_a_target_is_found_by_its_name_and_has_known_precisions(known: Target) -> None:
    found = find_target(known.name)
    assert found is known
    assert set(found.precisions) <= set(PRECISIONS)
    assert found.precisions


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("rtx4070", "rtx4090"),
        ("RTX5090", "rtx5090"),
        ("sm86", "rtx3090"),
        ("a100", "sm80"),
        (" SM120 ", "rtx5090"),
        ("RTX 4070 Ti", "rtx4090"),
        ("4060ti-16gb", "rtx4090"),
        ("a6000", "rtx3090"),
        ("T4", "rtx2080"),
        ("H200", "h100"),
        ("DGX Spark", "sm121"),
    ],
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
    with pytest.raises(MisuseError, match=r"target 'tpu' is not known, expected a card .* or one of cpu, .*local$"):
        find_target("tpu")
    with pytest.raises(MisuseError, match=r"target 'rtx407' is not known, did you mean rtx4070.*\?.* or one of cpu, "):
        find_target("rtx407")


def test_a_card_without_a_target_is_told_how_to_build_on_it() -> None:
    with pytest.raises(MisuseError, match=r"^there are no engines for the B200 \(SM100\) .*--target local$"):
        find_target("b200")


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_other_card_has_a_target_of_its_compute_capability(card: Card) -> None:
    if card.sm != "SM100":
        assert find_target(card.option).sm == find_target(card.name).sm == card.sm


@pytest.mark.parametrize("known", [ONNX, *TARGETS], ids=lambda t: t.name)
def test_the_usual_precision_is_one_that_the_target_takes(known: Target) -> None:
    assert choose_target(known.name, known.usual_precision) is known


def test_the_usual_precision_suits_the_gpu() -> None:
    usual = {t.name: t.usual_precision for t in (ONNX, *TARGETS)}
    assert {usual[name] for name in ("rtx5090", "rtx4090", "h100", "sm121")} == {"fp8"}
    assert {usual[name] for name in ("rtx3090", "rtx2080", "sm80", "cuda", "local")} == {"fp16"}
    assert (usual["cpu"], usual["onnx"]) == ("fp32", "fp32")


@pytest.mark.parametrize(
    ("target", "precision", "wanted", "chosen"),
    [
        ("rtx5090", "fp8", None, "int8"),
        ("rtx5090", "int8", None, "int8"),
        ("rtx5090", "nvfp4", None, "int8"),
        ("rtx3090", "int8", None, "int8"),
        ("rtx2080", "int8", None, None),  # slower there than FP16
        ("rtx2080", "int8", "int8", "int8"),
        ("h100", "fp8", None, "int8"),
        ("local", "int8", None, "int8"),
        ("rtx5090", "fp16", None, None),
        ("rtx5090", "bf16", None, None),
        ("cpu", "fp32", None, None),
        ("cuda", "fp16", None, None),
        ("onnx", "fp8", None, None),  # engines are what the default was measured for
        ("rtx5090", "fp8", "fp16", None),
        ("rtx5090", "fp16", "fp16", None),
        ("rtx5090", "fp16", "int8", "int8"),
        ("rtx3090", "bf16", "int8", "int8"),
        ("onnx", "fp8", "int8", "int8"),
    ],
)
def test_the_autoencoder(target: str, precision: str, wanted: str | None, chosen: str | None) -> None:
    assert choose_autoencoder(find_target(target), precision, wanted) == chosen


@pytest.mark.parametrize(
    ("target", "precision", "wanted", "why"),
    [
        ("cpu", "fp32", "int8", "not available for target cpu"),
        ("cuda", "fp16", "int8", "not available for target cuda"),
        ("onnx", "fp32", "int8", "not available for precision fp32"),
        ("cpu", "fp32", "fp16", "precision fp32 has an autoencoder in fp32"),
        ("rtx5090", "bf16", "fp16", "precision bf16 has an autoencoder in bf16"),
    ],
)
def test_an_autoencoder_that_cannot_be_is_refused(target: str, precision: str, wanted: str, why: str) -> None:
    with pytest.raises(MisuseError, match=why):
        choose_autoencoder(find_target(target), precision, wanted)


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
