"""What the chunk loop needs from a machine: buffers, and a way to record steps once and submit them again and again.

A `Device` holds the loaded stages of one bundle and is shared; a `Workspace` holds the buffers of one stream. On ONNX
Runtime a recording is a list of prepared bindings, on CUDA a captured graph; either way, replaying allocates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from .program import BufferSpec, Step


class Submission(Protocol):
    """Steps on their way. Who waits for one has waited for those before it, too.

    Each must have been waited for before the third one after it is made.
    """

    def done(self) -> bool:
        """Whether `wait` would return at once."""

    def wait_uploaded(self) -> None:
        """Return when the host may write again into what the steps upload."""

    def wait(self) -> None:
        """Return when the host may read what the steps download.

        Raises `StageError` naming what failed; `Cancelled` if the workspace was cancelled meanwhile.
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

    Submissions run in the order in which they are made. Two may be on their way at once if they upload and download
    different buffers that share no place (`BufferSpec.over`); nobody touches those before the submission says so.
    """

    def submit(self) -> Submission:
        """Begin to run all steps. A device that cannot run beside its caller has run them when this returns.

        Raises what `Submission.wait` raises, as far as it is known by then.
        """

    def replay(self) -> None:
        """Run all steps and return when the host may read what they download."""


class Workspace(Protocol):
    """The buffers of one stream. Not to be used from two threads at once, except for `cancel`."""

    def host(self, buffer: str) -> NDArray[Any]:
        """The host's array of a `host` buffer; it stays the same for the life of the workspace."""

    def record(self, steps: Sequence[Step], *, once: bool = False) -> Recording:
        """Prepare steps for repeated execution; with `once` for a single one, which a device may prepare more cheaply.

        What was recorded with `once` is good until the next recording with `once`, and must be over by then.
        """

    def cancel(self) -> None:
        """Make the running replay, and every later one, raise `Cancelled` as soon as it can. From any thread."""

    def close(self) -> None:
        """Release the buffers; recordings of this workspace are invalid after it."""


class Device(Protocol):
    """The loaded stages of one bundle."""

    def workspace(self, buffers: Mapping[str, BufferSpec]) -> Workspace:
        """Allocate the buffers of one stream, all zeros."""

    def close(self) -> None:
        """Release the stages; workspaces must be closed before."""
