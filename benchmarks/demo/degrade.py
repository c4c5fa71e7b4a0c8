"""Damage clean frames as a noisy capture does: analogue tape, or a camera at high ISO, stored at a high bit rate.

    mild blur -> half size -> noise of luma and colour, coloured by grain and light -> x264 at about CRF 14

    uint8 [T, H, W, 3] RGB, H and W multiples of 4  ->  uint8 [T, H/2, W/2, 3]

All strengths come from one random generator, so a clip is reproducible from its seed. One clip in four is clean,
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
from torch import Tensor

from swiftvr_trt.runtime.media.colour import converted

Frames = NDArray[np.uint8]

SCALE = 2
_LUMA = (0.299, 0.587, 0.114)
_COLOURS = ((0.0, 1.402), (-0.344, -0.714), (1.772, 0.0))
"""Red, green and blue of the two colour differences Cb and Cr."""


@dataclass(frozen=True)
class Noise:
    """Noise in 8-bit steps, new in every frame. It is Gaussian; all of its powers are those before any clipping.

    rgb     deviation of red, green and blue, each with noise of its own
    luma    deviation of noise that is equal in all three
    colour  deviation of Cb and of Cr, in places of `coarse` x `coarse` pixels
    grain   Gaussian radius in pixels, across and down, in which neighbours share their noise; 0: none
    light   how strongly it grows with brightness, 0 to 1
    """

    rgb: float = 0.0
    luma: float = 0.0
    colour: float = 0.0
    coarse: int = 1
    grain: tuple[float, float] = (0.0, 0.0)
    light: float = 0.0


@dataclass(frozen=True)
class Damage:
    """The damage to one clip. crf: of x264; None: not encoded."""

    blur: float = 0.0
    filter: str = "area"
    noise: Noise = Noise()
    crf: int | None = 14
    preset: str = "medium"


def draw(rng: np.random.Generator) -> Damage:
    """Random damage: one clip in four is clean."""
    return Damage(
        blur=0.0 if rng.random() < 0.7 else float(rng.uniform(0.3, 0.9)),
        filter=str(rng.choice(["area", "area", "bicubic", "bilinear"])),
        noise=draw_noise(rng),
        crf=int(np.clip(round(rng.normal(14, 2.5)), 8, 20)),
        preset=str(rng.choice(["veryfast", "medium"])),
    )


def draw_noise(rng: np.random.Generator) -> Noise:
    """None for one clip in four; else independent in red, green and blue (a sensor), or of luma and colour (a tape)."""
    kind = rng.random()
    if kind < 0.25:
        return Noise()
    strength = float(rng.uniform(2, 28))
    light = float(rng.random() < 0.4) * float(rng.uniform(0, 1))
    if kind < 0.55:
        return Noise(rgb=strength, light=light)
    across = float(rng.random() < 0.4) * float(rng.uniform(0.3, 1.2))
    down = across * float(rng.uniform(0, 1)) if rng.random() < 0.5 else across
    colour = 0.0 if rng.random() < 0.15 else strength * float(rng.uniform(0.3, 1.2))
    return Noise(0.0, strength, colour, int(rng.choice([1, 2, 4])), (across, down), light)


def apply(frames: Frames, damage: Damage, rng: np.random.Generator) -> Frames:
    """The damaged clip at half the size."""
    return spoil(shrink(frames, damage), damage, rng)


def spoil(small: NDArray[np.float32], damage: Damage, rng: np.random.Generator) -> Frames:
    """Noise and compression."""
    noisy = add_noise(small, damage.noise, rng)
    return noisy if damage.crf is None else recompress(noisy, damage.crf, damage.preset)


def shrink(frames: Frames, damage: Damage) -> NDArray[np.float32]:
    """Blur and halve: float32 [T, H/2, W/2, 3] in 0 ... 255."""
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    if damage.blur > 0:
        x = _blur(x, (damage.blur, damage.blur))
    if damage.filter == "area":
        x = F.avg_pool2d(x, SCALE)
    else:
        size = (x.shape[2] // SCALE, x.shape[3] // SCALE)
        x = F.interpolate(x, size, mode=damage.filter, align_corners=False, antialias=True)
    small: NDArray[np.float32] = x.permute(0, 2, 3, 1).numpy()
    return small


def add_noise(frames: NDArray[np.float32], noise: Noise, rng: np.random.Generator) -> Frames:
    """Add noise, round and clip."""
    count, height, width, _ = frames.shape

    def normal(channels: int, coarse: int = 1) -> Tensor:
        size = (count, channels, -(-height // coarse), -(-width // coarse))
        return torch.from_numpy(rng.standard_normal(size, dtype=np.float32))

    x = torch.from_numpy(frames).permute(0, 3, 1, 2)
    found = noise.rgb * normal(3) if noise.rgb else torch.zeros_like(x)
    if noise.luma:
        found = found + noise.luma * _correlated(normal(1), noise.grain)
    if noise.colour:
        coarse = F.interpolate(normal(2, noise.coarse), scale_factor=noise.coarse, mode="nearest")[..., :height, :width]
        found = found + torch.einsum("kc,tchw->tkhw", noise.colour * torch.tensor(_COLOURS), coarse)
    if noise.light:
        bright = torch.einsum("c,tchw->thw", torch.tensor(_LUMA), x)[:, None].clamp(0, 255) / 128
        found = found * (1 + noise.light * (bright - 1)).sqrt()
    noisy: Frames = (x + found).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return noisy


def _correlated(x: Tensor, grain: tuple[float, float]) -> Tensor:
    """Smooth noise without making it weaker."""
    if max(grain) == 0:
        return x
    smooth = _blur(x, grain)
    return smooth / smooth.std()


def recompress(frames: Frames, crf: int, preset: str = "medium") -> Frames:
    """Encode (YUV 4:2:0, x264) and decode."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream: Any = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = {"crf": str(crf), "preset": preset, "threads": "1"}
        for frame in frames:
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            out.mux(stream.encode(converted(rgb, format="yuv420p")))
        out.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as source:
        decoded = [converted(frame, format="rgb24").to_ndarray() for frame in source.decode(video=0)]
    if len(decoded) != len(frames):
        raise RuntimeError(f"x264 returned {len(decoded)} frames, expected {len(frames)}")
    return np.stack(decoded)


def _blur(x: Tensor, radius: tuple[float, float]) -> Tensor:
    """Gaussian blur of [T, C, h, w]; radius: its deviation across and down, in pixels."""
    for axis, sigma in zip((3, 2), radius, strict=True):
        if sigma == 0:
            continue
        reach = max(1, round(3 * sigma))
        at = torch.arange(-reach, reach + 1, dtype=torch.float32)
        kernel = torch.exp(-(at**2) / (2 * sigma**2))
        shape = [1, 1, 1, 1]
        shape[axis] = len(kernel)
        taps = (kernel / kernel.sum()).view(shape).repeat(x.shape[1], 1, 1, 1)
        pad = [reach, reach, 0, 0] if axis == 3 else [0, 0, reach, reach]
        x = F.conv2d(F.pad(x, pad, mode="replicate"), taps, groups=x.shape[1])
    return x
