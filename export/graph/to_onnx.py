"""Trace stages into ONNX: one small graph file per stage, and one `weights.bin` for all of them.

Graphs are static except for the size of incoming frames. Pixel stages are not traced but written (`pixel_stages`).
Weights are ONNX external data, so the 2 GB limit does not apply, and a tensor that several stages contain (the two
transformer stages share nearly all) is stored once. Tensors are written one by one, so tracing needs no second copy of
the checkpoint.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import IO, Any

import torch
from onnx_ir import DataType, ExternalTensor, Model, SymbolicDim, save

from ...engines.bundle.manifest import Recipe, Role, StageSpec, TensorSpec
from ...engines.bundle.reach import state_dependencies, state_names, steps_to_forget
from ...errors import BuildError, CheckpointError
from ..network.finite import all_finite
from . import fp8, int8, nvfp4
from .pixel_stages import PixelStage, give_stages, take_stages
from .stages import Stage

OPSET = 23
"""The newest that torch exports, ONNX Runtime 1.32 executes and TensorRT-RTX 1.7 parses."""

WEIGHTS = "weights.bin"
FORBIDDEN = frozenset({"NonZero", "ScatterND", "ScatterElements", "Scatter", "If", "Loop", "Scan", "Shape"})
"""Operators that make shapes depend on data, or that dense windowed attention does not need."""

_ALIGNMENT = 256
_INLINE_BYTES = 1024
_DTYPES = {
    DataType.UINT8: "uint8",
    DataType.FLOAT: "float32",
    DataType.FLOAT16: "float16",
    DataType.BFLOAT16: "bfloat16",
}


class WeightStore:
    """An append-only file that stores each distinct tensor once."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path = path
        self._file = file
        self._offsets: dict[bytes, int] = {}

    def flush(self) -> None:
        """Make everything that was put visible to readers of the file."""
        self._file.flush()

    def put(self, tensor: Any) -> ExternalTensor:
        """Store an ONNX tensor unless its bytes are there already; returns the reference that replaces it."""
        data = _finite_bytes(tensor)
        key = hashlib.sha256(data).digest()
        if key not in self._offsets:
            self._file.write(b"\0" * (-self._file.tell() % _ALIGNMENT))
            self._offsets[key] = self._file.tell()
            self._file.write(data)
        return ExternalTensor(
            self.path.name,
            self._offsets[key],
            len(data),
            tensor.dtype,
            shape=tensor.shape,
            name=tensor.name,
            base_dir=str(self.path.parent),
        )


@dataclass(frozen=True)
class WrittenStage:
    """A stage on disk: its entry for the manifest, and the number of nodes in its graph."""

    spec: StageSpec
    nodes: int


@contextmanager
def open_weights(directory: Path) -> Iterator[WeightStore]:
    """A new `weights.bin` in `directory`."""
    with (directory / WEIGHTS).open("wb") as file:
        yield WeightStore(directory / WEIGHTS, file)


def write_stages(stages: Iterable[Stage], directory: Path, store: WeightStore | None = None) -> Iterator[WrittenStage]:
    """Trace each stage into `directory` as `<stage>.onnx`; yields as each is done. An older graph is replaced.

    store: the `weights.bin` of `directory`, for several calls to share; None begins a new one.
    """
    with ExitStack() as stack:
        store = store or stack.enter_context(open_weights(directory))
        for stage in stages:
            model = stage_to_onnx(stage)
            spec = _save(model, stage, directory, store)
            store.flush()
            for served in _served(spec, stage.lengths):
                yield WrittenStage(served, model.graph.num_nodes())


def write_network(
    stages: Iterable[Stage], recipe: Recipe, directory: Path, store: WeightStore | None = None
) -> Iterator[WrittenStage]:
    """All stages of a bundle: those of the network as `write_stages`, and the pixel stages around them."""
    with ExitStack() as stack:
        store = store or stack.enter_context(open_weights(directory))
        yield from _write_pixel_stages(take_stages(recipe), directory, store)
        yield from write_stages(stages, directory, store)
        yield from _write_pixel_stages(give_stages(recipe), directory, store)


def _write_pixel_stages(stages: Iterable[PixelStage], directory: Path, store: WeightStore) -> Iterator[WrittenStage]:
    for stage in stages:
        model = stage.graph.model(OPSET)
        check_graph(model, stage)
        spec = _save(model, stage, directory, store)
        store.flush()
        yield WrittenStage(spec, model.graph.num_nodes())


def _served(spec: StageSpec, lengths: Mapping[str, int]) -> Iterator[StageSpec]:
    """The stages that one graph serves: itself, or one per length that axis 0 of its tensors may have."""
    if not lengths:
        yield spec
    for name, length in lengths.items():
        inputs, outputs = (
            tuple(replace(tensor, shape=(length, *tensor.shape[1:])) for tensor in tensors)
            for tensors in (spec.inputs, spec.outputs)
        )
        yield replace(spec, name=name, inputs=inputs, outputs=outputs)


def stage_to_onnx(stage: Stage) -> Model:
    """Trace a stage into an ONNX model in memory. Raises `BuildError` if torch or `check_graph` rejects it."""
    names = [name for name, _ in stage.inputs]
    free: dict[str, Any] = {}
    if stage.lengths:
        free[names[0]] = {
            0: torch.export.Dim("latents", min=min(stage.lengths.values()), max=max(stage.lengths.values()))
        }
    _keep_translations()
    with _quiet(), torch.no_grad():
        program = torch.export.export(
            stage.module.eval(),
            stage.example,
            dynamic_shapes=_dynamic_shapes([free.get(name) for name in names]),
        )
        exported = torch.onnx.export(
            program,
            dynamo=True,
            custom_translation_table={**fp8.TRANSLATIONS, **int8.TRANSLATIONS, **nvfp4.TRANSLATIONS},
            opset_version=OPSET,
            input_names=names,
            output_names=[name for name, _ in stage.outputs],
            verbose=False,
        )
    if exported is None:
        raise BuildError(f"stage {stage.name}: torch.onnx.export returned nothing")
    model: Model = exported.model
    check_graph(model, stage)
    _tidy(model)
    return model


def _save(model: Model, stage: Stage | PixelStage, directory: Path, store: WeightStore) -> StageSpec:
    """Move the weights into `store`, save the graph, and describe it for the manifest."""
    for value in model.graph.initializers.values():
        if value.const_value is not None and value.const_value.nbytes >= _INLINE_BYTES:
            value.const_value = store.put(value.const_value)
        elif value.const_value is not None:
            _finite_bytes(value.const_value)
    path = directory / f"{stage.name}.onnx"
    save(model, os.fspath(path))
    inputs = tuple(_spec(value, role) for value, (_, role) in zip(model.graph.inputs, stage.inputs, strict=True))
    outputs = tuple(_spec(value, role) for value, (_, role) in zip(model.graph.outputs, stage.outputs, strict=True))
    spec = StageSpec(stage.name, path.name, inputs, outputs)
    return replace(spec, reach=_reach(model, spec))


def _reach(model: Model, spec: StageSpec) -> int | None:
    """How many steps a stage remembers. By the values of its graph, since inner ones may share a name or have none."""
    ins, outs = ({value.name: value for value in values} for values in (model.graph.inputs, model.graph.outputs))
    states = [(ins[before], outs[after]) for before, after in state_names(spec)]
    nodes = (([value for value in node.inputs if value is not None], node.outputs) for node in model.graph)
    return steps_to_forget(state_dependencies(nodes, states))


def _finite_bytes(tensor: Any) -> bytes:
    """The bytes of a constant. Raises `CheckpointError` for NaN and infinity, to which no sound checkpoint leads."""
    data: bytes = tensor.tobytes()
    if not all_finite(data, _DTYPES.get(tensor.dtype, "")):
        raise CheckpointError(f"the weight {tensor.name} is not finite; the checkpoint is damaged")
    return data


def check_graph(model: Model, stage: Stage | PixelStage) -> None:
    """Raise `BuildError` unless the graph is what compilers need: dense, without masks, static where it should be."""
    joint = isinstance(stage, Stage) and bool(stage.lengths)
    allowed = {"Shape"} if joint else set()  # reshapes need the one free length
    for node in model.graph:
        if node.op_type in FORBIDDEN - allowed:
            raise BuildError(
                f"stage {stage.name}: node {node.name} is a {node.op_type}, which compilers cannot plan for"
            )
        if node.op_type == "Attention" and len(node.inputs) > 3 and any(node.inputs[3:]):
            raise BuildError(f"stage {stage.name}: {node.name} takes a mask; expected dense windows")
        if node.op_type != "Cast" and DataType.UINT8 in {
            v.dtype for v in (*node.inputs, *node.outputs) if v is not None
        }:
            raise BuildError(f"stage {stage.name}: {node.name} works on uint8; only a Cast at the boundary may")
    free = set(stage.free_size) if isinstance(stage, PixelStage) else set()
    if joint:
        free |= {name for name, _ in (*stage.inputs, *stage.outputs)}
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.name not in free and any(not isinstance(side, int) for side in value.shape or ()):
            raise BuildError(f"stage {stage.name}: {value.name} has shape {value.shape}, expected a static one")


def _tidy(model: Model) -> None:
    """Drop traces of this machine (stack traces, paths), and give the free side, if any, a readable name."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    values = [*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()]
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()
        for axis, side in enumerate(value.shape or ()):
            if value.shape is not None and isinstance(side, SymbolicDim):
                value.shape[axis] = SymbolicDim("latents")


def _dynamic_shapes(sides: list[Any]) -> tuple[Any, ...]:
    """Stages take one tensor, then any number of states, which torch wants as one nested tuple."""
    return (sides[0], tuple(sides[1:])) if len(sides) > 1 else (sides[0],)


def _spec(value: Any, role: Role) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) else None for side in value.shape)
    return TensorSpec(value.name, _DTYPES[value.dtype], shape, role)


@cache
def _keep_translations() -> None:
    """Have torch read the translations of its 500 operators once, instead of anew for each graph: a fifth of the time.

    It has no public way. If what is replaced here is no longer there, the graphs are the same and take longer.
    """
    with suppress(ImportError, KeyError, AttributeError):
        from torch.onnx._internal.exporter import _registration

        apis: Any = vars(_registration)["onnxscript_apis"]
        apis.get_torchlib_ops = cache(apis.get_torchlib_ops)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the tracer's notes about itself, such as missing torchvision and its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
