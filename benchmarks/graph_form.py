"""The form of a graph in a word: its operators, their attributes, and the types and shapes that they take.

Names and values of weights are left out, so that it is the same for every checkpoint of these sizes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto

_VALUES_COUNT = TensorProto.INT64
"""Of whole numbers, the values belong to the form: they are shapes, axes and indices."""


def form_of(path: Path) -> str:
    """16 hexadecimal digits that change with the form of the graph in a file."""
    return digest(onnx.load(path, load_external_data=False).graph)


def digest(graph: GraphProto) -> str:
    """As `form_of`."""
    numbers: dict[str, int] = {"": 0}
    lines = [f"in {_typed(value)} {_number(value.name, numbers)}" for value in graph.input]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        lines += [_constant(constants.pop(name), numbers) for name in node.input if name in constants]
        lines.append(_node(node, numbers))
    lines += [f"out {_typed(value)} {_number(value.name, numbers)}" for value in graph.output]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _number(name: str, numbers: dict[str, int]) -> int:
    """Values are numbered as they appear."""
    return numbers.setdefault(name, len(numbers))


def _typed(value: ValueInfoProto) -> str:
    kind = value.type.tensor_type
    return f"{kind.elem_type} {[side.dim_param or side.dim_value for side in kind.shape.dim]}"


def _constant(tensor: TensorProto, numbers: dict[str, int]) -> str:
    return f"constant {_shape_of(tensor)} {_number(tensor.name, numbers)}"


def _node(node: NodeProto, numbers: dict[str, int]) -> str:
    read, written = ([_number(name, numbers) for name in names] for names in (node.input, node.output))
    attributes = sorted(f"{one.name}={_attribute(one)}" for one in node.attribute)
    return f"{node.domain}.{node.op_type} {read} {written} {' '.join(attributes)}"


def _attribute(one: AttributeProto) -> str:
    return _shape_of(one.t) if one.type == AttributeProto.TENSOR else repr(onnx.helper.get_attribute_value(one))


def _shape_of(tensor: TensorProto) -> str:
    is_part = tensor.data_type == _VALUES_COUNT and not tensor.external_data
    values = onnx.numpy_helper.to_array(tensor).ravel().tolist() if is_part else ""
    return f"{tensor.data_type} {list(tensor.dims)} {values}"
