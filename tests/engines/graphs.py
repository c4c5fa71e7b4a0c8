"""Graphs that are small enough to count by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF, FP8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.FLOAT8E4M3FN
Sides = Sequence[int | str]


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sides],
    output: str,
    constants: Mapping[str, np.ndarray[Any, Any]] | None = None,
    *,
    dtype: int = FLOAT,
) -> onnx.ModelProto:
    """A model with inputs of the given shapes and one output, whose shape is inferred."""
    made = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, dtype, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(output, dtype, None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """One node, named after its output. inputs: names separated by blanks."""
    return helper.make_node(operator, inputs.split(), [output], name=output, **attributes)


def ones(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.ones(shape, dtype)


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write the model with the shape of its output filled in, as compilers require."""
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path
