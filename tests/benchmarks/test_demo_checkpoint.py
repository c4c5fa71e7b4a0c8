"""The demonstration model that ships: what it may weigh, and that it does restore."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks._metrics import psnr
from swiftvr_trt.engines.geometry import Resolution
from swiftvr_trt.export.checkpoint import load_checkpoint
from swiftvr_trt.export.reference import Reference

DEMO = Path(__file__).resolve().parents[2] / "export" / "demo"
CLIP = Path(__file__).resolve().parents[3] / "shared" / "media" / "bigbuckbunny_720p.mp4"
_FRAMES, _SIDE = 13, 256

Frames = NDArray[np.uint8]


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 8_000_000


@pytest.fixture(scope="module")
def clean() -> Frames:
    """The middle of the real clip at half its size, [T, 256, 256, 3]."""
    if not CLIP.exists():
        pytest.skip(f"{CLIP} is not here")
    with av.open(str(CLIP)) as source:
        shown = [frame.to_ndarray(format="rgb24") for frame in itertools.islice(source.decode(video=0), _FRAMES)]
    x = F.avg_pool2d(torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).float(), 2)
    top, left = (x.shape[2] - _SIDE) // 2, (x.shape[3] - _SIDE) // 2
    return _bytes(x[:, :, top : top + _SIDE, left : left + _SIDE])


@pytest.fixture(scope="module")
def damaged(clean: Frames) -> Frames:
    """Halved, noisy (8 steps) and compressed (x264 at CRF 28)."""
    small = F.avg_pool2d(torch.from_numpy(clean).permute(0, 3, 1, 2).float(), 2)
    noise = torch.randn(small.shape, generator=torch.Generator().manual_seed(7))
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream: Any = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *small.shape[2:], "yuv420p"
        stream.options = {"crf": "28", "threads": "1"}
        for frame in _bytes(small + 8 * noise):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as source:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)])


def test_it_takes_noise_and_compression_away(clean: Frames, damaged: Frames) -> None:
    reference = Reference(load_checkpoint(DEMO), Resolution(_SIDE, _SIDE), clip_len=12)
    restored = np.stack(list(reference.restore(list(damaged))))
    x = torch.from_numpy(damaged).permute(0, 3, 1, 2).float()
    bicubic = _bytes(F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False))
    assert psnr(restored, clean) > psnr(bicubic, clean) + 0.05


def _bytes(x: torch.Tensor) -> Frames:
    frames: Frames = x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return frames
