"""What a graph in a bundle may contain. Checked before ONNX Runtime sees the file, and before a bundle is finished.

A bundle may come from a stranger, and a graph is a program. So a graph may only hold what this package writes: plain
operators, without loops, branches, functions or operators of other domains; weights in the bundle's own files; and a
declared shape for every tensor, which ONNX Runtime is told to verify (`session.strict_shape_type_inference`). Since
every operator's shape follows from those of its inputs and from constants, the memory is known before any is taken.

Only frames that come in have free sides. Their planes may be told apart, their chroma doubled and their colours
converted, which never makes them larger than that; they are then resized to the resolution of the bundle.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import BundleError
from ...outside import Door, read_file
from .manifest import MAX_STREAM_BYTES
from .protobuf import FieldKind, RawMessage, read_message
from .reach import state_dependencies, steps_to_forget

# fmt: off
OPERATORS = frozenset({
    "Add", "Attention", "Cast", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace", "DequantizeLinear",
    "Div", "Floor", "Gather", "Gelu", "Gemm", "LayerNormalization", "MatMul", "Mul", "Pad", "Pow", "QuantizeLinear",
    "RMSNormalization", "Reciprocal", "ReduceMean", "Relu", "Reshape", "Resize", "Round", "Sigmoid", "Slice",
    "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
})
# fmt: on
"""All that the exporter writes. The shape of each one's output follows from its inputs' shapes and from constants."""
_SIZED_BY_INPUTS = frozenset({"Pad", "ReduceMean", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Unsqueeze"})
"""Operators whose inputs after the first say how large the output is; these must be constants."""
_VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze"})
"""Operators whose output lies where their input lies."""
_FREE_SIDES = frozenset(
    {"Add", "Cast", "Clip", "Mul", "Pad", "Reshape", "Resize", "Slice", "Squeeze", "Sub", "Transpose"}
)
"""Operators that may work on frames of any size, besides the `Resize` that ends it."""
_ENLARGING = {
    "Pad": struct.pack("<8q", 0, 0, 1, 1, 0, 0, 0, 0),
    "Resize": struct.pack("<4f", 1, 1, 2, 2),
}
"""Those among them that make frames larger, and the only constant with which they may: a border, and doubled sides."""
_SIDES = {"height": 1.0, "height_1": 1.0, "half_height": 0.5, "width": 1.0, "width_1": 1.0, "half_width": 0.5}
"""Names of free sides, and what part of a frame's side each one is; `_1` means one more."""
_BITS = {1: 32, 2: 8, 3: 8, 6: 32, 7: 64, 9: 8, 10: 16, 16: 16, 17: 8}
"""By ONNX's number: float32, uint8, int8, int32, int64, bool, float16, bfloat16, float8e4m3fn."""
_NUMBER = re.compile(r"[0-9]{1,19}")
_MAX_NODES = 1 << 17
_MAX_SMALL = 64
"""Bytes of a constant whose content is looked at."""
_FREE_ELEMENTS = 24
"""Of a tensor with free sides, per pixel: four frames of three channels of two bytes."""

_DOOR = Door("graph", BundleError, "rebuild the bundle", max_bytes=1 << 28)
_N, _NS, _F, _FS, _B, _BS = FieldKind
_MODEL = {1: _N, 2: _B, 3: _B, 7: _B, 8: _BS}
_GRAPH = {1: _BS, 2: _B, 5: _BS, 11: _BS, 12: _BS, 13: _BS}
_OPSET = {1: _B, 2: _N}
_NODE = {1: _BS, 2: _BS, 3: _B, 4: _B, 5: _BS, 7: _B}
_ATTRIBUTE = {1: _B, 2: _F, 3: _N, 4: _B, 7: _FS, 8: _NS, 9: _BS, 20: _N}
_TENSOR = {1: _NS, 2: _N, 8: _B, 9: _B, 13: _BS, 14: _N}
_ENTRY = {1: _B, 2: _B}
_VALUE = {1: _B, 2: _B}
_TYPE = {1: _B}
_TENSOR_TYPE = {1: _N, 2: _B}
_SHAPE = {1: _BS}
_SIDE = {1: _N, 2: _B}


@dataclass(frozen=True)
class VettedGraph:
    """What is known of a graph that holds only what it may.

    weight_bytes: of its weights. working_bytes: what it computes with static shapes takes at least that much. reach: as
    in `StageSpec`, of the states that were named.
    """

    weight_bytes: int
    working_bytes: int
    reach: int | None


@dataclass(frozen=True)
class _Claim:
    """A tensor as the graph declares it. free: it has free sides; `elements` counts the others then."""

    nbytes: int
    elements: int
    free: bool


@dataclass
class _Graph:
    """What has been read of a graph. known: tensors by name. constants: names of weights; small: bytes of some."""

    known: dict[str, _Claim] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    small: dict[str, bytes] = field(default_factory=dict)
    weight_bytes: int = 0

    def add(self, name: str, claim: _Claim) -> None:
        """Note a tensor. The exporter declares weights twice, in the same way."""
        if not name or self.known.get(name, claim) != claim:
            raise ValueError(f"the tensor {name!r} is declared in two ways")
        self.known[name] = claim


@dataclass(frozen=True)
class _Node:
    """operator, and the names of what it reads and writes; an input that is left out is empty."""

    operator: str
    inputs: list[str]
    outputs: list[str]


def vet_graph(path: Path, files: Mapping[str, int], states: Sequence[tuple[str, str]] = ()) -> VettedGraph:
    """Check that a graph holds only what it may.

    files: sizes of the bundle's files. states: names of each state as an input and as an output.
    Raises `BundleError` for any other graph.
    """
    data = read_file(path, _DOOR)
    try:
        return _vet(memoryview(data), files, states)
    except ValueError as error:
        raise BundleError(f"{path}: not a graph that this package runs ({error}); rebuild the bundle") from error


def _vet(data: memoryview, files: Mapping[str, int], states: Sequence[tuple[str, str]]) -> VettedGraph:
    model = read_message(data, _MODEL)
    for block in model.many(8):
        domain = read_message(block, _OPSET).text(1)
        if domain not in ("", "ai.onnx"):
            raise ValueError(f"it uses the domain {domain}")
    raw = read_message(model.block(7), _GRAPH)
    if len(raw.many(1)) > _MAX_NODES:
        raise ValueError(f"it has {len(raw.many(1))} nodes")
    graph = _Graph()
    for block in raw.many(5):
        _read_weight(read_message(block, _TENSOR), graph, files)
    if len(graph.constants) < len(raw.many(5)):
        raise ValueError("it declares a weight twice")
    inputs, outputs = ([_read_value(block, graph) for block in raw.many(number)] for number in (11, 12))
    for block in raw.many(13):
        _read_value(block, graph)
    nodes = [_read_node(read_message(block, _NODE)) for block in raw.many(1)]
    if not graph.constants.isdisjoint(inputs):
        raise ValueError("one of its weights is an input")
    produced = {*inputs, *graph.constants}
    for node in nodes:
        _check_node(node, graph, produced)
    working = _working_bytes(nodes, graph, inputs, outputs)
    if graph.weight_bytes + working > MAX_STREAM_BYTES:
        raise ValueError(f"it would take {(graph.weight_bytes + working) >> 30} GiB of memory")
    named = ((filter(None, node.inputs), filter(None, node.outputs)) for node in nodes)
    return VettedGraph(graph.weight_bytes, working, steps_to_forget(state_dependencies(named, states)))


def _read_weight(raw: RawMessage, graph: _Graph, files: Mapping[str, int]) -> None:
    name = raw.text(8)
    claim = _claim(raw.number(2), list(raw.numbers.get(1, [])), ())
    entries = [read_message(block, _ENTRY) for block in raw.many(13)]
    external = {entry.text(1): entry.text(2) for entry in entries}
    if raw.number(14) == 0:
        if entries or len(raw.block(9)) != claim.nbytes:
            raise ValueError(f"the weight {name} has another size than its shape")
        if claim.nbytes <= _MAX_SMALL:
            graph.small[name] = bytes(raw.block(9))
    elif raw.block(9) or len(entries) > len(external) or not _lies_in_a_file(external, claim.nbytes, files):
        raise ValueError(f"the weight {name} lies outside the bundle's files")
    graph.add(name, claim)
    graph.constants.add(name)
    graph.weight_bytes += claim.nbytes


def _lies_in_a_file(external: Mapping[str, str], nbytes: int, files: Mapping[str, int]) -> bool:
    offset, length = external.get("offset", ""), external.get("length", "")
    if external.keys() != {"location", "offset", "length"} or not all(map(_NUMBER.fullmatch, (offset, length))):
        return False
    size = files.get(external["location"], -1)
    return int(length) == nbytes and int(offset) <= size - nbytes


def _read_value(block: memoryview, graph: _Graph) -> str:
    """Note the declared type and shape of a tensor; returns its name."""
    value = read_message(block, _VALUE)
    name = value.text(1)
    tensor = read_message(read_message(value.block(2), _TYPE).block(1), _TENSOR_TYPE)
    if 2 not in tensor.blocks:
        raise ValueError(f"the tensor {name} has no shape")
    sides = [read_message(side, _SIDE) for side in read_message(tensor.block(2), _SHAPE).many(1)]
    static = [side.number(1) for side in sides if 1 in side.numbers and 2 not in side.blocks]
    free = tuple(side.text(2) for side in sides if 1 not in side.numbers)
    if len(static) + len(free) != len(sides):
        raise ValueError(f"the tensor {name} has no shape")
    graph.add(name, _claim(tensor.number(1), static, free))
    return name


def _claim(dtype: int, static: list[int], free: tuple[str, ...]) -> _Claim:
    if dtype not in _BITS:
        raise ValueError(f"it holds a tensor of type {dtype}")
    if len(static) + len(free) > 16 or not all(0 <= side < 1 << 40 for side in static):
        raise ValueError("it holds a tensor with a shape out of range")
    elements = math.prod(static)
    if free and not _is_batch_of_frames(free, elements):
        raise ValueError("it holds a tensor with free sides that is no batch of frames")
    return _Claim(elements * _BITS[dtype] // 8, elements, bool(free))


def _is_batch_of_frames(free: tuple[str, ...], elements: int) -> bool:
    """Whether a tensor with these free sides has at most as many elements as four frames in the widest format."""
    if len(free) != 2 or not set(free) <= _SIDES.keys() or sum("height" in name for name in free) != 1:
        return False
    return elements * math.prod(_SIDES[name] for name in free) <= _FREE_ELEMENTS


def _read_node(raw: RawMessage) -> _Node:
    operator, domain = raw.text(4), raw.text(7)
    if domain not in ("", "ai.onnx") or operator not in OPERATORS:
        raise ValueError(f"it holds the operator {f'{domain}.' if domain else ''}{operator}")
    raw.text(3)  # ONNX Runtime puts the name into messages
    for attribute in raw.many(5):
        read_message(attribute, _ATTRIBUTE).text(1)
    return _Node(operator, raw.texts(1), raw.texts(2))


def _check_node(node: _Node, graph: _Graph, produced: set[str]) -> None:
    """Raise `ValueError` unless all that the node reads is there and the shape of what it writes can be verified."""
    inputs = [name for name in node.inputs if name]
    if not node.inputs or not set(inputs) <= produced:
        raise ValueError(f"a {node.operator} reads a tensor that is not there yet")
    if node.operator in _SIZED_BY_INPUTS and not set(filter(None, node.inputs[1:])) <= graph.constants:
        raise ValueError(f"a {node.operator} computes the size of its output")
    outputs = [name for name in node.outputs if name]
    if not outputs or not set(outputs) <= graph.known.keys() - produced or len(set(outputs)) < len(outputs):
        raise ValueError(f"a {node.operator} writes a tensor without a shape, or one that is there already")
    from_free = any(graph.known[name].free for name in inputs)
    to_free = any(graph.known[name].free for name in outputs)
    ends = node.operator == "Resize" and len(node.inputs) == 4 and not any(node.inputs[1:3]) and not to_free
    if from_free and not ends and not (to_free and _keeps_sides(node, graph)):
        raise ValueError(f"a {node.operator} works on frames of any size")
    if to_free and not from_free:
        raise ValueError(f"a {node.operator} makes a tensor with free sides")
    produced.update(outputs)


def _keeps_sides(node: _Node, graph: _Graph) -> bool:
    """Whether a node may work on frames of any size, since what it makes is no larger than its declaration says."""
    if node.operator not in _FREE_SIDES:
        return False
    sizes = [graph.small.get(name) for name in node.inputs[1:] if name]
    return node.operator not in _ENLARGING or sizes == [_ENLARGING[node.operator]]


def _working_bytes(nodes: list[_Node], graph: _Graph, inputs: Iterable[str], outputs: Iterable[str]) -> int:
    """The most bytes of computed tensors that must exist at one time if the nodes run in this order.

    A node may write its output over an input that nobody needs any more, so the two are not counted together.
    """
    owner = _owners(nodes)
    elsewhere = {*inputs, *outputs, *owner}  # in buffers of the stream, or in the place of another tensor
    ends = {owner.get(name, name): index for index, node in enumerate(nodes) for name in node.inputs}
    ending: dict[int, int] = {}
    alive = most = 0
    for index, node in enumerate(nodes):
        alive -= ending.pop(index, 0)
        for name in node.outputs:
            if name and name not in elsewhere and not graph.known[name].free:
                nbytes, end = graph.known[name].nbytes, ends.get(name, index + 1)
                alive += nbytes
                ending[end] = ending.get(end, 0) + nbytes
        most = max(most, alive)
    return most


def _owners(nodes: Iterable[_Node]) -> dict[str, str]:
    """For each view, the tensor in whose place it lies."""
    owner: dict[str, str] = {}
    for node in nodes:
        if node.operator in _VIEWS:
            source = node.inputs[0]
            owner.update(dict.fromkeys(node.outputs, owner.get(source, source)))
    return owner
