"""The chunk protocol as a pure function: how many frames the next chunk takes, and how many come out of it.

With a clip length of `c` frames (a multiple of 4) and `n = c / 4` latents:

    FIRST    c + 4 frames in   n + 1 latents            c + 1 frames out   (the first 3 decoded frames are dropped)
    MIDDLE   c frames in       n latents                c frames out
    LAST     what is left      up to n + 1 new latents  what is owed

Output lags three frames behind input. At the end of a stream the last frame is therefore repeated until every frame has
come out: as many frames come out as went in, for every count from 1 up. In LAST the transformer always sees `n + 1`
latents; if the chunk makes fewer, the last *input* latents of the previous chunk come first. A stream too short for
FIRST has no previous chunk: its last frame is repeated until the context is real (with `parity`: the context is zeros,
as in the published code). A remainder of c + 1 frames becomes a MIDDLE and a LAST chunk, also as in the published code.

A chunk is planned as soon as its frames are there, so a live source of unknown length needs no lookahead.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ...engines.bundle.geometry import FRAMES_PER_LATENT

LEAD = FRAMES_PER_LATENT - 1
"""Decoded frames that precede the first input frame."""


class Kind(Enum):
    """Position of a chunk in its stream."""

    FIRST = "first"
    MIDDLE = "middle"
    LAST = "last"


@dataclass(frozen=True)
class Chunk:
    """One round of the loop, in frames and latents.

    frames   input frames taken from the stream (may be 0 in LAST)
    repeats  how often the last frame is repeated after them; frames + repeats = 4 * latents
    context  latents of the previous chunk in front of the new ones (zeros if there is none)
    skip     decoded frames to drop at the front
    emit     decoded frames to hand out after these; the rest is repetition
    """

    kind: Kind
    frames: int
    repeats: int
    context: int
    skip: int
    emit: int

    @property
    def latents(self) -> int:
        """New latents, which this chunk encodes, restores and decodes."""
        return (self.frames + self.repeats) // FRAMES_PER_LATENT

    @property
    def window(self) -> int:
        """Latents that the transformer sees."""
        return self.context + self.latents


def next_chunk(
    clip_len: int, *, first: bool, waiting: int, owed: int, ended: bool, parity: bool = False
) -> Chunk | None:
    """The next chunk to run. None if more frames are needed or, once the stream has `ended`, if all is done.

    first: no chunk of the stream has run. waiting: frames received and not yet taken by a chunk. owed: frames received
    and not yet handed out, so at least `waiting`. Call again after each chunk with the counts it left.
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
    if needed > latents + 1:  # two or three frames too many for one LAST: run a filled-up FIRST, then a LAST
        return _chunk(Kind.FIRST, waiting=waiting, owed=owed, latents=latents + 1, context=0, first=True)
    new = needed if parity else latents + 1
    return _chunk(Kind.LAST, waiting=waiting, owed=owed, latents=new, context=latents + 1 - new, first=True)


def _chunk(kind: Kind, *, waiting: int, owed: int, latents: int, context: int, first: bool) -> Chunk:
    padded = latents * FRAMES_PER_LATENT
    skip = LEAD if first else 0
    return Chunk(kind, waiting, padded - waiting, context, skip, min(padded - skip, owed))
