"""Counts the floating-point operations of an ONNX graph, node by node, from its shapes alone.

Only operators that multiply matrices count. A multiplication and an addition are two operations:

    MatMul, Gemm            2 M N K per product
    Conv                    2 x outputs x (input channels / groups) x kernel positions
    ConvTranspose           2 x inputs x (output channels / groups) x kernel positions
    Attention               2 B H Nq Nk (Dqk + Dv)
    Einsum                  2 x product of all index sizes

Elementwise work, norms, softmax and resizing do not count: on a GPU they cost memory traffic, not arithmetic.
The precision of a node is that of its narrowest matrix operand before DequantizeLinear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import BuildError, cannot_import
from ..bundle.manifest import Shape

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_BITS = {"fp4": 4, "fp8": 8, "int8": 8, "fp16": 16, "bf16": 16, "fp32": 32, "fp64": 64}
_TO_FP4 = "TRT_FP4DynamicQuantize"
_THROUGH = frozenset({"Cast", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class NodeCount:
    """Operations of one node. precision: of its operands, e.g. `fp16`."""

    node: str
    operator: str
    precision: str
    flops: int


@dataclass(frozen=True)
class GraphCount:
    """The counts of a graph. attentions: attention computations in it, as one operator or spelled out."""

    nodes: tuple[NodeCount, ...]
    attentions: int

    @property
    def flops(self) -> int:
        return sum(count.flops for count in self.nodes)

    def by_precision(self) -> dict[str, int]:
        """Operations in each precision."""
        totals: dict[str, int] = {}
        for count in self.nodes:
            totals[count.precision] = totals.get(count.precision, 0) + count.flops
        return dict(sorted(totals.items()))


def count_file(path: Path, shapes: Mapping[str, Shape] | None = None) -> GraphCount:
    """Count the graph in a file, without reading its weights. shapes: of inputs that have free sides."""
    try:
        import onnx
    except ImportError as error:
        raise cannot_import(error, "onnx", "counting the operations of a graph", "export") from error
    return count(onnx.load(path, load_external_data=False), shapes or {})


def count(model: ModelProto, shapes: Mapping[str, Shape]) -> GraphCount:
    """Count a graph in memory. Raises `BuildError` if a shape that matters is unknown."""
    graph = _Graph(model, shapes)
    counts = []
    for node in model.graph.node:
        rule = _RULES.get(node.op_type)
        if rule is not None:
            counts.append(NodeCount(node.name, node.op_type, graph.precision(node), rule(graph, node)))
    return GraphCount(tuple(counts), sum(graph.is_attention(node) for node in model.graph.node))


class _Graph:
    """A graph with the inferred type and shape of every value."""

    def __init__(self, model: ModelProto, shapes: Mapping[str, Shape]) -> None:
        self._types, self._shapes = _infer(model, shapes)
        self._constants = {tensor.name for tensor in model.graph.initializer}
        self._made_by = {name: node for node in model.graph.node for name in node.output}
        self._used_by: dict[str, list[Any]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._used_by.setdefault(name, []).append(node)

    def shape(self, name: str) -> Shape:
        try:
            return self._shapes[name]
        except KeyError:
            raise BuildError(f"the shape of {name} is not known; no operations can be counted") from None

    def precision(self, node: NodeProto) -> str:
        """Precision of the narrower of the first two operands, before it was dequantized."""
        widths = [self._source_type(name) for name in node.input[:2]]
        return min(widths, key=lambda precision: _BITS.get(precision, 64))

    def _source_type(self, name: str) -> str:
        """Type of the value before it was dequantized; its own if it was not."""
        source, made = name, self._made_by.get(name)
        while made is not None and made.op_type in _THROUGH - {"QuantizeLinear"}:
            source = made.input[0]
            if made.op_type == "DequantizeLinear":
                return self._types.get(source, "unknown")
            made = self._made_by.get(source)
        return self._types.get(name, "unknown")

    def is_attention(self, node: NodeProto) -> bool:
        """An Attention operator, or a Softmax between two products of activations."""
        if node.op_type == "Attention":
            return True
        return node.op_type == "Softmax" and self._after_product(node) and self._before_product(node)

    def _after_product(self, node: NodeProto) -> bool:
        made = self._made_by.get(node.input[0])
        while made is not None and made.op_type in _THROUGH | {"Mul", "Div", "Add"}:
            made = self._made_by.get(made.input[0])
        return made is not None and self._multiplies_activations(made)

    def _before_product(self, node: NodeProto) -> bool:
        users = self._used_by.get(node.output[0], [])
        while len(users) == 1 and users[0].op_type in _THROUGH:
            users = self._used_by.get(users[0].output[0], [])
        return any(self._multiplies_activations(user) for user in users)

    def _multiplies_activations(self, node: NodeProto) -> bool:
        return node.op_type == "MatMul" and not any(self._is_constant(name) for name in node.input)

    def _is_constant(self, name: str) -> bool:
        while name in self._made_by and self._made_by[name].op_type in _THROUGH:
            name = self._made_by[name].input[0]
        return name in self._constants


def _infer(model: ModelProto, shapes: Mapping[str, Shape]) -> tuple[dict[str, str], dict[str, Shape]]:
    """Type and shape of every value of the graph."""
    from onnx import TensorProto, shape_inference

    fixed = type(model)()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dim, side in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            dim.dim_value = side
    del fixed.graph.value_info[:]  # the exporter's notes may hold the symbols that were just replaced
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    for node in fixed.graph.node:
        if node.op_type == _TO_FP4:
            _stand_in(node)
    _settle_shapes(fixed)
    fixed = shape_inference.infer_shapes(fixed, data_prop=True)
    words = {
        TensorProto.FLOAT: "fp32",
        TensorProto.DOUBLE: "fp64",
        TensorProto.FLOAT16: "fp16",
        TensorProto.BFLOAT16: "bf16",
        TensorProto.FLOAT8E4M3FN: "fp8",
        TensorProto.FLOAT4E2M1: "fp4",
        TensorProto.INT8: "int8",
    }
    types, known = {}, {}
    for value in (*fixed.graph.value_info, *fixed.graph.input, *fixed.graph.output):
        tensor = value.type.tensor_type
        types[value.name] = words.get(tensor.elem_type, "other")
        sides = tuple(dim.dim_value for dim in tensor.shape.dim)
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            known[value.name] = sides
    for tensor in fixed.graph.initializer:
        types[tensor.name] = words.get(tensor.data_type, "other")
        known[tensor.name] = tuple(tensor.dims)
    return types, known


def _settle_shapes(model: ModelProto) -> None:
    """Replace Shape nodes on inputs of known shape with constants.

    ONNX's shape inference does not follow a Slice whose end is computed. The side would stay unknown wherever it is
    broadcast against a side of 1, as for a single latent.
    """
    from onnx import helper

    sides = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.input}
    for node in model.graph.node:
        if node.op_type == "Shape" and all(sides.get(node.input[0], [0])):
            found = sides[node.input[0]]
            start, end = (_attribute(node, key, default) for key, default in (("start", 0), ("end", len(found))))
            node.CopyFrom(helper.make_node("Constant", [], node.output[:1], value_ints=found[start:end]))


def _stand_in(node: NodeProto) -> None:
    """Replace TensorRT's operator, which shape inference does not know, by a cast of the same result."""
    from onnx import TensorProto, helper

    node.CopyFrom(helper.make_node("Cast", node.input[:1], node.output[:1], to=TensorProto.FLOAT4E2M1))


def _matmul(graph: _Graph, node: NodeProto) -> int:
    return 2 * math.prod(graph.shape(node.output[0])) * graph.shape(node.input[0])[-1]


def _gemm(graph: _Graph, node: NodeProto) -> int:
    rows, columns = graph.shape(node.input[0])
    inner = rows if _attribute(node, "transA", 0) else columns
    return 2 * math.prod(graph.shape(node.output[0])) * inner


def _conv(graph: _Graph, node: NodeProto) -> int:
    """Weights are [out, in / groups, *kernel]."""
    return 2 * math.prod(graph.shape(node.output[0])) * math.prod(graph.shape(node.input[1])[1:])


def _conv_transpose(graph: _Graph, node: NodeProto) -> int:
    """Weights are [in, out / groups, *kernel]; every input element is multiplied by its [out / groups, *kernel]."""
    return 2 * math.prod(graph.shape(node.input[0])) * math.prod(graph.shape(node.input[1])[1:])


def _attention(graph: _Graph, node: NodeProto) -> int:
    """Inputs are [B, H, N, D]."""
    batch, heads, queries, width = _four_sides(graph.shape(node.input[0]), node)
    _, _, keys, value_width = _four_sides(graph.shape(node.input[2]), node)
    return 2 * batch * heads * queries * keys * (width + value_width)


def _four_sides(shape: Shape, node: NodeProto) -> Shape:
    if len(shape) != 4:
        raise BuildError(f"{node.name}: attention on {list(shape)}, expected [batch, heads, length, size]")
    return shape


def _einsum(graph: _Graph, node: NodeProto) -> int:
    equation = _attribute(node, "equation", b"").decode().replace(" ", "")
    operands = equation.partition("->")[0].split(",")
    if "." in equation or len(operands) < 2:
        raise BuildError(f"{node.name}: the equation {equation!r} cannot be counted; name every index")
    sides: dict[str, int] = {}
    for letters, name in zip(operands, node.input, strict=True):
        sides.update(zip(letters, graph.shape(name), strict=True))
    return 2 * math.prod(sides.values())


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    from onnx import helper

    found = [attribute for attribute in node.attribute if attribute.name == name]
    return helper.get_attribute_value(found[0]) if found else default


_RULES: Mapping[str, Callable[[_Graph, Any], int]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Attention": _attention,
    "Einsum": _einsum,
}


def share_among(counts: Sequence[NodeCount], cited: Mapping[str, Sequence[tuple[int, int]]]) -> dict[int, int]:
    """Distribute the operations of every node over the kernels that execute it. Returns kernel index -> operations.

    cited: for each node the kernels that name it, as (kernel index, size of its output). A node that was split is
    divided in proportion to these sizes. Index -1 collects the nodes that no kernel names.
    """
    shares: dict[int, int] = {}
    for count in counts:
        kernels = cited.get(count.node) or [(-1, 1)]
        total = sum(size for _, size in kernels)
        for index, size in kernels:
            shares[index] = shares.get(index, 0) + count.flops * size // total
    return shares
