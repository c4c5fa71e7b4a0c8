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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from swiftvr_trt.engines.bundle.geometry import FRAMES_PER_LATENT, Resolution
from swiftvr_trt.engines.bundle.manifest import Recipe, Role
from swiftvr_trt.export.network.checkpoint import Checkpoint
from swiftvr_trt.export.network.pixels import frames_in, frames_out
from swiftvr_trt.export.network.reae import UNSHUFFLE, Encoder, Reae, State, pixels, walk

from .dit_stage import DitStage
from .lowering import PLAIN, Lowering
from .precision import Precision, precision
from .rewrites import ALL, Rewrites, fold_growth, fold_pooling


@dataclass(frozen=True)
class Stage:
    """A module to trace, example inputs in order, and the name and role of everything that goes in and out.

    `free_size` names inputs whose height and width (axes 1 and 2) stay symbolic. `lengths`: the graph serves several
    stages that differ in the number of latents only; the example has the most.
    """

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[tuple[str, Role], ...]
    outputs: tuple[tuple[str, Role], ...]
    free_size: tuple[str, ...] = ()
    lengths: Mapping[str, int] = field(default_factory=dict)


def stages(
    checkpoint: Checkpoint,
    resolution: Resolution,
    *,
    clip_len: int,
    parity: bool,
    rewrites: Rewrites = ALL,
    lowering: Lowering = PLAIN,
    joint: bool = False,
) -> Iterator[Stage]:
    """All stages for one output resolution and clip length, one by one: each holds weights of its own.

    joint: one graph for both lengths of the transformer, as engines have it, instead of two static ones.
    """
    latents = clip_len // FRAMES_PER_LATENT
    lengths = {"dit": latents, "dit_edge": latents + 1}
    reae, dit, prompt = checkpoint.reae, checkpoint.dit, checkpoint.prompt
    yield _encode_stage(reae.encoder, resolution, rewrites, lowering.precision, parity=parity)
    if joint:
        module = DitStage(dit, prompt, resolution, latents + 1, rewrites, lowering)
        yield _dit_stage("dit", module, resolution, latents + 1, lengths)
    else:
        for name, count in lengths.items():
            yield _dit_stage(name, DitStage(dit, prompt, resolution, count, rewrites, lowering), resolution, count)
    yield _decode_stage(reae, resolution, rewrites, lowering.precision)


def stages_of(
    checkpoint: Checkpoint, recipe: Recipe, largest: Mapping[str, float] | None = None, *, joint: bool = False
) -> Iterator[Stage]:
    """The stages that a recipe asks for. largest: what calibration found, for the precisions that are quantised."""
    return stages(
        checkpoint,
        recipe.resolution,
        clip_len=recipe.clip_len,
        parity=recipe.parity,
        rewrites=ALL.without(recipe.without),
        lowering=Lowering(precision(recipe.precision), {} if largest is None else largest),
        joint=joint,
    )


def _encode_stage(
    encoder: Encoder, size: Resolution, rewrites: Rewrites, precision: Precision, *, parity: bool
) -> Stage:
    layers = precision.converted(fold_pooling(encoder) if rewrites.pooling else encoder)
    state = precision.converted(encoder).initial_state(size.latent_height, size.latent_width)
    # An odd example size keeps the tracer from taking a coincidence of sizes for a rule.
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
        x = self.precision.narrow(frames_in(frames, self.size, parity=self.parity))
        latent, after = walk(self.layers, pixel_unshuffle(x, UNSHUFFLE), state)
        return (self.precision.widen(latent), *after)


class DecodeStage(nn.Module):
    """Restored latent [1, C, H/16, W/16] and the state -> uint8 frames [4, H, W, 3] and the new state."""

    def __init__(self, layers: nn.ModuleList, size: Resolution, precision: Precision) -> None:
        super().__init__()
        self.layers, self.size, self.precision = layers, size, precision

    def forward(self, restored: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        x, after = walk(self.layers, self.precision.narrow(restored), state)
        return (frames_out(self.precision.widen(pixels(x)), self.size), *after)
