"""The network as it is published, ready for an exporter, without any of this tool's rewrites.

The autoencoder takes a chunk of frames at a time and doubles frames with a convolution over time, as published. The
transformer carries its embedders and the whole prompt, attends to whole windows and runs in one dtype. These modules
are traced and compiled but not executed: in float16 the residual stream of this model family overflows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.manifest import PIXEL_CHANNELS, Recipe, Role
from swiftvr_trt.export.graph.stages import Stage
from swiftvr_trt.export.network.checkpoint import Checkpoint
from swiftvr_trt.export.network.dit import Dit, embed, rope_tables, unpatch
from swiftvr_trt.export.network.reae import Decoder, Encoder, TGrow, walk
from swiftvr_trt.export.network.windows import plan_windows

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""All other precisions are float16 here: there is no plain way to quantise."""


def plain_stages(loaded: Checkpoint, recipe: Recipe) -> Iterator[Stage]:
    """All stages, under this tool's names: the autoencoder for a MIDDLE chunk, the transformer for both lengths."""
    yield from (_encode(loaded, recipe), *plain_dits(loaded, recipe), _decode(loaded, recipe))


def plain_dits(loaded: Checkpoint, recipe: Recipe) -> Iterator[Stage]:
    """The transformer for n and for n + 1 latents, each as a static graph."""
    size, channels = recipe.resolution, loaded.dit.config.latent_channels
    for name, count in (("dit", recipe.latents), ("dit_edge", recipe.latents + 1)):
        module = PlainDit(loaded.dit, loaded.prompt, size, count, _dtype(recipe))
        example = torch.zeros(count, channels, size.latent_height, size.latent_width)
        yield Stage(name, module, (example,), (("latents", Role.LATENTS),), (("restored", Role.LATENTS),))


def _encode(loaded: Checkpoint, recipe: Recipe) -> Stage:
    size = recipe.resolution
    module = PlainEncode(loaded.reae.encoder, _dtype(recipe))
    state = module.encoder.initial_state(size.latent_height, size.latent_width)
    pixels = torch.zeros(recipe.clip_len, PIXEL_CHANNELS, *size.pixel_grid, dtype=_dtype(recipe))
    return _stage("encode", module, (pixels, *state), ("pixels", Role.PIXELS), ("latents", Role.LATENTS))


def _decode(loaded: Checkpoint, recipe: Recipe) -> Stage:
    size = recipe.resolution
    module = PlainDecode(loaded.reae.decoder, _dtype(recipe))
    state = module.decoder.initial_state(size.latent_height, size.latent_width)
    latents = torch.zeros(recipe.latents, loaded.reae.config.latent_channels, size.latent_height, size.latent_width)
    return _stage("decode", module, (latents, *state), ("restored", Role.LATENTS), ("pixels", Role.PIXELS))


def _dtype(recipe: Recipe) -> torch.dtype:
    return DTYPES.get(recipe.precision, torch.float16)


def _stage(
    name: str,
    module: nn.Module,
    example: tuple[Tensor, ...],
    first_in: tuple[str, Role],
    first_out: tuple[str, Role],
) -> Stage:
    """A stage of the autoencoder: `first_in`, then the state, becomes `first_out`, then the new state."""
    states = range(len(example) - 1)
    inputs = (first_in, *((f"state_in_{k}", Role.STATE_IN) for k in states))
    outputs = (first_out, *((f"state_out_{k}", Role.STATE_OUT) for k in states))
    return Stage(name, module, example, inputs, outputs)


class PlainEncode(nn.Module):
    """Pixels [4n, 12, H/2, W/2] and the state -> latents [n, C, H/16, W/16] and the new state."""

    def __init__(self, encoder: Encoder, dtype: torch.dtype) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).to(dtype)

    def forward(self, pixels: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        latents, after = walk(self.encoder, pixels, state)
        return (latents.float(), *after)


class PlainGrow(nn.Module):
    """Make two frames of one as published: repeat it, then convolve over time."""

    def __init__(self, grow: TGrow) -> None:
        super().__init__()
        self.conv3d = grow.conv3d

    def forward(self, x: Tensor) -> Tensor:
        """x [T, C, h, w] -> [2 T, C, h, w]; a frame's two copies see each other only."""
        twice = x.unsqueeze(2).repeat(1, 1, 2, 1, 1)
        return F.conv3d(twice, self.conv3d.weight, padding=(1, 0, 0)).transpose(1, 2).flatten(0, 1)


class PlainDecode(nn.Module):
    """Restored latents [n, C, H/16, W/16] and the state -> pixels [4n, 12, H/2, W/2] and the new state."""

    def __init__(self, decoder: Decoder, dtype: torch.dtype) -> None:
        super().__init__()
        self.decoder, self.dtype = copy.deepcopy(decoder).to(dtype), dtype
        for position, layer in enumerate(self.decoder):
            if isinstance(layer, TGrow) and layer.stride == 2:
                self.decoder[position] = PlainGrow(layer)

    def forward(self, restored: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        x, after = walk(self.decoder, restored.to(self.dtype), state)
        return (x.clamp(0, 1), *after)


class PlainDit(nn.Module):
    """Latents [T, C, h, w] -> restored latents: `Dit.forward` in one dtype, for one T and one grid."""

    def __init__(self, dit: Dit, prompt: Tensor, size: Resolution, latents: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.dit, self.dtype = copy.deepcopy(dit).to(dtype), dtype
        self.prompt = nn.Buffer(prompt.to(dtype))
        config, rows, columns = dit.config, size.token_rows, size.token_columns
        cos, sin = rope_tables(config.head_dim, latents, rows, columns)
        self.cos, self.sin = nn.Buffer(cos.to(dtype)), nn.Buffer(sin.to(dtype))
        for layer in (0, 1):
            plan = plan_windows(rows, columns, config.window, layer=layer)
            self.register_buffer(f"gather_{layer}", torch.from_numpy(plan.gather))
            self.register_buffer(f"owner_{layer}", torch.from_numpy(plan.owner))

    def forward(self, latents: Tensor) -> Tensor:
        dit = self.dit
        temb, time = dit.condition_embedder.time()
        text = dit.condition_embedder.text(self.prompt)
        x = embed(latents.to(self.dtype), dit.patch_embedding)
        for layer, block in enumerate(dit.blocks):
            plan = (self.get_buffer(f"{part}_{layer % 2}") for part in ("gather", "owner"))
            x = block(x, time, text, (self.cos, self.sin), *plan)
        shift, scale = (dit.scale_shift_table[0] + temb).unbind(0)
        x = F.layer_norm(x, (x.shape[-1],), eps=dit.config.eps) * (1 + scale) + shift
        return latents - unpatch(dit.proj_out(x), latents, dit.config.patch).to(latents.dtype)
