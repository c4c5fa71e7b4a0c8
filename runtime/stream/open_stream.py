"""A stream under way: its buffers, the chunks that are in flight, and how far it is. A `Session` opens it.

Nothing here checks what callers do, and what a device raises passes through: both is up to the session.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...engines.bundle.geometry import FRAMES_PER_LATENT
from ...engines.bundle.manifest import Manifest
from ...errors import MisuseError
from .buffers import Forms, colour_buffer
from .chunks import LEAD, Chunk, Kind, next_chunk
from .device import Recording, Submission, Workspace
from .frames import FrameForm, StreamFrame
from .places import Entrance, Exit, HostEntrance, HostExit, SurfaceEntrance, SurfaceExit
from .program import Phase, chunk_program, clear_program, colour_program, encode_program

_IN_FLIGHT = 2
"""Chunks that may be submitted and not yet collected: one for each side of the frame buffers."""


@dataclass(frozen=True)
class FrameKind:
    """What the frames of a stream are.

    size: height and width of those that come in. take, give: forms of the frames that come in and leave.
    takes_surfaces, gives_surfaces: whether they are on the GPU.
    """

    size: tuple[int, int]
    take: FrameForm
    give: FrameForm
    takes_surfaces: bool = False
    gives_surfaces: bool = False

    @property
    def forms(self) -> Forms:
        """The same for a device."""
        return Forms(self.take.format, self.give.format, self.takes_surfaces, self.gives_surfaces)

    def refusal(self, number: int, other: FrameKind) -> str:
        """Why frame `number` of a stream of this kind cannot be of the other."""
        (height, width), (other_height, other_width) = self.size, other.size
        if other.size == self.size and other.take == self.take:
            came, began = ("on the GPU" if kind.takes_surfaces else "in memory" for kind in (other, self))
            return (
                f"frame {number} lies {came}, the stream began with frames {began}; end it with flush() before feeding "
                "another kind"
            )
        if other.size == self.size:
            return (
                f"frame {number} is {other.take} {other_width}x{other_height}, the stream began with {self.take} "
                f"{width}x{height} in other colours or another size; end it with flush() before feeding another kind"
            )
        return (
            f"frame {number} is {other_width}x{other_height}, the stream began with {width}x{height}; end it with "
            "flush() before feeding another size"
        )


@dataclass(frozen=True)
class _Running:
    """A submitted chunk, and where its restored frames will be: in which turn, from which place on, and how many."""

    submission: Submission
    turn: int
    place: int
    count: int


class OpenStream:
    """A stream whose first frame has arrived. One thread uses it at a time.

    count: frames fed. broken: a stage failed, so the state is lost. entrance, exit: hold the frames of chunks.
    """

    def __init__(self, manifest: Manifest, kind: FrameKind, workspace: Workspace, *, overlap: bool) -> None:
        """overlap: the workspace decodes a chunk beside the work on the next one."""
        self._manifest, self._overlap = manifest, overlap
        self.kind, self.workspace = kind, workspace
        self.entrance: Entrance = (
            SurfaceEntrance(workspace) if kind.takes_surfaces else HostEntrance(workspace, kind.take)
        )
        self.exit: Exit = SurfaceExit(workspace, kind.give) if kind.gives_surfaces else HostExit(workspace, kind.give)
        self._recordings: dict[tuple[Chunk, Phase, bool], tuple[Recording, Phase]] = {}
        self._running: deque[_Running] = deque()  # oldest first
        self._begin()
        _set_colours(workspace, kind.take, kind.give)

    def _begin(self) -> None:
        self._phase, self._first = Phase(), True  # of the next chunk
        self._waiting = self._owed = 0  # frames fed and not yet submitted; those that no submitted chunk hands out
        self.count, self.broken = 0, False

    def restart(self) -> None:
        """Drop all frames. What runs comes to its end before the stream begins anew."""
        self._running.clear()
        self.workspace.record(clear_program(self._manifest)).replay()
        self._begin()

    def put(self, frame: StreamFrame) -> None:
        """Take a frame."""
        self._take(frame)
        self._owed += 1

    def _take(self, frame: StreamFrame) -> None:
        try:
            self.entrance.put(self._phase.turn, self._waiting, frame)
        except MisuseError:  # the frame is not what it says, and nothing was copied
            raise
        except BaseException:
            self.broken = True  # the stream lacks this frame
            raise
        self._waiting += 1
        self.count += 1

    def advance(self, *, ended: bool) -> list[Any]:
        """Submit the chunks that are complete, and return the frames of those that are done."""
        recipe = self._manifest.recipe
        restored: list[Any] = []
        while chunk := next_chunk(
            recipe.clip_len,
            first=self._first,
            waiting=self._waiting,
            owed=self._owed,
            ended=ended,
            parity=recipe.parity,
        ):
            while self._running and (len(self._running) == _IN_FLIGHT or self._running[0].submission.done()):
                restored += self._collect()
            self._submit(chunk)
        while self.entrance.synchronous and len(self._running) == _IN_FLIGHT:
            restored += self._collect()  # the next frames overwrite its own at once
        while self._running and self._running[0].submission.done():
            restored += self._collect()
        return restored

    def encode_only(self, frame: StreamFrame, *, ended: bool) -> None:
        """Take a frame that only advances the encoder's state. ended: whole chunks follow, as after a MIDDLE chunk."""
        self._take(frame)
        if ended or self._waiting == (self._manifest.recipe.latents + 1) * FRAMES_PER_LATENT:
            self.broken = True  # until it has run
            steps, after = encode_program(
                self._manifest, self._waiting // FRAMES_PER_LATENT, self._phase, self.kind.forms
            )
            self.workspace.record(steps, once=True).replay()
            self.broken = False
            self._phase, self._waiting = after, 0
        if ended:
            self._first, self._owed = False, LEAD

    def drain(self) -> list[Any]:
        """Wait for the chunks that are in flight, and return their frames."""
        restored: list[Any] = []
        while self._running:
            restored += self._collect()
        return restored

    def _submit(self, chunk: Chunk) -> None:
        self.broken = True  # until the chunk is submitted: a failed stage leaves the state half advanced
        turn = self._phase.turn
        if chunk.repeats:
            self.entrance.repeat(turn, chunk.frames, chunk.repeats)
        recording, after = self._recording(chunk, self._phase)
        submission = recording.submit()
        self._running.append(_Running(submission, turn, chunk.skip, chunk.emit))
        self.broken = False
        self._phase, self._first = after, False
        self._waiting -= chunk.frames
        self._owed -= chunk.emit
        if len(self._running) == _IN_FLIGHT:  # the next frames overwrite those of the chunk before
            self._running[0].submission.wait_uploaded()

    def _recording(self, chunk: Chunk, phase: Phase) -> tuple[Recording, Phase]:
        """The recorded steps of a chunk, and the phase after it.

        Recordings are kept for later chunks of the same shape. The first MIDDLE chunk records the one of the other side
        too, so that later chunks record nothing. A LAST chunk comes once per stream and differs between streams, so its
        recording is not kept.
        """
        key = (chunk, phase, self._first)
        if key not in self._recordings:
            steps, after = chunk_program(
                self._manifest, chunk, phase, first=self._first, forms=self.kind.forms, overlap=self._overlap
            )
            if chunk.kind is Kind.LAST:
                return self.workspace.record(steps, once=True), after
            self._recordings[key] = (self.workspace.record(steps), after)
            if chunk.kind is Kind.MIDDLE:
                self._recording(chunk, after)
        return self._recordings[key]

    def _collect(self) -> list[Any]:
        """Wait for the oldest submitted chunk. Returns copies of its frames, since the buffer will be reused."""
        running = self._running.popleft()
        try:
            running.submission.wait()
            return self.exit.frames(running.turn, running.place, running.count)
        except BaseException:
            self.broken = True
            raise


def _set_colours(workspace: Workspace, take: FrameForm, give: FrameForm) -> None:
    """Tell the pixel stages how to convert, for the life of the stream."""
    converted = (("take", take, take.colour.to_rgb), ("give", give, give.colour.from_rgb))
    for direction, form, conversion in converted:
        for name, values in conversion(form.format.bits).inputs().items() if form.format.yuv else ():
            np.copyto(workspace.host(colour_buffer(direction, name)), values)
    steps = colour_program(Forms(take.format, give.format))
    if steps:
        workspace.record(steps, once=True).replay()
