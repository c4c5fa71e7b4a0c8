"""Write a checkpoint directory in the published layout: names, files and `config.json` of SwiftVR, 16-bit tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from swiftvr_trt.export.network.checkpoint import CONFIG, PROMPT, PROMPT_KEY, REAE, TRANSFORMER
from swiftvr_trt.export.network.dit import DitConfig


def write_checkpoint(
    root: Path, config: DitConfig, reae: Mapping[str, Tensor], dit: Mapping[str, Tensor], prompt: Tensor
) -> None:
    """Write the directory. prompt: [rows, text_dim]. Each file appears complete."""
    (root / TRANSFORMER).parent.mkdir(parents=True, exist_ok=True)
    (root / CONFIG).write_text(json.dumps(_config_json(config), separators=(",", ":")) + "\n", encoding="utf-8")
    for name, tensors in ((REAE, reae), (TRANSFORMER, dit), (PROMPT, {PROMPT_KEY: prompt[None]})):
        unfinished = root / (name + ".part")
        save_file({key: _half(key, value) for key, value in tensors.items()}, unfinished)
        unfinished.replace(root / name)


def _half(name: str, tensor: Tensor) -> Tensor:
    half = tensor.detach().to(torch.float16).contiguous()
    if not torch.isfinite(half).all():
        raise ValueError(f"{name} does not fit into F16")
    return half


def _config_json(config: DitConfig) -> dict[str, object]:
    """The values that the loader reads, under their published names."""
    return {
        "num_attention_heads": config.heads,
        "attention_head_dim": config.head_dim,
        "num_layers": config.layers,
        "ffn_dim": config.ffn_dim,
        "in_channels": config.latent_channels,
        "patch_size": [1, 2, 2],
        "text_dim": config.text_dim,
        "freq_dim": config.freq_dim,
        "eps": config.eps,
        "self_attn_window_hw": list(config.window),
    }
