"""What the chunk loop needs from a device: buffers, and a way to record steps once and submit them many times.

A `Device` holds the loaded stages of one bundle and may be shared. A `Workspace` holds the buffers of one stream. With
ONNX Runtime a recording is a list of prepared bindings, on CUDA a captured graph. Replaying either allocates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from .buffers import BufferSpec, View
from .frames import FrameForm, Planes, Surface
from .program import Step


class Submission(Protocol):
    """Submitted steps. Waiting for one also waits for all earlier ones.

    At most two may be in progress: wait for the older one before you submit a third.
    """

    def done(self) -> bool:
        """True if `wait` would return at once."""

    def wait_uploaded(self) -> None:
        """Return once the host may overwrite what the steps upload."""

    def wait(self) -> None:
        """Return once the host may read what the steps download.

        Raises `StageError`, which names what failed, and `Cancelled` if the workspace was cancelled meanwhile.
        """


class Done:
    """The submission of a device that runs everything in `submit`."""

    def done(self) -> bool:
        return True

    def wait_uploaded(self) -> None: ...

    def wait(self) -> None: ...


DONE = Done()


class Recording(Protocol):
    """Steps bound to the buffers of one workspace.

    Submissions run in order. Two may be under way at once if they upload and download different buffers that share no
    memory (`BufferSpec.over`); the host leaves those alone until the submission says it may use them. The frames of a
    submission that is done are collected before the next one.
    """

    def submit(self) -> Submission:
        """Start all steps. A synchronous device has run them when this returns.

        Raises what `Submission.wait` raises if it is known by then.
        """

    def replay(self) -> None:
        """Run all steps; return once the host may read what they download."""


class Workspace(Protocol):
    """The buffers of one stream. Use it from one thread at a time, except for `cancel`."""

    def host(self, buffer: str) -> NDArray[Any]:
        """The array of a `host` buffer; the same one for the life of the workspace."""

    def record(self, steps: Sequence[Step], *, once: bool = False) -> Recording:
        """Prepare steps to be run repeatedly, or `once`, which a device may prepare more cheaply.

        A recording made with `once` must have run before the next one is made with `once`; it is invalid from then on.
        """

    def cancel(self) -> None:
        """Make the running replay raise `Cancelled` as soon as it can, and every later one. From any thread."""

    def close(self) -> None:
        """Release the buffers. Recordings of this workspace are invalid afterwards."""


class SurfaceWorkspace(Workspace, Protocol):
    """A workspace in the memory of a GPU, whose frames may be surfaces."""

    def copy_in(self, frame: Surface | Planes, views: Sequence[View]) -> None:
        """Copy a frame into places of buffers that are not `host`, one slot each; return when it is there.

        Nothing that was submitted may still use those places. Raises `MisuseError`, and has copied nothing, if a
        surface is not what it says or lies elsewhere.
        """

    def copy_out(self, view: View, form: FrameForm) -> Surface:
        """A new `Surface` with a copy of one place of a buffer that is not `host`. What wrote it must be over."""


class Device(Protocol):
    """The loaded stages of one bundle."""

    @property
    def surfaces(self) -> bool:
        """Whether frames may be surfaces; its workspaces are `SurfaceWorkspace`s then."""

    @property
    def overlap(self) -> bool:
        """Whether chunks are decoded beside the work on the next ones: buffers and programs are made for that."""

    def workspace(self, buffers: Mapping[str, BufferSpec]) -> Workspace:
        """Allocate the buffers of one stream, filled with zeros."""

    def close(self) -> None:
        """Release the stages. Close all workspaces first."""
