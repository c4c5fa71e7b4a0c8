"""The plain torch network, run chunk by chunk: the reference for every graph and engine.

Like the published code, it takes whole chunks: it encodes all frames of a chunk, runs the transformer once, and decodes
all latents. It is written apart from the exported stages, so an error in either shows up.

    reference = Reference(load_checkpoint(path), Resolution(1920, 1080), clip_len=24)
    for restored in reference.restore(frames): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...engines.bundle.geometry import FRAMES_PER_LATENT, Resolution, check_clip_len
from ...runtime.stream.chunks import Chunk, next_chunk
from ...runtime.stream.session import Frame
from .checkpoint import Checkpoint, load_checkpoint
from .pixels import frames_to_pixels, pixels_to_frames
from .reae import State


@dataclass(frozen=True)
class ChunkTrace:
    """What one chunk computed.

    latents, restored: its new latents before and after the transformer, [b, C, h, w]. pixels: the frames that it emits,
    float32 [F, 3, H32, W32] in [0, 1].
    """

    chunk: Chunk
    latents: Tensor
    restored: Tensor
    pixels: Tensor


class Reference:
    """Each call of `trace`, `restore` or `encode` is a stream of its own.

    frugal: the autoencoder takes one latent after the other, in a fraction of the memory. The results are the same but
    for rounding.
    """

    def __init__(  # what the published code can be told, and how much memory there is
        self,
        checkpoint: Checkpoint,
        resolution: Resolution,
        *,
        clip_len: int = 24,
        parity: bool = False,
        frugal: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.resolution = resolution
        self.clip_len = check_clip_len(clip_len)
        self.parity = parity
        self.frugal = frugal

    def restore(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """uint8 [h, w, 3] frames in, the same number of uint8 [H, W, 3] frames out."""
        for step in self.trace(frames):
            yield from pixels_to_frames(step.pixels, self.resolution).numpy()

    @torch.no_grad()
    def trace(self, frames: Iterable[Frame]) -> Iterator[ChunkTrace]:
        """The same, with what each chunk computes on the way."""
        decode = self.decoding()
        for chunk, seen in self.encode(frames):
            restored = self.checkpoint.dit(seen, self.checkpoint.prompt)[chunk.context :]
            yield ChunkTrace(chunk, seen[chunk.context :], restored, decode(chunk, restored))

    def decoding(self) -> Callable[[Chunk, Tensor], Tensor]:
        """What turns the restored latents of one chunk after the other into pixels, as in `ChunkTrace`."""
        decoder, size = self.checkpoint.reae.decoder, self.resolution
        state = decoder.initial_state(size.latent_height, size.latent_width)

        def decode(chunk: Chunk, restored: Tensor) -> Tensor:
            nonlocal state
            out, state = self._in_parts(decoder, restored, state, 1)
            pixels: Tensor = out[chunk.skip : chunk.skip + chunk.emit]
            return pixels

        return decode

    @torch.no_grad()
    def encode(self, frames: Iterable[Frame]) -> Iterator[tuple[Chunk, Tensor]]:
        """Every chunk with the latents that the transformer sees, context included: [context + b, C, h, w]."""
        encoder, size = self.checkpoint.reae.encoder, self.resolution
        state = encoder.initial_state(size.latent_height, size.latent_width)
        previous = None
        for chunk, taken in self._chunks(frames):
            pixels = frames_to_pixels(torch.from_numpy(taken), size, parity=self.parity)
            latents, state = self._in_parts(encoder, pixels, state, FRAMES_PER_LATENT)
            previous = _with_context(latents, previous, chunk.context)
            yield chunk, previous

    def _in_parts(self, half: nn.Module, x: Tensor, state: State, per_latent: int) -> tuple[Tensor, State]:
        """One half of the autoencoder, on all of `x` or on what belongs to one latent after the other."""
        outputs = []
        for part in x.split(per_latent if self.frugal else len(x)):
            out, state = half(part, state)
            outputs.append(out)
        return torch.cat(outputs), state

    def _chunks(self, frames: Iterable[Frame]) -> Iterator[tuple[Chunk, Frame]]:
        """Every chunk with its frames, including repeated ones: uint8 [4 * b, h, w, 3]."""
        source = iter(frames)
        waiting: list[Frame] = []
        owed, first, ended, last = 0, True, False, None
        while True:
            chunk = next_chunk(
                self.clip_len, first=first, waiting=len(waiting), owed=owed, ended=ended, parity=self.parity
            )
            if chunk is not None:
                taken, waiting = waiting[: chunk.frames], waiting[chunk.frames :]
                last = taken[-1] if taken else last
                assert last is not None, "a chunk is only planned once a frame has arrived"
                yield chunk, np.stack(taken + [last] * chunk.repeats)
                owed, first = owed - chunk.emit, False
            elif ended:
                return
            else:
                frame = next(source, None)
                ended = frame is None
                if frame is not None:
                    waiting.append(frame)
                    owed += 1


def open_reference(
    checkpoint: Path, resolution: Resolution, clip_len: int, threads: int = 0, *, frugal: bool = False
) -> Reference:
    """The network of a checkpoint directory. threads: of torch, in this whole process; 0 leaves them as they are."""
    if threads:
        torch.set_num_threads(threads)
    return Reference(load_checkpoint(checkpoint), resolution, clip_len=clip_len, frugal=frugal)


def _with_context(latents: Tensor, previous: Tensor | None, context: int) -> Tensor:
    if context == 0:
        return latents
    if previous is None:
        return torch.cat([latents.new_zeros(context, *latents.shape[1:]), latents])
    return torch.cat([previous[-context:], latents])
