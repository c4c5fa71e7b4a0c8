"""The stages of a bundle as torch modules, in the form that is exported.

    encode     the pixels of 4 frames -> 1 latent, with the encoder's state in and out
    dit        the n latents of a MIDDLE chunk -> n restored latents
    dit_edge   the n + 1 latents of a FIRST or LAST chunk -> n + 1 restored latents
    decode     1 restored latent -> the pixels of 4 frames, with the decoder's state in and out

Pixels are [4, 12, H/2, W/2] at the padded output size, after the pixel-unshuffle. `pixel_stages` makes them of frames,
and frames of them.

The autoencoder advances one latent at a time, so its memory does not grow with the clip length. It carries its state
from call to call, so the result is that of a whole chunk (rewrite 7). Whatever does not depend on a frame is computed
once and becomes a constant of the graph (rewrites 1 and 2). docs/rewrites.md numbers the rewrites.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ...engines.bundle.calibration import Int8Scales
from ...engines.bundle.geometry import FRAMES_PER_LATENT, Resolution
from ...engines.bundle.manifest import PIXEL_CHANNELS, Recipe, Role
from ..network.checkpoint import Checkpoint
from ..network.reae import Decoder, Encoder, State, walk
from .convolutions import with_int8
from .dit_stage import DitStage
from .layers import LayerFactory
from .precision import Precision
from .rewrites import ALL, Rewrites, fold_growth, fold_pooling


@dataclass(frozen=True)
class Stage:
    """A module to trace.

    example: its inputs, in order. inputs, outputs: name and role of each tensor that goes in or comes out. lengths: for
    a graph that serves several stages, the number of latents by stage name; the example has the most.
    """

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[tuple[str, Role], ...]
    outputs: tuple[tuple[str, Role], ...]
    lengths: Mapping[str, int] = field(default_factory=dict)


def stages_of(
    checkpoint: Checkpoint,
    recipe: Recipe,
    largest: Mapping[str, float] | None = None,
    int8: Mapping[str, Int8Scales] | None = None,
    *,
    joint: bool = False,
    capability: str | None = None,
) -> Iterator[Stage]:
    """The stages that a recipe asks for, one at a time: each holds weights of its own.

    largest, int8: as in `Calibration`, for quantised precisions. joint: one graph for both lengths of the transformer,
    as in engines, instead of two static ones. capability: that of the GPU that engines are for, e.g. `8.6`.
    """
    size, rewrites = recipe.resolution, ALL.without(recipe.without)
    precision = Precision.named(recipe.precision).on(capability).at(size)
    factory = LayerFactory(precision, {} if largest is None else largest, {} if int8 is None else int8)
    lengths = {"dit": recipe.latents, "dit_edge": recipe.latents + 1}
    reae, dit, prompt = checkpoint.reae, checkpoint.dit, checkpoint.prompt
    yield _encode_stage(reae.encoder, size, rewrites, precision.autoencoder)
    if joint:
        most = max(lengths.values())
        yield _dit_stage("dit", DitStage(dit, prompt, size, most, rewrites, factory), size, most, lengths)
    else:
        for name, latents in lengths.items():
            yield _dit_stage(name, DitStage(dit, prompt, size, latents, rewrites, factory), size, latents)
    decoder = reae.decoder
    if recipe.autoencoder == "int8":
        decoder = with_int8(decoder, replace(factory, precision=precision.autoencoder))
    yield _decode_stage(decoder, reae.config.latent_channels, size, rewrites, precision.autoencoder)


def _encode_stage(encoder: Encoder, size: Resolution, rewrites: Rewrites, precision: Precision) -> Stage:
    layers = precision.converted(fold_pooling(encoder) if rewrites.pooling else encoder)
    state = precision.converted(encoder).initial_state(size.latent_height, size.latent_width)
    pixels = precision.narrow(torch.zeros(FRAMES_PER_LATENT, PIXEL_CHANNELS, *size.pixel_grid))
    return Stage(
        "encode",
        EncodeStage(layers, precision),
        (pixels, *state),
        (("pixels", Role.PIXELS), *_state_names("state_in", state, Role.STATE_IN)),
        (("latents", Role.LATENTS), *_state_names("state_out", state, Role.STATE_OUT)),
    )


def _dit_stage(
    name: str, module: DitStage, size: Resolution, latents: int, lengths: Mapping[str, int] | None = None
) -> Stage:
    example = torch.zeros(latents, module.patch_embedding.in_channels, size.latent_height, size.latent_width)
    inputs, outputs = (("latents", Role.LATENTS),), (("restored", Role.LATENTS),)
    return Stage(name, module, (example,), inputs, outputs, lengths=lengths or {})


def _decode_stage(decoder: Decoder, channels: int, size: Resolution, rewrites: Rewrites, precision: Precision) -> Stage:
    layers = precision.converted(fold_growth(decoder) if rewrites.growth else decoder)
    state = precision.converted(decoder).initial_state(size.latent_height, size.latent_width)
    latent = torch.zeros(1, channels, size.latent_height, size.latent_width)
    return Stage(
        "decode",
        DecodeStage(layers, precision),
        (latent, *state),
        (("restored", Role.LATENTS), *_state_names("state_in", state, Role.STATE_IN)),
        (("pixels", Role.PIXELS), *_state_names("state_out", state, Role.STATE_OUT)),
    )


def _state_names(prefix: str, state: State, role: Role) -> tuple[tuple[str, Role], ...]:
    return tuple((f"{prefix}_{k}", role) for k in range(len(state)))


class EncodeStage(nn.Module):
    """Pixels [4, 12, H/2, W/2] and the state -> latent [1, C, H/16, W/16] and the new state."""

    def __init__(self, layers: nn.ModuleList, precision: Precision) -> None:
        super().__init__()
        self.layers, self.precision = layers, precision

    def forward(self, pixels: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        latent, after = walk(self.layers, pixels, state)
        return (self.precision.widen(latent), *after)


class DecodeStage(nn.Module):
    """Restored latent [1, C, H/16, W/16] and the state -> pixels [4, 12, H/2, W/2] in [0, 1] and the new state."""

    def __init__(self, layers: nn.ModuleList, precision: Precision) -> None:
        super().__init__()
        self.layers, self.precision = layers, precision

    def forward(self, restored: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        x, after = walk(self.layers, self.precision.narrow(restored), state)
        return (x.clamp(0, 1), *after)
