"""The stages of a bundle as torch modules, in the form that is exported.

    encode     4 frames of any size -> 1 latent, with the encoder's state in and out
    dit        the n latents of a MIDDLE chunk -> n restored latents
    dit_edge   the n + 1 latents of a FIRST or LAST chunk -> n + 1 restored latents
    decode     1 restored latent -> 4 frames, with the decoder's state in and out

The autoencoder advances one latent at a time, so its memory does not grow with the clip length. It carries its state
from call to call, so the result is that of a whole chunk (rewrite 7). Whatever does not depend on a frame is computed
once and becomes a constant of the graph (rewrites 1 and 2). docs/rewrites.md numbers the rewrites.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from ...engines.bundle.geometry import FRAMES_PER_LATENT, Resolution
from ...engines.bundle.manifest import Recipe, Role
from ..network.checkpoint import Checkpoint
from ..network.pixels import frames_to_pixels, pixels_to_frames
from ..network.reae import UNSHUFFLE, Encoder, Reae, State, decoded_pixels, walk
from .dit_stage import DitStage
from .layers import LayerFactory
from .precision import Precision
from .rewrites import ALL, Rewrites, fold_growth, fold_pooling


@dataclass(frozen=True)
class Stage:
    """A module to trace.

    example: its inputs, in order. inputs, outputs: name and role of each tensor that goes in or comes out. free_size:
    inputs whose height and width (axes 1 and 2) stay symbolic. lengths: for a graph that serves several stages, the
    number of latents by stage name; the example has the most.
    """

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[tuple[str, Role], ...]
    outputs: tuple[tuple[str, Role], ...]
    free_size: tuple[str, ...] = ()
    lengths: Mapping[str, int] = field(default_factory=dict)


def stages_of(
    checkpoint: Checkpoint, recipe: Recipe, largest: Mapping[str, float] | None = None, *, joint: bool = False
) -> Iterator[Stage]:
    """The stages that a recipe asks for, one at a time: each holds weights of its own.

    largest: as in `Calibration`, for quantised precisions. joint: one graph for both lengths of the transformer, as in
    engines, instead of two static ones.
    """
    size, rewrites = recipe.resolution, ALL.without(recipe.without)
    factory = LayerFactory(Precision.named(recipe.precision), {} if largest is None else largest)
    lengths = {"dit": recipe.latents, "dit_edge": recipe.latents + 1}
    reae, dit, prompt = checkpoint.reae, checkpoint.dit, checkpoint.prompt
    yield _encode_stage(reae.encoder, size, rewrites, factory.precision, parity=recipe.parity)
    if joint:
        most = max(lengths.values())
        yield _dit_stage("dit", DitStage(dit, prompt, size, most, rewrites, factory), size, most, lengths)
    else:
        for name, latents in lengths.items():
            yield _dit_stage(name, DitStage(dit, prompt, size, latents, rewrites, factory), size, latents)
    yield _decode_stage(reae, size, rewrites, factory.precision)


def _encode_stage(
    encoder: Encoder, size: Resolution, rewrites: Rewrites, precision: Precision, *, parity: bool
) -> Stage:
    layers = precision.converted(fold_pooling(encoder) if rewrites.pooling else encoder)
    state = precision.converted(encoder).initial_state(size.latent_height, size.latent_width)
    # An odd size, so that the tracer does not take equal sizes for a rule.
    frames = torch.zeros(FRAMES_PER_LATENT, 67, 93, 3, dtype=torch.uint8)
    return Stage(
        "encode",
        EncodeStage(layers, size, precision, parity=parity),
        (frames, *state),
        (("frames", Role.FRAMES), *_state_names("state_in", state, Role.STATE_IN)),
        (("latents", Role.LATENTS), *_state_names("state_out", state, Role.STATE_OUT)),
        free_size=("frames",),
    )


def _dit_stage(
    name: str, module: DitStage, size: Resolution, latents: int, lengths: Mapping[str, int] | None = None
) -> Stage:
    example = torch.zeros(latents, module.patch_embedding.in_channels, size.latent_height, size.latent_width)
    inputs, outputs = (("latents", Role.LATENTS),), (("restored", Role.LATENTS),)
    return Stage(name, module, (example,), inputs, outputs, lengths=lengths or {})


def _decode_stage(reae: Reae, size: Resolution, rewrites: Rewrites, precision: Precision) -> Stage:
    decoder = precision.converted(reae.decoder)
    state = decoder.initial_state(size.latent_height, size.latent_width)
    latent = torch.zeros(1, reae.config.latent_channels, size.latent_height, size.latent_width)
    layers = precision.converted(fold_growth(reae.decoder)) if rewrites.growth else decoder
    return Stage(
        "decode",
        DecodeStage(layers, size, precision),
        (latent, *state),
        (("restored", Role.LATENTS), *_state_names("state_in", state, Role.STATE_IN)),
        (("frames", Role.FRAMES), *_state_names("state_out", state, Role.STATE_OUT)),
    )


def _state_names(prefix: str, state: State, role: Role) -> tuple[tuple[str, Role], ...]:
    return tuple((f"{prefix}_{k}", role) for k in range(len(state)))


class EncodeStage(nn.Module):
    """uint8 frames [4, h, w, 3] and the state -> latent [1, C, H/16, W/16] and the new state."""

    def __init__(self, layers: nn.ModuleList, size: Resolution, precision: Precision, *, parity: bool) -> None:
        super().__init__()
        self.layers, self.size, self.precision, self.parity = layers, size, precision, parity

    def forward(self, frames: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        x = self.precision.narrow(frames_to_pixels(frames, self.size, parity=self.parity))
        latent, after = walk(self.layers, pixel_unshuffle(x, UNSHUFFLE), state)
        return (self.precision.widen(latent), *after)


class DecodeStage(nn.Module):
    """Restored latent [1, C, H/16, W/16] and the state -> uint8 frames [4, H, W, 3] and the new state."""

    def __init__(self, layers: nn.ModuleList, size: Resolution, precision: Precision) -> None:
        super().__init__()
        self.layers, self.size, self.precision = layers, size, precision

    def forward(self, restored: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        x, after = walk(self.layers, self.precision.narrow(restored), state)
        return (pixels_to_frames(self.precision.widen(decoded_pixels(x)), self.size), *after)
