"""Where a stream can be cut and continued, as a pure function of the manifest.

A stream is cut between chunks. What crosses a cut is the state of the encoder, the state of the decoder, and the last
latents of the chunk before. All three are rebuilt from a bounded number of frames, because a stage's state depends on
its last `reach` steps only (docs/rewrites.md, "Finite memory"):

    frames   ... | encoded only | whole chunks, their frames dropped | chunk k ...
                 lead           settled                              frame

The decoder's state at the cut depends on as many restored latents as it reaches back, and the transformer restores
whole chunks. The latents of these chunks depend on the encoder's state at their beginning, and thus on as many latents
as the encoder reaches back. From chunk k on, every byte is that of the uninterrupted stream.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...engines.bundle.geometry import FRAMES_PER_LATENT
from ...engines.bundle.manifest import Manifest
from ...errors import BundleError, MisuseError
from .chunks import LEAD


@dataclass(frozen=True)
class Cut:
    """The beginning of a chunk, in frames of the whole stream, numbered from 0.

    chunk: its number, from 0. frame: the first input frame that it takes. emitted: restored frames handed out before
    it, which is also the number of the first one after the cut. lead: the first input frame that is needed to continue
    here. settled: where whole chunks begin to run; frames before it are only encoded.
    """

    chunk: int
    frame: int
    emitted: int
    lead: int
    settled: int


def cut_at(manifest: Manifest, chunk: int) -> Cut:
    """The cut before a chunk. It does not depend on the length of the stream.

    Raises `MisuseError` for a negative number, and `BundleError` if the bundle does not say how far its stages reach.
    """
    if chunk < 0:
        raise MisuseError(f"chunk is {chunk}, expected 0 or more")
    encoder, decoder = (_reach(manifest, stage) for stage in ("encode", "decode"))
    latents = manifest.recipe.latents
    here = _first_latent(latents, chunk)
    whole = chunk
    while whole and here - _first_latent(latents, whole) < decoder:
        whole -= 1
    settled = _first_latent(latents, whole)
    lead = max(settled - encoder, 0)
    frame, emitted = begin_of(manifest, chunk)
    return Cut(chunk, frame, emitted, lead * FRAMES_PER_LATENT, settled * FRAMES_PER_LATENT)


def begin_of(manifest: Manifest, chunk: int) -> tuple[int, int]:
    """The first input frame that a chunk takes, and how many restored frames were handed out before it."""
    frame = _first_latent(manifest.recipe.latents, chunk) * FRAMES_PER_LATENT
    return frame, max(frame - LEAD, 0)


def chunk_of(manifest: Manifest, frame: int) -> int:
    """Number of the chunk that takes an input frame, in a stream that goes on beyond it."""
    first = manifest.recipe.clip_len + FRAMES_PER_LATENT
    return 0 if frame < first else (frame - first) // manifest.recipe.clip_len + 1


def _first_latent(latents: int, chunk: int) -> int:
    """The first latent of a chunk. latents: of a MIDDLE chunk; the first chunk has one more."""
    return chunk * latents + 1 if chunk else 0


def _reach(manifest: Manifest, stage: str) -> int:
    reach = manifest.stage(stage).reach
    if reach is None:
        raise BundleError(
            f"the bundle does not say how far stage {stage} remembers, so a stream cannot be continued in the middle; "
            f"rebuild it: {manifest.recipe.command()}"
        )
    return reach
