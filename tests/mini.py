"""A checkpoint that exports in seconds: the published layout and names, tiny widths, fixed random weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from swiftvr_trt.export.network.dit import Dit, DitConfig
from swiftvr_trt.export.network.reae import Reae, ReaeConfig

REAE = ReaeConfig(
    latent_channels=12,
    encoder=(8, 8, 12, 16),
    decoder=(24, 16, 12, 8),
    encoder_hidden=(8, 8, 8, 12, 12, 12, 16, 16, 16),
    decoder_hidden=(24, 24, 24, 16, 16, 16, 12, 12, 12),
)
NARROW = replace(REAE, encoder_hidden=(4, 5, 3, 6, 6, 2, 5, 4, 5), decoder_hidden=(6, 7, 3, 7, 5, 6, 3, 3, 4))
"""MemBlocks that are narrower inside than outside."""
DIT = DitConfig(
    heads=2,
    head_dim=24,
    layers=2,
    ffn_dim=64,
    latent_channels=12,
    text_dim=16,
    freq_dim=32,
    eps=1e-6,
    window=(16, 16),
)
PROMPT_ROWS = 6


def write_mini_checkpoint(path: Path, *, dtype: torch.dtype = torch.float32, reae_config: ReaeConfig = REAE) -> Path:
    """Write the checkpoint to `path` and return it."""
    (path / "transformer").mkdir(parents=True)
    generator = torch.Generator().manual_seed(7)
    reae, dit = Reae(reae_config), Dit(DIT)
    save_file(_random(reae, generator, dtype), path / "reae.safetensors")
    save_file(_random(dit, generator, dtype), path / "transformer" / "diffusion_pytorch_model.safetensors")
    prompt = torch.zeros(1, PROMPT_ROWS, DIT.text_dim, dtype=dtype)
    prompt[:, 0] = torch.randn(DIT.text_dim, generator=generator).to(dtype)
    save_file({"prompt_emb": prompt, "attention_mask": torch.ones(1)}, path / "prompt_embedding.safetensors")
    config = {
        "_class_name": "WanTransformer3DModel",
        "num_attention_heads": DIT.heads,
        "attention_head_dim": DIT.head_dim,
        "num_layers": DIT.layers,
        "ffn_dim": DIT.ffn_dim,
        "in_channels": DIT.latent_channels,
        "out_channels": DIT.latent_channels,
        "text_dim": DIT.text_dim,
        "freq_dim": DIT.freq_dim,
        "patch_size": [1, 2, 2],
        "eps": DIT.eps,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
    }
    (path / "transformer" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


def other_weights(checkpoint: Path, path: Path) -> Path:
    """A copy of a checkpoint whose frames come out a little brighter."""
    shutil.copytree(checkpoint, path)
    file = path / "reae.safetensors"
    tensors = load_file(file)
    tensors["decoder.22.bias"] += 0.02
    save_file(tensors, file)
    return path


def _random(module: torch.nn.Module, generator: torch.Generator, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Weights that keep activations near one. The last bias is mid-grey, so that few pixels clip."""
    tensors = {}
    for name, tensor in module.state_dict().items():
        values = torch.randn(tensor.shape, generator=generator)
        if "norm" in name:
            values = values * 0.1 + (1.0 if name.endswith("weight") else 0.0)
        elif name.endswith("scale_shift_table"):
            values = values * 0.3
        elif name.endswith("bias"):
            values = values * 0.02 + (0.5 if name == "decoder.22.bias" else 0.0)
        else:
            values = values / values[0].numel() ** 0.5 * (0.3 if name == "decoder.22.weight" else 1.0)
        tensors[name] = values.to(dtype)
    return tensors
