"""What one chunk does, as data: the steps that run over the buffers of a stream, in order.

Programs are pure functions of the manifest and the chunk. A device allocates the buffers once, records the steps of a
chunk once (bindings on the CPU, a captured graph on a GPU), and replays them for every later chunk of the same shape.
Nothing here executes anything. A stage reads and writes slots (steps along a buffer's first axis) in place, so nothing
is copied between stages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...engines.bundle.geometry import FRAMES_PER_LATENT
from ...engines.bundle.manifest import COLOUR_INPUTS, Manifest, StageSpec
from ...engines.bundle.pixel_formats import PixelFormat, format_of_stage
from .buffers import (
    DECODED,
    LAST_FRAME,
    PIXELS,
    RESTORED,
    RGB_FORMS,
    BufferKind,
    Forms,
    View,
    colour_buffer,
    paired,
    restored_buffers,
    state_buffer,
    state_count,
)
from .chunks import Chunk


@dataclass(frozen=True)
class Run:
    """Execute a stage; views are in the order of the stage's inputs and outputs."""

    stage: str
    inputs: tuple[View, ...]
    outputs: tuple[View, ...]


@dataclass(frozen=True)
class Copy:
    """Copy one view to another of the same size; they do not overlap."""

    source: View
    target: View


@dataclass(frozen=True)
class Clear:
    """Set a view to zeros."""

    target: View


@dataclass(frozen=True)
class Upload:
    """Make what the host wrote into a view visible to the stages."""

    view: View


@dataclass(frozen=True)
class Download:
    """Make what the stages wrote into a view visible to the host."""

    view: View


@dataclass(frozen=True)
class Beside:
    """From here to the downloads, steps may run beside those of the next program that come before its own mark.

    A program without it runs alone.
    """


Step = Run | Copy | Clear | Upload | Download | Beside


@dataclass(frozen=True)
class Phase:
    """The current side, 0 or 1, of each pair of buffers.

    encoder, decoder: the side that holds the state to read. turn: the side of the chunk's frames and latents.
    """

    encoder: int = 0
    decoder: int = 0
    turn: int = 0


def colour_program(forms: Forms) -> tuple[Step, ...]:
    """Steps that make what the host wrote into the buffers for colours visible to the stages."""
    return tuple(Upload(view) for view in (*_colour("take", forms.take), *_colour("give", forms.give)))


def clear_program(manifest: Manifest) -> tuple[Step, ...]:
    """Steps that reset a stream to its beginning. The phase after them is `Phase()`."""
    return tuple(
        Clear(View(state_buffer(stage, k, 0), 0, 1))
        for stage in ("encode", "decode")
        for k in range(state_count(manifest.stage(stage)))
    )


def encode_program(
    manifest: Manifest, latents: int, phase: Phase, forms: Forms = RGB_FORMS
) -> tuple[tuple[Step, ...], Phase]:
    """Steps that only advance the encoder's state by the first `latents` latents of the turn's frames.

    The latents themselves are overwritten by the next chunk.
    """
    frames, target = paired(BufferKind.FRAMES_IN, phase.turn), paired(BufferKind.LATENTS, phase.turn)
    steps = _arrive(forms, View(frames, 0, latents * FRAMES_PER_LATENT))
    encoder = phase.encoder
    for k in range(latents):
        steps += _encode(manifest, forms, _frames_of(frames, k), View(target, k, 1), encoder)
        encoder = 1 - encoder
    return tuple(steps), Phase(encoder, phase.decoder, phase.turn)


def chunk_program(
    manifest: Manifest, chunk: Chunk, phase: Phase, *, first: bool, forms: Forms = RGB_FORMS, overlap: bool = False
) -> tuple[tuple[Step, ...], Phase]:
    """The steps of one chunk, and the phase after them. first: it is the first chunk of its stream.

    overlap: the chunk is decoded beside the work on the next one; the buffers are planned for that.
    """
    turn, slots = phase.turn, manifest.recipe.latents + 1
    frames_in, latents = paired(BufferKind.FRAMES_IN, turn), paired(BufferKind.LATENTS, turn)
    frames_out, previous = paired(BufferKind.FRAMES_OUT, turn), paired(BufferKind.LATENTS, 1 - turn)
    # Latents of every kind of chunk end at the last slot, where the next chunk looks for the most recent ones.
    base = slots - chunk.window
    new = base + chunk.context
    encoder, decoder = phase.encoder, phase.decoder
    steps = _arrive(forms, View(frames_in, 0, chunk.frames + chunk.repeats), chunk.repeats)
    if chunk.context:
        front = View(latents, base, chunk.context)
        steps.append(Clear(front) if first else Copy(View(previous, base + chunk.latents, chunk.context), front))
    for k in range(chunk.latents):
        steps += _encode(manifest, forms, _frames_of(frames_in, k), View(latents, new + k, 1), encoder)
        encoder = 1 - encoder
    stage = "dit" if chunk.window == manifest.recipe.latents else "dit_edge"
    restored, decoded = restored_buffers(overlap)[turn * overlap], _DECODED if overlap else _PIXELS
    steps.append(Run(stage, (View(latents, base, chunk.window),), (View(restored, base, chunk.window),)))
    steps += [Beside()] if overlap else []
    for k in range(chunk.latents):
        latent, frames = View(restored, new + k, 1), _frames_of(frames_out, k)
        steps += (_advance(manifest.stage("decode"), latent, decoded, decoder), _give(forms.give, decoded, frames))
        decoder = 1 - decoder
    steps += [] if forms.gives_surfaces else [Download(View(frames_out, chunk.skip, chunk.emit))]
    return tuple(steps), Phase(encoder, decoder, 1 - turn)


def stage_program(manifest: Manifest, name: str) -> tuple[Step, ...]:
    """One run of a single stage, for trying stages one by one; it uses the first slots of the stage's buffers.

    Uploads every input before the run and downloads every output after it, so all these buffers must be `host` buffers.
    """
    stage = manifest.stage(name)
    latents = paired(BufferKind.LATENTS, 0)
    form = format_of_stage(name)
    if form is not None and name == form.take:
        run = _take(form, _frames_of(paired(BufferKind.FRAMES_IN, 0), 0))
    elif form is not None:
        run = _give(form, _PIXELS, _frames_of(paired(BufferKind.FRAMES_OUT, 0), 0))
    elif name == "encode":
        run = _advance(stage, _PIXELS, View(latents, 0, 1), 0)
    elif name == "decode":
        run = _advance(stage, View(RESTORED, 0, 1), _PIXELS, 0)
    else:
        count = manifest.recipe.latents + (name == "dit_edge")
        run = Run(name, (View(latents, 0, count),), (View(RESTORED, 0, count),))
    return (*map(Upload, run.inputs), run, *map(Download, run.outputs))


_PIXELS, _DECODED = View(PIXELS, 0, FRAMES_PER_LATENT), View(DECODED, 0, FRAMES_PER_LATENT)


def _arrive(forms: Forms, frames: View, repeats: int = 0) -> list[Step]:
    """Steps that bring frames to the device. Surfaces are there, except for the last ones, which are repetition."""
    repeated = (View(frames.buffer, frames.count - k, 1) for k in range(repeats, 0, -1))
    return [Copy(LAST_FRAME, place) for place in repeated] if forms.takes_surfaces else [Upload(frames)]


def _encode(manifest: Manifest, forms: Forms, frames: View, latent: View, side: int) -> tuple[Step, ...]:
    """Four frames become one latent. side: that of the state to read."""
    return _take(forms.take, frames), _advance(manifest.stage("encode"), _PIXELS, latent, side)


def _take(form: PixelFormat, frames: View) -> Run:
    return Run(form.take, (frames, *_colour("take", form)), (_PIXELS,))


def _give(form: PixelFormat, pixels: View, frames: View) -> Run:
    return Run(form.give, (pixels, *_colour("give", form)), (frames,))


def _colour(direction: str, form: PixelFormat) -> Iterator[View]:
    for name, shape in COLOUR_INPUTS.items() if form.yuv else ():
        yield View(colour_buffer(direction, name), 0, shape[0])


def _frames_of(buffer: str, k: int) -> View:
    """The frames of latent `k`."""
    return View(buffer, k * FRAMES_PER_LATENT, FRAMES_PER_LATENT)


def _advance(stage: StageSpec, source: View, target: View, side: int) -> Run:
    """One step of a stage with state, which is read on `side` and written on the other."""
    count = state_count(stage)
    before = tuple(View(state_buffer(stage.name, k, side), 0, 1) for k in range(count))
    after = tuple(View(state_buffer(stage.name, k, 1 - side), 0, 1) for k in range(count))
    return Run(stage.name, (source, *before), (target, *after))
