"""Stages become engines: the shapes that the compiler gets, and what the bundle records."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.manifest import NETWORK_STAGES, Role, StageSpec, TensorSpec
from swiftvr_trt.engines.bundle.targets import find_target
from swiftvr_trt.engines.compile.compiler import Engine
from swiftvr_trt.engines.compile.engines import EngineOptions, _with_readable_log, build_engines, compile_job, profile
from swiftvr_trt.engines.compile.log import GEMM, parse_log
from swiftvr_trt.engines.compile.report import read_report
from tests.engines.fakes import RECIPE, fake_stages
from tests.engines.graphs import graph, node, ones, save

STAGES = {stage.name: stage for stage in fake_stages()}
ENCODE, DIT, EDGE, DECODE = (STAGES[name] for name in NETWORK_STAGES)
TAKE = STAGES["take_rgb24"]
SIZE = RECIPE.resolution
OPTIONS = EngineOptions(find_target("rtx5090"), SIZE)


def test_input_frames_have_any_size_up_to_that_of_the_output() -> None:
    small, usual, large = profile(TAKE, Resolution(100, 60))["frames"]
    assert (small, usual, large) == ((4, 16, 16, 3), (4, 30, 50, 3), (4, 60, 100, 3))
    assert profile(TAKE, Resolution(20, 20))["frames"][1] == (4, 16, 16, 3)


def test_planes_have_even_sides_and_their_colours_one_shape() -> None:
    shapes = profile(STAGES["take_p010"], Resolution(101, 61))
    assert shapes["frames"] == ((4, 3, 8, 16, 2), (4, 3, 15, 50, 2), (4, 3, 30, 100, 2))
    assert shapes["matrix"] == ((3, 3),) * 3


def test_other_inputs_have_one_shape() -> None:
    latents = (RECIPE.latents, 12, SIZE.latent_height, SIZE.latent_width)
    assert profile(DIT, SIZE) == {"latents": (latents,) * 3}
    assert set(profile(ENCODE, SIZE)["state_in_0"]) == {(1, 8, SIZE.latent_height, SIZE.latent_width)}


def test_a_static_graph_of_one_stage_needs_no_profile(tmp_path: Path) -> None:
    assert compile_job([DECODE], tmp_path, tmp_path, OPTIONS).profiles == ()
    assert len(compile_job([TAKE], tmp_path, tmp_path, OPTIONS).profiles) == 1
    assert len(compile_job([DIT, EDGE], tmp_path, tmp_path, OPTIONS).profiles) == 2


def test_the_compiler_is_told_the_card_unless_it_needs_the_gpu_itself(tmp_path: Path) -> None:
    assert compile_job([DECODE], tmp_path, tmp_path, OPTIONS).sm == "SM120"
    assert compile_job([DECODE], tmp_path, tmp_path, EngineOptions(find_target("h100"), SIZE)).sm is None


@pytest.mark.parametrize(
    ("log", "arenas", "weights"),
    [
        ("", (0, 0), 9),
        ("Total Activation Memory: 7 bytes\nTotal Weights Memory: 5 bytes\n", (0, 0), 5),
        ("Total Activation Memory: 7 bytes\nTotal Activation Memory: 8 bytes\n", (7, 8), 9),
        ("something else entirely\n", (0, 0), 9),
    ],
)
def test_a_log_that_does_not_read_as_expected_is_a_note(
    tmp_path: Path, log: str, arenas: tuple[int, ...], weights: int
) -> None:
    path = tmp_path / "dit.engine"
    path.write_bytes(b"x" * 9)
    lines: list[str] = []
    engine = _with_readable_log(Engine(path, parse_log(log), "1.9", 1.0, None, log), 2, lines.append)
    assert (engine.made.arena_bytes, engine.made.weight_bytes) == (arenas, weights)
    (line,) = lines
    assert line.startswith("note: the log of this compiler (1.9) does not read as expected")


def _stage(name: str, file: str, length: int) -> StageSpec:
    tensor = TensorSpec("x", "float32", (length, 16), Role.LATENTS)
    return StageSpec(name, file, (tensor,), (replace(tensor, name="y", shape=(length, 8)),))


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX")
def test_stages_that_share_a_graph_share_an_engine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="swiftvr_trt")
    graphs, bundle = tmp_path / "graphs", tmp_path / "bundle"
    graphs.mkdir()
    bundle.mkdir()
    product = [node("MatMul", "x w", "y")]
    save(graph(product, {"x": ("T", 16)}, "y", {"w": ones(16, 8)}), graphs / "dit.onnx")
    save(graph(product, {"x": (2, 16)}, "y", {"w": ones(16, 8)}), graphs / "decode.onnx")
    asked = (_stage("dit", "dit.onnx", 6), _stage("decode", "decode.onnx", 2), _stage("dit_edge", "dit.onnx", 7))
    lines: list[str] = []
    dit, decode, edge = build_engines(asked, graphs, bundle, OPTIONS, lines.append)
    assert [stage.file for stage in (dit, decode, edge)] == ["dit.engine", "decode.engine", "dit.engine"]
    assert [stage.profile for stage in (dit, decode, edge)] == [0, 0, 1]
    assert (dit.inputs, dit.outputs) == (asked[0].inputs, asked[0].outputs)
    assert dit.weight_bytes == edge.weight_bytes > 0
    assert sorted(path.name for path in bundle.iterdir()) == [
        "decode.engine",
        "decode.report.json",
        "dit.engine",
        "dit.report.json",
    ]
    report = read_report(bundle / "dit.report.json")
    assert [stage.name for stage in report.stages] == ["dit", "dit_edge"]
    assert [stage.total_flops for stage in report.stages] == [2 * 6 * 16 * 8, 2 * 7 * 16 * 8]
    assert [[k.flops for k in stage.kernels if k.kind == GEMM] for stage in report.stages] == [[1536], [1792]]
    assert report.engine_bytes == (bundle / "dit.engine").stat().st_size
    assert [line for line in lines if line[0] != " "] == [
        f"compiling part {i} of 2 for {OPTIONS.target.name}" for i in (1, 2)
    ]
    assert any(message.startswith("compiled dit: ") for message in caplog.messages)
