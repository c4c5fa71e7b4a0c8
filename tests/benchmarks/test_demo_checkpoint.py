"""The demonstration model that ships: its size, and that it restores."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks.demo.degrade import Damage, apply
from benchmarks.make_demo import DEMO
from benchmarks.metrics import as_clip, psnr
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.export.network.checkpoint import load_checkpoint
from swiftvr_trt.export.network.reference import Reference

CLIP = Path(__file__).resolve().parents[3] / "shared" / "media" / "bigbuckbunny_720p.mp4"
_FRAMES, _SIDE = 13, 256

Frames = NDArray[np.uint8]


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 8_000_000


@pytest.fixture(scope="module")
def clean() -> Frames:
    """The middle of the real clip at half its size, [T, 256, 256, 3]."""
    if not CLIP.exists():
        pytest.skip(f"{CLIP.name} was not found; it is too large for the repository")
    with av.open(str(CLIP)) as source:
        shown = [frame.to_ndarray(format="rgb24") for frame in itertools.islice(source.decode(video=0), _FRAMES)]
    x = F.avg_pool2d(torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).float(), 2)
    top, left = (x.shape[2] - _SIDE) // 2, (x.shape[3] - _SIDE) // 2
    return as_clip(x[:, :, top : top + _SIDE, left : left + _SIDE])


@pytest.fixture(scope="module")
def damaged(clean: Frames) -> Frames:
    """Halved, noisy (8 steps) and compressed (x264 at CRF 28)."""
    damage = Damage(0.0, "area", 8.0, 0.0, False, None, "libx264", 28, "medium")
    return apply(clean, damage, np.random.default_rng(7))


def test_it_removes_noise_and_compression(clean: Frames, damaged: Frames) -> None:
    reference = Reference(load_checkpoint(DEMO), Resolution(_SIDE, _SIDE), clip_len=12)
    restored = np.stack(list(reference.restore(list(damaged))))
    x = torch.from_numpy(damaged).permute(0, 3, 1, 2).float()
    bicubic = as_clip(F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False))
    assert psnr(restored, clean) > psnr(bicubic, clean) + 0.05
