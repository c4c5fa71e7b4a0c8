"""The three stages of a bundle as torch modules, in the form in which they are traced.

    encode     4 frames, any size -> 1 latent, with the encoder's state in and out
    dit        the latents of a MIDDLE chunk (n) -> their restored form
    dit_edge   the same for FIRST and LAST (n + 1 latents)
    decode     1 restored latent -> 4 frames, with the decoder's state in and out

The autoencoder advances one latent at a time: its memory then does not grow with the clip length, and since state is
carried anyway, the result is the same to the last bit of the arithmetic (docs/rewrites.md, rewrite 7). Everything that
does not depend on a frame is computed here, once, and enters the graph as a constant (rewrites 1 and 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..engines.geometry import FRAMES_PER_LATENT, Resolution
from ..engines.manifest import Recipe, Role
from .checkpoint import Checkpoint
from .dit_stage import DitStage
from .pixels import frames_in, frames_out
from .reae import Encoder, Reae, pixels, walk
from .rewrites import ALL, Rewrites, fold_growth


@dataclass(frozen=True)
class Stage:
    """A module to trace, example inputs in order, and the name and role of everything that goes in and out.

    `free_size` names inputs whose height and width (axes 1 and 2) stay symbolic.
    """

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[tuple[str, Role], ...]
    outputs: tuple[tuple[str, Role], ...]
    free_size: tuple[str, ...] = ()


def stages(
    checkpoint: Checkpoint, resolution: Resolution, *, clip_len: int, parity: bool, rewrites: Rewrites = ALL
) -> Iterator[Stage]:
    """All stages for one output resolution and clip length, float32, one by one: each holds weights of its own."""
    latents = clip_len // FRAMES_PER_LATENT
    reae, dit, prompt = checkpoint.reae, checkpoint.dit, checkpoint.prompt
    yield _encode_stage(reae.encoder, resolution, parity=parity)
    for name, count in (("dit", latents), ("dit_edge", latents + 1)):
        yield _dit_stage(name, DitStage(dit, prompt, resolution, count, rewrites), resolution, count)
    yield _decode_stage(reae, resolution, rewrites)


def stages_of(checkpoint: Checkpoint, recipe: Recipe) -> Iterator[Stage]:
    """The stages that a recipe asks for."""
    return stages(
        checkpoint,
        recipe.resolution,
        clip_len=recipe.clip_len,
        parity=recipe.parity,
        rewrites=ALL.without(recipe.without),
    )


def _encode_stage(encoder: Encoder, size: Resolution, *, parity: bool) -> Stage:
    state = encoder.initial_state(size.latent_height, size.latent_width)
    # An odd example size keeps the tracer from taking a coincidence of sizes for a rule.
    frames = torch.zeros(FRAMES_PER_LATENT, 67, 93, 3, dtype=torch.uint8)
    return Stage(
        "encode",
        EncodeStage(encoder, size, parity=parity),
        (frames, *state),
        (("frames", Role.FRAMES), *_state_names("state_in", state, Role.STATE_IN)),
        (("latents", Role.LATENTS), *_state_names("state_out", state, Role.STATE_OUT)),
        free_size=("frames",),
    )


def _dit_stage(name: str, module: DitStage, size: Resolution, latents: int) -> Stage:
    example = torch.zeros(latents, module.patch_embedding.in_channels, size.latent_height, size.latent_width)
    return Stage(name, module, (example,), (("latents", Role.LATENTS),), (("restored", Role.LATENTS),))


def _decode_stage(reae: Reae, size: Resolution, rewrites: Rewrites) -> Stage:
    state = reae.decoder.initial_state(size.latent_height, size.latent_width)
    latent = torch.zeros(1, reae.config.latent_channels, size.latent_height, size.latent_width)
    layers = fold_growth(reae.decoder) if rewrites.growth else reae.decoder
    return Stage(
        "decode",
        DecodeStage(layers, size),
        (latent, *state),
        (("restored", Role.LATENTS), *_state_names("state_in", state, Role.STATE_IN)),
        (("frames", Role.FRAMES), *_state_names("state_out", state, Role.STATE_OUT)),
    )


def _state_names(prefix: str, state: tuple[Tensor, ...], role: Role) -> tuple[tuple[str, Role], ...]:
    return tuple((f"{prefix}_{k}", role) for k in range(len(state)))


class EncodeStage(nn.Module):
    """uint8 frames [4, h, w, 3] and the state -> latent [1, C, H/16, W/16] and the new state."""

    def __init__(self, encoder: Encoder, size: Resolution, *, parity: bool) -> None:
        super().__init__()
        self.encoder, self.size, self.parity = encoder, size, parity

    def forward(self, frames: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        latent, after = self.encoder(frames_in(frames, self.size, parity=self.parity), state)
        return (latent, *after)


class DecodeStage(nn.Module):
    """Restored latent [1, C, H/16, W/16] and the state -> uint8 frames [4, H, W, 3] and the new state."""

    def __init__(self, layers: nn.ModuleList, size: Resolution) -> None:
        super().__init__()
        self.layers, self.size = layers, size

    def forward(self, restored: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        x, after = walk(self.layers, restored, state)
        return (frames_out(pixels(x), self.size), *after)
