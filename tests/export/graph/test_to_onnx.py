"""Graphs are dense and static, and share their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from swiftvr_trt.engines.bundle.manifest import STAGES, Role, StageSpec, TensorSpec
from swiftvr_trt.engines.bundle.pixel_formats import GIVES, TAKES
from swiftvr_trt.errors import BuildError
from swiftvr_trt.export.graph.stages import Stage
from swiftvr_trt.export.graph.to_onnx import (
    FORBIDDEN,
    OPSET,
    WEIGHTS,
    _reach,
    check_graph,
    open_weights,
    stage_to_onnx,
    write_stages,
)
from tests.conftest import BundleFactory


@pytest.mark.parametrize("stage", STAGES)
def test_graph_is_dense_static_and_maskless(mini_bundle: BundleFactory, stage: str) -> None:
    graph = onnx.load(mini_bundle().stage_path(stage), load_external_data=False).graph
    assert graph.node
    for node in graph.node:
        assert node.domain == "", f"{node.name} is a custom operator"
        assert node.op_type not in FORBIDDEN
        if node.op_type == "Attention":
            assert len(node.input) == 3, "a mask or a past is attached"
    free = {
        (value.name, side.dim_param)
        for value in (*graph.input, *graph.output)
        for side in value.type.tensor_type.shape.dim
        if not side.HasField("dim_value")
    }
    height = "half_height" if "yuv" in stage or stage in ("take_nv12", "take_p010") else "height"
    assert free == ({("frames", height), ("frames", "width")} if stage.startswith("take") else set())


@pytest.mark.parametrize("stage", STAGES)
def test_graph_passes_the_checker_and_names_no_path_of_this_machine(mini_bundle: BundleFactory, stage: str) -> None:
    path = mini_bundle().stage_path(stage)
    onnx.checker.check_model(path)
    model = onnx.load(path, load_external_data=False)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert b".py" not in model.SerializeToString()


def test_frames_are_uint8_at_both_ends_and_every_state_comes_back(mini_bundle: BundleFactory) -> None:
    manifest = mini_bundle().manifest
    encode, decode = manifest.stage("encode"), manifest.stage("decode")
    assert {manifest.stage(name).inputs[0].dtype for name in TAKES} == {"uint8"}
    assert {manifest.stage(name).outputs[0].dtype for name in GIVES} == {"uint8"}
    for stage in (encode, decode):
        assert [t.shape for t in stage.inputs[1:]] == [t.shape for t in stage.outputs[1:]]
        assert len(stage.inputs[1:]) == 9


def test_both_transformer_stages_share_their_weights(mini_bundle: BundleFactory) -> None:
    def places(stage: str) -> set[tuple[str, str]]:
        graph = onnx.load(mini_bundle().stage_path(stage), load_external_data=False).graph
        entries = [{e.key: e.value for e in t.external_data} for t in graph.initializer if t.external_data]
        assert all(entry["location"] == WEIGHTS for entry in entries)
        return {(entry["offset"], entry["length"]) for entry in entries}

    middle, edge = places("dit"), places("dit_edge")
    assert len(middle & edge) >= len(middle) - 2  # only the two RoPE tables depend on the number of latents


class _Masked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        bias = torch.zeros(x.shape[2], x.shape[2])
        return nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=bias)


class _Chooses(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.index_put((torch.tensor([0]),), x[1:2])


class _WorksOnBytes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.uint8).flip(0).float()


@pytest.mark.parametrize(
    ("module", "culprit"), [(_Masked(), "mask"), (_Chooses(), "Scatter"), (_WorksOnBytes(), "uint8")]
)
def test_a_graph_with_a_mask_or_a_scatter_or_inner_uint8_is_refused(module: nn.Module, culprit: str) -> None:
    stage = Stage("dit", module, (torch.zeros(2, 2, 4, 8),), (("x", Role.LATENTS),), (("y", Role.LATENTS),))
    with pytest.raises(BuildError, match=culprit):
        stage_to_onnx(stage)


def test_torch_reads_its_translations_once() -> None:
    """If a new torch keeps them elsewhere, building takes longer again."""
    from torch.onnx._internal.exporter import _registration

    stage_to_onnx(Stage("dit", nn.ReLU(), (torch.zeros(4),), (("x", Role.LATENTS),), (("y", Role.LATENTS),)))
    apis: Any = vars(_registration)["onnxscript_apis"]
    translations = apis.get_torchlib_ops()
    assert len(translations) > 100
    assert apis.get_torchlib_ops() is translations


def test_a_graph_with_a_symbolic_shape_is_refused() -> None:
    value = onnx_ir.val("x", dtype=onnx_ir.DataType.FLOAT, shape=[1, "batch"])
    model = onnx_ir.Model(onnx_ir.Graph([value], [value], nodes=[]), ir_version=10)
    stage = Stage("dit", nn.Identity(), (), (("x", Role.LATENTS),), (("x", Role.LATENTS),))
    with pytest.raises(BuildError, match="static"):
        check_graph(model, stage)


def test_a_tensor_is_stored_once_and_aligned(tmp_path: Path) -> None:
    first, other = np.arange(300, dtype=np.float32), np.full(5, 7, np.float32)
    with open_weights(tmp_path) as store:
        places = [store.put(onnx_ir.tensor(array, name=f"t{k}")) for k, array in enumerate((first, other, first))]
    assert places[0].offset == places[2].offset
    assert [place.name for place in places] == ["t0", "t1", "t2"]
    assert all(place.offset is not None and place.offset % 256 == 0 for place in places)
    assert (tmp_path / WEIGHTS).stat().st_size == 1280 + other.nbytes  # 1200 bytes, padded to a multiple of 256
    for place, array in zip(places, (first, other, first), strict=True):
        assert np.array_equal(place.numpy(), array)


def test_a_graph_for_two_lengths_is_described_as_two_stages(tmp_path: Path) -> None:
    ports = ((("x", Role.LATENTS),), (("y", Role.LATENTS),))
    stage = Stage("dit", nn.ReLU(), (torch.zeros(5, 2, 4, 8),), *ports, lengths={"dit": 4, "dit_edge": 5})
    written = list(write_stages([stage], tmp_path))
    assert [(entry.spec.name, entry.spec.file) for entry in written] == [("dit", "dit.onnx"), ("dit_edge", "dit.onnx")]
    assert [entry.spec.inputs[0].shape for entry in written] == [(4, 2, 4, 8), (5, 2, 4, 8)]
    assert {entry.nodes for entry in written} == {1}
    [given] = onnx.load(tmp_path / "dit.onnx").graph.input
    assert [side.dim_param or side.dim_value for side in given.type.tensor_type.shape.dim] == ["latents", 2, 4, 8]


def test_values_without_a_name_or_with_the_same_one_are_told_apart() -> None:
    """y0 = -x, y1 = -s0, through values that all have the same name until the graph is saved."""
    inner = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Neg", ["s0"], ["b"])]
    outer = [helper.make_node("Identity", ["a"], ["y0"]), helper.make_node("Identity", ["b"], ["y1"])]
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "s0", "s1", "y0", "y1")
    }
    graph = helper.make_graph(
        inner + outer, "g", [values[n] for n in ("x", "s0", "s1")], [values[n] for n in ("y0", "y1")]
    )
    ins = tuple(TensorSpec(name, "float32", (1,), Role.STATE_IN) for name in ("s0", "s1"))
    outs = tuple(TensorSpec(name, "float32", (1,), Role.STATE_OUT) for name in ("y0", "y1"))
    for name in (None, "same"):
        model = onnx_ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)]))
        for node in list(model.graph)[:2]:
            node.outputs[0].name = name
        assert _reach(model, StageSpec("encode", "encode.onnx", ins, outs)) == 2
