"""The demonstration network: its sizes, and both parts in one module."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from swiftvr_trt.export.network.dit import Dit, DitConfig
from swiftvr_trt.export.network.reae import Reae, ReaeConfig

from .export import write_checkpoint

REAE = ReaeConfig(
    latent_channels=280,
    encoder=(16, 64, 96, 280),
    decoder=(280, 280, 64, 48),
    encoder_hidden=(64, 64, 64, 24, 1, 1, 1, 1, 1),
    decoder_hidden=(6, 1, 1, 4, 4, 1, 4, 4, 1),
)
DIT = DitConfig(
    heads=2,
    head_dim=32,
    layers=2,
    ffn_dim=128,
    latent_channels=280,
    text_dim=32,
    freq_dim=32,
    eps=1e-6,
    window=(4, 4),
)
PROMPT_ROWS = 16


class Model(nn.Module):
    """Autoencoder, transformer and prompt: one state dict holds everything that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.reae = Reae(REAE)
        self.dit = Dit(DIT)
        prompt = torch.zeros(PROMPT_ROWS, DIT.text_dim)  # one row with content, then padding, as published
        prompt[0] = torch.randn(DIT.text_dim, generator=torch.Generator().manual_seed(3))
        self.register_buffer("prompt", prompt)

    def save(self, root: Path) -> None:
        """Write the checkpoint directory, F16."""
        write_checkpoint(root, DIT, self.reae.state_dict(), self.dit.state_dict(), self.get_buffer("prompt"))
