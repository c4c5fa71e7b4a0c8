"""A calibration file that a user passes: checked against checkpoint and recipe before anything is traced.

A name that no layer has would be a decision that nobody carries out, and `inspect` would report it as if it were.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ...engines.bundle.calibration import Calibration, Int8Scales, read_calibration
from ...engines.bundle.manifest import Recipe
from ...engines.bundle.targets import QUANTISED
from ...errors import MisuseError
from ..network.checkpoint import Checkpoint
from ..network.dit import widened
from .conditioning import condition
from .convolutions import convolution_names
from .dit_stage import BlockStage
from .layers import LayerFactory, Observed
from .precision import Precision
from .rewrites import ALL


@dataclass(frozen=True)
class ScaledParts:
    """What of a network can be quantised, by name. linears: number of inputs. operands: of attention."""

    linears: Mapping[str, int]
    operands: frozenset[str]
    convolutions: frozenset[str]

    @property
    def inputs(self) -> frozenset[str]:
        """The names of all inputs of the transformer's products."""
        return self.operands | frozenset(self.linears)


def read_fitting_calibration(path: Path, checkpoint: Checkpoint, recipe: Recipe) -> Calibration:
    """What of a file the recipe needs. Raises `MisuseError` if the file lacks some of it or names what is not there."""
    found = read_calibration(path, recipe.checkpoint)
    parts = scaled_parts(checkpoint, recipe)
    strange = [*found.largest.keys() - parts.inputs, *found.int8.keys() - parts.linears.keys() - parts.convolutions]
    if strange:
        problem = f"{path}: the network has no {_some(strange)}"
        raise MisuseError(f"{problem}; correct or remove this, or omit --calibration to measure again")
    largest = parts.inputs if recipe.precision in QUANTISED else frozenset[str]()
    linears = parts.linears if recipe.precision == "int8" else {}
    _require(path, largest - found.largest.keys(), f"precision {recipe.precision}")
    _require(path, linears.keys() - found.int8.keys(), "precision int8")
    if recipe.autoencoder == "int8":
        _require(path, parts.convolutions - found.int8.keys(), "--autoencoder int8 (--autoencoder fp16 needs none)")
    for name, inputs in linears.items():
        _check_shifts(path, name, inputs, found.int8[name])
    kept = {*linears, *(parts.convolutions if recipe.autoencoder else ())}
    return replace(
        found,
        largest={name: value for name, value in found.largest.items() if name in largest},
        int8={name: scales for name, scales in found.int8.items() if name in kept},
    )


@torch.no_grad()
def scaled_parts(checkpoint: Checkpoint, recipe: Recipe) -> ScaledParts:
    """Found in the first block: the others have the same parts."""
    precision = Precision.named(recipe.precision if recipe.precision in QUANTISED else QUANTISED[0]).exact()
    rewrites, observed = ALL.without(recipe.without), list[Observed]()
    blocks = len(checkpoint.dit.blocks)
    if blocks:
        conditioning = condition(checkpoint.dit, checkpoint.prompt, rewrites)
        factory = LayerFactory(precision, observe=lambda _name, _x: None)
        block = BlockStage(widened(checkpoint.dit.blocks[0]), conditioning, rewrites, factory)
        observed = [part for part in block.modules() if isinstance(part, Observed)]
    inside = {part.names[0]: part.module.in_features for part in observed if isinstance(part.module, nn.Linear)}
    operands = {name for part in observed if not isinstance(part.module, nn.Linear) for name in part.names}
    return ScaledParts(
        {f"blocks.{layer}.{name}": inputs for layer in range(blocks) for name, inputs in inside.items()},
        frozenset(f"blocks.{layer}.{name}" for layer in range(blocks) for name in operands),
        frozenset(convolution_names(checkpoint.reae.decoder)),
    )


def _require(path: Path, missing: Collection[str], purpose: str) -> None:
    if missing:
        problem = f"{path}: no numbers for {_some(missing)}, which {purpose} needs"
        raise MisuseError(f"{problem}; omit --calibration to measure again")


def _check_shifts(path: Path, name: str, inputs: int, scales: Int8Scales) -> None:
    if scales.bits == 8 and len(scales.shifts) != inputs:
        problem = f"{path}: {name} has {len(scales.shifts)} shifts, expected {inputs}, one per input"
        raise MisuseError(f"{problem}; omit --calibration to measure again")


def _some(names: Collection[str]) -> str:
    """The first of the names, and how many others there are."""
    others = len(names) - 1
    return min(names) + (f" and {others} others" if others > 1 else " and one other" if others else "")
