"""Graphs of engines on the CPU: that they compute in bfloat16, and what the torch stage computes."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from swiftvr_trt.benchmarks.engine_graphs import compute_in_float32
from swiftvr_trt.engines.bundle.graph import vet_graph
from swiftvr_trt.engines.bundle.manifest import Role
from swiftvr_trt.export.graph.stages import Stage
from swiftvr_trt.export.graph.to_onnx import write_stages
from tests.export.graph.test_dit_stage import narrow_stage


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_every_result_is_rounded_to_bfloat16(tmp_path: Path) -> None:
    """(x * y) * y, and that with its halves exchanged: two roundings, and none for a move."""
    cast = [helper.make_node("Cast", [name], [f"{name}_16"], to=TensorProto.BFLOAT16) for name in ("x", "y")]
    nodes = [
        *cast,
        helper.make_node("Mul", ["x_16", "y_16"], ["once"]),
        helper.make_node("Mul", ["once", "y_16"], ["twice"]),
        helper.make_node("Concat", ["twice", "once"], ["both"], axis=0),
        helper.make_node("Cast", ["both"], ["out"], to=TensorProto.FLOAT),
    ]
    wide = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [64]) for name in ("x", "y")]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [128])
    graph = helper.make_graph(nodes, "graph", wide, [out])
    for name, size in (("x_16", 64), ("y_16", 64), ("once", 64), ("twice", 64), ("both", 128)):
        graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.BFLOAT16, [size]))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), tmp_path / "g.onnx")
    compute_in_float32(tmp_path / "g.onnx")
    x, y = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    (found,) = session(tmp_path / "g.onnx").run(None, {"x": x.numpy(), "y": y.numpy()})
    once = x.bfloat16() * y.bfloat16()
    assert torch.equal(torch.from_numpy(found), torch.cat([once * y.bfloat16(), once]).float())


@pytest.mark.parametrize("precision", ["fp8 on 12.0", "int8 on 8.6"])
def test_the_graph_of_an_engine_computes_what_its_stage_does(precision: str, tmp_path: Path) -> None:
    """GPUs of 8.6 have no FP8, so attention in bfloat16 is among it."""
    torch.manual_seed(3)
    stage, z = narrow_stage(precision, ())
    names = (("latents", Role.LATENTS),), (("restored", Role.LATENTS),)
    list(write_stages([Stage("dit", stage, (z,), *names)], tmp_path))
    written = onnx.load(tmp_path / "dit.onnx", load_external_data=False).graph
    assert any(value.type.tensor_type.elem_type == TensorProto.BFLOAT16 for value in written.value_info)
    compute_in_float32(tmp_path / "dit.onnx")
    vet_graph(tmp_path / "dit.onnx", {path.name: path.stat().st_size for path in tmp_path.iterdir()})
    (restored,) = session(tmp_path / "dit.onnx").run(None, {"latents": z.numpy()})
    with torch.no_grad():
        expected = stage(z)
    difference = (torch.from_numpy(restored) - expected).square().mean().sqrt()
    assert float(difference) < 0.02 * float((expected - z).square().mean().sqrt())
