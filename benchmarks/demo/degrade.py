"""Damage clean frames as a bad camera and a low bit rate do, in the order of RealBasicVSR's recipe.

    blur -> half size -> sensor noise -> JPEG of every frame -> a real video encoder and decoder

    uint8 [T, H, W, 3] RGB, H and W multiples of 4  ->  uint8 [T, H/2, W/2, 3]

All strengths come from one random generator, so a clip is reproducible from its seed. Some clips stay nearly clean,
because the network must also learn to leave a good picture alone.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

SCALE = 2


@dataclass(frozen=True)
class Damage:
    """The strengths of the damage to one clip. Noise is in 8-bit steps, `crf` in x264's units; 0 or None: not done."""

    blur: float
    filter: str
    noise: float
    shot_noise: float
    grey_noise: bool
    jpeg: int | None
    codec: str | None
    crf: int
    preset: str


def draw(rng: np.random.Generator) -> Damage:
    """Random strengths: one clip in four stays nearly clean, the others are noisy and always compressed.

    Uncompressed noise would be easier to remove, but it is not what video has.
    """
    clean = rng.random() < 1 / 4
    codec = str(rng.choice(["libx264", "libx264", "libx264", "libx264", "mpeg4"]))
    return Damage(
        blur=0.0 if clean or rng.random() < 0.7 else float(rng.uniform(0.3, 1.1)),
        filter=str(rng.choice(["area", "area", "bicubic", "bilinear"])),
        noise=0.0 if clean or rng.random() < 0.15 else float(rng.uniform(1, 14)),
        shot_noise=0.0 if clean or rng.random() < 0.7 else float(rng.uniform(0.2, 1.0)),
        grey_noise=bool(rng.random() < 0.25),
        jpeg=None if clean or rng.random() < 0.85 else int(rng.integers(40, 92)),
        codec=None if clean and rng.random() < 0.5 else codec,
        crf=int(rng.integers(10, 19)) if clean else int(np.clip(round(rng.normal(28, 5)), 18, 42)),
        preset=str(rng.choice(["veryfast", "medium"])),
    )


def apply(frames: Frames, damage: Damage, rng: np.random.Generator) -> Frames:
    """The damaged clip at half the size."""
    return spoil(shrink(frames, damage), damage, rng)


def spoil(small: NDArray[np.float32], damage: Damage, rng: np.random.Generator) -> Frames:
    """Noise and compression."""
    noisy = add_noise(small, damage, rng)
    if damage.jpeg is not None:
        noisy = np.stack([_jpeg(frame, damage.jpeg) for frame in noisy])
    return noisy if damage.codec is None else recompress(noisy, damage.codec, damage.crf, damage.preset)


def noise_alone(small: Frames, rng: np.random.Generator) -> Frames:
    """Add noise without compressing: easy, so training begins with it. One clip in four stays clean."""
    noise = 0.0 if rng.random() < 1 / 4 else float(rng.uniform(1, 14))
    drawn = Damage(0.0, "area", noise, 0.0, bool(rng.random() < 0.25), None, None, 0, "medium")
    return add_noise(small.astype(np.float32), drawn, rng)


def shrink(frames: Frames, damage: Damage) -> NDArray[np.float32]:
    """Blur and halve: float32 [T, H/2, W/2, 3] in 0 ... 255."""
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    if damage.blur > 0:
        x = _gaussian_blur(x, damage.blur)
    if damage.filter == "area":
        x = F.avg_pool2d(x, SCALE)
    else:
        size = (x.shape[2] // SCALE, x.shape[3] // SCALE)
        x = F.interpolate(x, size, mode=damage.filter, align_corners=False, antialias=True)
    small: NDArray[np.float32] = x.permute(0, 2, 3, 1).numpy()
    return small


def add_noise(frames: NDArray[np.float32], damage: Damage, rng: np.random.Generator) -> Frames:
    """Add Gaussian noise and noise that grows with brightness, equal in all channels if `grey_noise`."""
    channels = 1 if damage.grey_noise else 3
    noise = rng.standard_normal((*frames.shape[:3], channels), dtype=np.float32)
    sigma = np.sqrt(damage.noise**2 + damage.shot_noise**2 * np.clip(frames, 0, 255))
    noisy: Frames = np.clip(np.rint(frames + noise * sigma), 0, 255).astype(np.uint8)
    return noisy


def recompress(frames: Frames, codec: str, crf: int, preset: str = "medium") -> Frames:
    """Encode (YUV 4:2:0) and decode. MPEG-4 takes a quantiser, derived from `crf`."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream: Any = out.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        if codec == "mpeg4":
            step = str(int(np.clip((crf - 14) // 2, 2, 20)))
            stream.options = {"qmin": step, "qmax": step}
        else:
            stream.options = {"crf": str(crf), "preset": preset, "threads": "1"}
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as source:
        decoded = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    if len(decoded) != len(frames):
        raise RuntimeError(f"{codec} returned {len(decoded)} frames, expected {len(frames)}")
    return np.stack(decoded)


def _jpeg(frame: Frames, quality: int) -> Frames:
    from PIL import Image  # only JPEG needs Pillow

    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def _gaussian_blur(x: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = max(1, round(3 * sigma))
    at = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).repeat(3, 1)
    x = F.pad(x, [radius] * 4, mode="replicate")
    x = F.conv2d(x, kernel[:, None, :, None], groups=3)
    return F.conv2d(x, kernel[:, None, None, :], groups=3)
