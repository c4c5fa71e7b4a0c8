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

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engines.geometry import FRAMES_PER_LATENT, Resolution
from ..engines.manifest import Role
from .checkpoint import Checkpoint
from .dit import Block, Dit, rope_tables
from .pixels import frames_in, frames_out
from .reae import Decoder, Encoder, pixels, walk
from .rewrites import fold_growth
from .windows import plan_windows


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


def stages(checkpoint: Checkpoint, resolution: Resolution, *, clip_len: int, parity: bool) -> tuple[Stage, ...]:
    """All stages for one output resolution and clip length, float32."""
    latents = clip_len // FRAMES_PER_LATENT
    dit = checkpoint.dit
    conditioning = condition(dit, checkpoint.prompt)
    return (
        _encode_stage(checkpoint.reae.encoder, resolution, parity=parity),
        _dit_stage("dit", DitStage(dit, conditioning, resolution, latents), resolution, latents),
        _dit_stage("dit_edge", DitStage(dit, conditioning, resolution, latents + 1), resolution, latents + 1),
        _decode_stage(checkpoint.reae.decoder, resolution, checkpoint.reae.config.latent_channels),
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
    example = torch.zeros(latents, module.channels, size.latent_height, size.latent_width)
    return Stage(name, module, (example,), (("latents", Role.LATENTS),), (("restored", Role.LATENTS),))


def _decode_stage(decoder: Decoder, size: Resolution, channels: int) -> Stage:
    state = decoder.initial_state(size.latent_height, size.latent_width)
    latent = torch.zeros(1, channels, size.latent_height, size.latent_width)
    return Stage(
        "decode",
        DecodeStage(decoder, size),
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

    def __init__(self, decoder: Decoder, size: Resolution) -> None:
        super().__init__()
        self.layers, self.size = fold_growth(decoder), size

    def forward(self, restored: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        x, after = walk(self.layers, restored, state)
        return (frames_out(pixels(x), self.size), *after)


@dataclass(frozen=True)
class Conditioning:
    """What the constant timestep and prompt become: numbers.

    time [6, dim] is added to every block's modulation table, final [2, dim] is the last norm's shift and scale, text
    [rows, dim] is what cross-attention sees.
    """

    time: Tensor
    final: Tensor
    text: Tensor


@torch.no_grad()
def condition(dit: Dit, prompt: Tensor) -> Conditioning:
    """Run everything that depends on the timestep and the prompt only."""
    temb, time = dit.condition_embedder.time()
    return Conditioning(time, dit.scale_shift_table[0] + temb, dit.condition_embedder.text(prompt))


class DitStage(nn.Module):
    """Latents [T, C, h, w] -> restored latents [T, C, h, w], for one T and one grid."""

    def __init__(self, dit: Dit, conditioning: Conditioning, size: Resolution, latents: int) -> None:
        super().__init__()
        rows, columns = size.token_rows, size.token_columns
        self.dit = dit
        self.rows, self.columns = rows, columns
        self.channels = dit.config.latent_channels
        rope = rope_tables(dit.config.head_dim, latents, rows, columns)
        self.cos, self.sin = (nn.Buffer(table.float()) for table in rope)
        # Layers of one parity share their windows, so two plans serve any depth.
        plans = [plan_windows(rows, columns, dit.config.window, layer=layer) for layer in (0, 1)]
        self.gather = nn.ParameterList([_index(plan.gather) for plan in plans])
        self.owner = nn.ParameterList([_index(plan.owner) for plan in plans])
        self.blocks = nn.ModuleList([BlockStage(block, conditioning) for block in dit.blocks])
        self.shift, self.scale = (nn.Buffer(row.clone()) for row in conditioning.final)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.dit.embed(latents)
        for layer, block in enumerate(self.blocks):
            parity = layer % 2
            x = block(x, (self.cos, self.sin), self.gather[parity], self.owner[parity])
        x = F.layer_norm(x, (x.shape[-1],), eps=self.dit.config.eps) * (1 + self.scale) + self.shift
        return latents - self.dit.unpatch(self.dit.proj_out(x), self.rows, self.columns)


class BlockStage(nn.Module):
    """A block whose modulation and whose cross-attention keys and values are constants."""

    @torch.no_grad()
    def __init__(self, block: Block, conditioning: Conditioning) -> None:
        super().__init__()
        self.block = block
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = block.modulation(conditioning.time)
        self.shift, self.gain, self.gate = nn.Buffer(shift), nn.Buffer(1 + scale), nn.Buffer(gate)
        self.ffn_shift, self.ffn_gain, self.ffn_gate = (
            nn.Buffer(ffn_shift),
            nn.Buffer(1 + ffn_scale),
            nn.Buffer(ffn_gate),
        )
        self.keys, self.values = (nn.Buffer(part) for part in block.attn2.keys_and_values(conditioning.text))

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], gather: Tensor, owner: Tensor) -> Tensor:
        block = self.block
        normed = block.normalise(x) * self.gain + self.shift
        x = x + block.attn1.windowed(normed, rope, gather, owner) * self.gate
        x = x + block.attn2.cross(block.norm2(x), self.keys, self.values)
        normed = block.normalise(x) * self.ffn_gain + self.ffn_shift
        out: Tensor = x + block.ffn(normed) * self.ffn_gate
        return out


def _index(values: object) -> nn.Parameter:
    return nn.Parameter(torch.as_tensor(values), requires_grad=False)
