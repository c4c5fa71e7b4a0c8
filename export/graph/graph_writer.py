"""Writes an ONNX graph operator by operator. Every tensor gets a declared shape, as `engines.bundle.graph` demands.

Sides are numbers, or names for those that are free until a stream starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Shape = tuple[int | str, ...]
_END = (1 << 31) - 1
_DTYPES = {
    "uint8": ir.DataType.UINT8,
    "float32": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
}


@dataclass(frozen=True)
class Value:
    """A tensor of the graph."""

    tensor: ir.Value
    shape: Shape
    dtype: str


class GraphWriter:
    """A graph under construction. Methods are operators: they add a node and return what it computes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inputs: list[ir.Value] = []
        self._outputs: list[ir.Value] = []
        self._nodes: list[ir.Node] = []
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], ir.Value] = {}

    def input(self, name: str, dtype: str, shape: Shape) -> Value:
        """A tensor that the graph reads."""
        value = _value(name, dtype, shape)
        self._inputs.append(value)
        return Value(value, shape, dtype)

    def output(self, value: Value, name: str) -> None:
        """Declare what the graph gives."""
        value.tensor.name = name
        self._outputs.append(value.tensor)

    def model(self, opset: int) -> ir.Model:
        """The finished graph."""
        initializers = list(self._constants.values())
        graph = ir.Graph(
            self._inputs,
            self._outputs,
            nodes=self._nodes,
            initializers=initializers,
            opset_imports={"": opset},
            name=self._name,
        )
        return ir.Model(graph, ir_version=10)

    def cast(self, x: Value, dtype: str) -> Value:
        return x if x.dtype == dtype else self._node("Cast", [x], x.shape, dtype, to=_DTYPES[dtype].value)

    def add(self, x: Value, y: Any) -> Value:
        return self._elementwise("Add", x, y)

    def sub(self, x: Value, y: Any) -> Value:
        return self._elementwise("Sub", x, y)

    def mul(self, x: Value, y: Any) -> Value:
        return self._elementwise("Mul", x, y)

    def div(self, x: Value, y: Any) -> Value:
        return self._elementwise("Div", x, y)

    def rounded(self, x: Value) -> Value:
        return self._node("Round", [x], x.shape)

    def floored(self, x: Value) -> Value:
        return self._node("Floor", [x], x.shape)

    def clipped(self, x: Value, low: float, high: float) -> Value:
        return self._node("Clip", [x, self._number(low), self._number(high)], x.shape)

    def transpose(self, x: Value, order: tuple[int, ...]) -> Value:
        return self._node("Transpose", [x], tuple(x.shape[axis] for axis in order), perm=list(order))

    def reshaped(self, x: Value, target: Sequence[int], shape: Shape) -> Value:
        """target: as ONNX takes it, with 0 for a side that stays and -1 for one that follows. shape: what results."""
        return x if x.shape == shape else self._node("Reshape", [x, self._integers(target)], shape)

    def squeezed(self, x: Value, axis: int, shape: Shape) -> Value:
        return self._node("Squeeze", [x, self._integers([axis])], shape)

    def unsqueezed(self, x: Value, axis: int) -> Value:
        return self._node("Unsqueeze", [x, self._integers([axis])], (*x.shape[:axis], 1, *x.shape[axis:]))

    def sliced(self, x: Value, axis: int, begin: int, end: int | None, shape: Shape) -> Value:
        """`x[begin:end]` along an axis; itself if that is all."""
        if x.shape == shape:
            return x
        stop = _END if end is None else end
        bounds = [self._integers([number]) for number in (begin, stop, axis)]
        return self._node("Slice", [x, *bounds], shape)

    def concatenated(self, parts: Sequence[Value], axis: int) -> Value:
        shape = list(parts[0].shape)
        shape[axis] = sum(int(part.shape[axis]) for part in parts)
        return self._node("Concat", list(parts), tuple(shape), axis=axis)

    def gathered(self, x: Value, axis: int, indices: NDArray[np.int64]) -> Value:
        shape = list(x.shape)
        shape[axis] = len(indices)
        return self._node("Gather", [x, self._constant(indices)], tuple(shape), axis=axis)

    def shuffled(self, x: Value) -> Value:
        """torch's `pixel_shuffle` by 2."""
        count, channels, rows, columns = map(int, x.shape)
        shape = (count, channels // 4, 2 * rows, 2 * columns)
        return self._node("DepthToSpace", [x], shape, blocksize=2, mode="CRD")

    def resized(self, x: Value, shape: tuple[int, ...]) -> Value:
        """Bilinear, with half-pixel centres and without antialiasing."""
        sizes = self._integers(shape)
        return self._node(
            "Resize", [x, None, None, sizes], shape, mode="linear", coordinate_transformation_mode="half_pixel"
        )

    def doubled(self, x: Value, shape: Shape) -> Value:
        """Both sides twice as long: samples, and the means of neighbours between them."""
        scales = self._constant(np.array([1, 1, 2, 2], np.float32))
        return self._node(
            "Resize", [x, None, scales], shape, mode="linear", coordinate_transformation_mode="asymmetric"
        )

    def padded_before(self, x: Value, shape: Shape) -> Value:
        """One more row and column in front of axes 2 and 3, repeating the first."""
        return self._node("Pad", [x, self._integers([0, 0, 1, 1, 0, 0, 0, 0])], shape, mode="edge")

    def zero_padded(self, x: Value, below: int, right: int) -> Value:
        shape = (*x.shape[:2], int(x.shape[2]) + below, int(x.shape[3]) + right)
        pads = self._integers([0, 0, 0, 0, 0, 0, below, right])
        return self._node("Pad", [x, pads, self._number(0.0)], shape, mode="constant")

    def _elementwise(self, operator: str, x: Value, y: Any) -> Value:
        other = y if isinstance(y, Value) else self._constant(np.asarray(y, np.float32))
        return self._node(operator, [x, other], _broadcast(x.shape, other.shape))

    def _node(
        self, operator: str, inputs: Sequence[Value | None], shape: Shape, dtype: str | None = None, **attributes: Any
    ) -> Value:
        first = inputs[0]
        assert first is not None
        dtype = dtype or first.dtype
        output = _value(f"{operator.lower()}_{len(self._nodes)}", dtype, shape)
        given = [None if value is None else value.tensor for value in inputs]
        node = ir.node(operator, given, attributes, outputs=[output], name=f"node_{len(self._nodes)}")
        self._nodes.append(node)
        return Value(output, shape, dtype)

    def _integers(self, numbers: Sequence[int]) -> Value:
        return self._constant(np.asarray(numbers, np.int64))

    def _number(self, number: float) -> Value:
        return self._constant(np.asarray(number, np.float32))

    def _constant(self, array: NDArray[Any]) -> Value:
        key = (array.dtype.name, array.tobytes(), array.shape)
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            tensor = ir.Tensor(array, name=name)
            self._constants[key] = ir.Value(
                name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
            )
        return Value(self._constants[key], array.shape, array.dtype.name)


def _value(name: str, dtype: str, shape: Shape) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(_DTYPES[dtype]), shape=ir.Shape(shape))


def _broadcast(one: Shape, other: Shape) -> Shape:
    length = max(len(one), len(other))
    ones, others = ((1,) * (length - len(shape)) + shape for shape in (one, other))
    return tuple(b if a == 1 else a for a, b in zip(ones, others, strict=True))
