"""Graphs as engines get them, made to run on the CPU, where ONNX Runtime has no arithmetic in bfloat16.

Each operator then computes in float32 what it is given in bfloat16, and its result is rounded to bfloat16. That is what
a kernel with float32 sums does if it writes each result to memory; kernels that fuse operators round less often.
"""

from __future__ import annotations

import dataclasses
from collections.abc import MutableSequence
from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper

from swiftvr_trt.engines.bundle.calibration import CALIBRATION_FILE, Calibration
from swiftvr_trt.engines.bundle.files import Bundle, BundleWriter
from swiftvr_trt.engines.bundle.manifest import Recipe, Toolchain
from swiftvr_trt.export.graph.stages import stages_of
from swiftvr_trt.export.graph.to_onnx import write_network
from swiftvr_trt.export.network.checkpoint import Checkpoint
from swiftvr_trt.installing import tool_version

_BF16, _F32 = TensorProto.BFLOAT16, TensorProto.FLOAT
MOVES = frozenset({"Cast", "Concat", "Gather", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that ONNX Runtime runs in bfloat16 on the CPU: they only move values."""


def write_engine_graphs(
    checkpoint: Checkpoint, recipe: Recipe, path: Path, capability: str, calibration: Calibration | None = None
) -> Bundle:
    """A bundle for the CPU whose graphs compute as the engines of `recipe` do on a GPU of this compute capability."""
    scales = (calibration.largest, calibration.int8) if calibration else ()
    with BundleWriter(path) as writer:
        network = stages_of(checkpoint, recipe, *scales, capability=capability)
        stages = tuple(stage.spec for stage in write_network(network, recipe, writer.directory))
        for name in {stage.file for stage in stages}:
            compute_in_float32(writer.directory / name)
        if calibration is not None:
            (writer.directory / CALIBRATION_FILE).write_text(calibration.to_json(), encoding="utf-8")
        on_cpu = dataclasses.replace(recipe, target="onnx")
        return writer.commit(on_cpu, Toolchain(f"swiftvr-trt {tool_version()}", "benchmark", ""), stages)


def compute_in_float32(path: Path) -> None:
    """Rewrite a graph file so that no operator of it computes in bfloat16. Inputs, outputs and weights stay."""
    model = onnx.load(path, load_external_data=False)
    graph, values = model.graph, _Values(model.graph)
    nodes = []
    for node in graph.node:
        if node.op_type in MOVES:
            nodes.append(node)
        else:
            before, after = values.widen(node.input, _READ), values.widen(node.output, _WRITTEN)
            nodes += [*before, node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)


_READ, _WRITTEN = "read", "written"


class _Values:
    """The tensors in bfloat16, and those in float32 that take their place."""

    def __init__(self, graph: GraphProto) -> None:
        self.graph, self.known = graph, set[str]()
        narrow = [(tensor.name, tensor.dims) for tensor in graph.initializer if tensor.data_type == _BF16]
        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type
            if kind.elem_type == _BF16:
                narrow.append((value.name, [side.dim_value for side in kind.shape.dim]))
        self.shapes = dict(narrow)

    def widen(self, names: MutableSequence[str], use: str) -> list[NodeProto]:
        """Put a tensor in float32 into the place of each in bfloat16; returns the casts between the two.

        What is read is the value in bfloat16; what is written becomes it, rounded.
        """
        casts = []
        for index, name in enumerate(names):
            if name not in self.shapes:
                continue
            names[index] = wide = f"{name}/{use}"
            if wide not in self.known:
                self.known.add(wide)
                self.graph.value_info.append(helper.make_tensor_value_info(wide, _F32, self.shapes[name]))
                ends = (name, wide, _F32) if use == _READ else (wide, name, _BF16)
                casts.append(helper.make_node("Cast", [ends[0]], [ends[1]], to=ends[2]))
        return casts
