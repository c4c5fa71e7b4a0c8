"""The chunk protocol as a pure function: how many frames the next chunk takes, and how many come out of it.

With a clip length of `c` frames (a multiple of 4) and `n = c / 4` latents:

    FIRST    c + 4 frames in   n + 1 latents            c + 1 frames out   (3 decoded frames precede the stream)
    MIDDLE   c frames in       n latents                c frames out
    LAST     what is left      up to n + 1 new latents  what is owed

Output runs three frames behind input, so the end of a stream repeats its last frame until every frame has come out:
frames in = frames out for every count from 1 up. LAST always shows the transformer `n + 1` latents; where it makes
fewer, the last *input* latents of the chunk before fill the front. A stream too short for FIRST has no chunk before:
its last frame is repeated until the context is real (`parity`: zeros instead, as the published code does).

A chunk is planned as soon as its frames are there, so a live source of unknown length needs no lookahead.

Source: the published SwiftVR code (arXiv 2606.09516). Its chunk borders in `tests/oracle/stream_clip8.npz` show that a
remainder of c + 1 frames is split into MIDDLE and LAST.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from swiftvr_trt.engines.bundle.geometry import FRAMES_PER_LATENT

LEAD = FRAMES_PER_LATENT - 1
"""Decoded frames that precede the first input frame."""


class Kind(Enum):
    """Where a chunk stands in its stream."""

    FIRST = "first"
    MIDDLE = "middle"
    LAST = "last"


@dataclass(frozen=True)
class Chunk:
    """One turn of the loop, in frames and latents.

    frames   input frames taken from the stream (may be 0 in LAST)
    repeats  how often the last of them is repeated behind them; frames + repeats = 4 * latents
    context  latents of the previous chunk put in front (zeros if there is none)
    skip     decoded frames to drop at the front
    emit     decoded frames to hand out after these; what follows is repetition
    """

    kind: Kind
    frames: int
    repeats: int
    context: int
    skip: int
    emit: int

    @property
    def latents(self) -> int:
        """New latents: encoded, restored and decoded in this chunk."""
        return (self.frames + self.repeats) // FRAMES_PER_LATENT

    @property
    def window(self) -> int:
        """Latents that the transformer sees."""
        return self.context + self.latents


def next_chunk(
    clip_len: int, *, first: bool, waiting: int, owed: int, ended: bool, parity: bool = False
) -> Chunk | None:
    """The chunk to run now, or None if more frames are needed (or, when `ended`, if all is done).

    waiting: frames received and not yet taken by a chunk. owed: frames received and not yet handed out, so at least
    `waiting`. Call again after each chunk with the counts it left.
    """
    latents = clip_len // FRAMES_PER_LATENT
    full = clip_len + FRAMES_PER_LATENT if first else clip_len
    if waiting >= full:
        kind = Kind.FIRST if first else Kind.MIDDLE
        return _chunk(kind, waiting=full, owed=owed, latents=full // FRAMES_PER_LATENT, context=0, first=first)
    if not ended or owed == 0:
        return None
    needed = -(-(waiting + LEAD) // FRAMES_PER_LATENT)
    if not first:
        return _chunk(Kind.LAST, waiting=waiting, owed=owed, latents=needed, context=latents + 1 - needed, first=False)
    if needed > latents + 1:  # two or three frames too many for one LAST: fill up FIRST, and a LAST follows
        return _chunk(Kind.FIRST, waiting=waiting, owed=owed, latents=latents + 1, context=0, first=True)
    new = needed if parity else latents + 1
    return _chunk(Kind.LAST, waiting=waiting, owed=owed, latents=new, context=latents + 1 - new, first=True)


def _chunk(kind: Kind, *, waiting: int, owed: int, latents: int, context: int, first: bool) -> Chunk:
    padded = latents * FRAMES_PER_LATENT
    skip = LEAD if first else 0
    return Chunk(kind, waiting, padded - waiting, context, skip, min(padded - skip, owed))
