"""How pixels, latents and tokens relate, and the output resolution."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import MisuseError

FRAMES_PER_LATENT = 4
PIXELS_PER_LATENT = 16
PIXEL_UNSHUFFLE = 2
PIXELS_PER_TOKEN = 2 * PIXELS_PER_LATENT
MAX_SIDE = 16384
"""Longest side of an input or output frame, in pixels."""


def check_clip_len(clip_len: int) -> int:
    """Returns `clip_len`, in frames; raises `MisuseError` if the chunk protocol does not allow it."""
    if not FRAMES_PER_LATENT <= clip_len <= 1024 or clip_len % FRAMES_PER_LATENT:
        raise MisuseError(
            f"clip length is {clip_len} frames, expected a multiple of {FRAMES_PER_LATENT} up to 1024, e.g. 24"
        )
    return clip_len


@dataclass(frozen=True)
class Resolution:
    """Output size in pixels.

    padded_*: the size that the network works on, a multiple of 32. latent_*, token_*: its grids of latents (16 pixels)
    and of tokens (32 pixels). Raises `MisuseError` for sides outside 1 to `MAX_SIDE`.
    """

    width: int
    height: int

    def __post_init__(self) -> None:
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise MisuseError(f"resolution is {self}, expected sides from 1 to {MAX_SIDE} pixels")

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @classmethod
    def parse(cls, text: str) -> Resolution:
        """`"1920x1080"` -> `Resolution(1920, 1080)`. Raises `MisuseError` for any other form."""
        width, cross, height = text.lower().partition("x")
        if not (cross and _is_number(width) and _is_number(height)):
            raise MisuseError(f"resolution is {text!r}, expected WIDTHxHEIGHT in pixels, e.g. 1920x1080")
        return cls(int(width), int(height))

    @property
    def padded_width(self) -> int:
        return _ceil(self.width, PIXELS_PER_TOKEN)

    @property
    def padded_height(self) -> int:
        return _ceil(self.height, PIXELS_PER_TOKEN)

    @property
    def latent_width(self) -> int:
        return self.padded_width // PIXELS_PER_LATENT

    @property
    def latent_height(self) -> int:
        return self.padded_height // PIXELS_PER_LATENT

    @property
    def pixel_grid(self) -> tuple[int, int]:
        """Height and width of the network's own pixels, after the pixel-unshuffle."""
        return self.padded_height // PIXEL_UNSHUFFLE, self.padded_width // PIXEL_UNSHUFFLE

    @property
    def token_rows(self) -> int:
        return self.padded_height // PIXELS_PER_TOKEN

    @property
    def token_columns(self) -> int:
        return self.padded_width // PIXELS_PER_TOKEN


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def _ceil(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
