"""Every error that this package raises on purpose.

    SwiftVRError                    exit code
    ├── MisuseError (ValueError)        2   the request cannot be met; a different request can
    │   ├── CheckpointError                 a checkpoint directory that does not hold a checkpoint
    │   ├── BundleError                     a bundle that is damaged, foreign, or does not fit this machine
    │   └── MediaError                      frames or a media file that cannot be used
    └── MachineError (RuntimeError)     1   the request was fine; the machine could not carry it out
        ├── MissingPackageError             a package that this task needs is not installed
        ├── OutputError                     the result cannot be written (disk full, no permission, ...)
        ├── BuildError                      a bundle could not be built
        ├── InternalError                   an unexpected exception: a bug here or in a library
        └── DeviceError                     the device failed; `moment` says when
            │                                   BEGIN    while a stream was set up on it (out of memory, ...)
            │                                   MIDDLE   while it worked on the stream
            └── StageError                  a stage failed while it ran

`DeviceError` says where the fault lies: neither in the frames nor in the output, so another device may do better. A
device that cannot even open a bundle raises `BundleError`, `MissingPackageError` or `MachineError`.

`Cancelled` is not an error: it ends a stream that its owner has cancelled.

A message is one line in three parts: what arrived, what was expected, what to do.
"""

from __future__ import annotations

from enum import Enum


class SwiftVRError(Exception):
    """Base of every error raised on purpose. The command line exits with `exit_code`."""

    exit_code = 1


class MisuseError(SwiftVRError, ValueError):
    """The request cannot be met; a different request can."""

    exit_code = 2


class CheckpointError(MisuseError):
    """A checkpoint directory lacks something, or does not have the published layout."""


class BundleError(MisuseError):
    """A bundle is incomplete, damaged, made for another machine, or in another version of the format."""


class MediaError(MisuseError):
    """Frames or a media file cannot be read, or cannot be written in the requested form."""


class MachineError(SwiftVRError, RuntimeError):
    """The request was fine, but the machine could not carry it out."""


class MissingPackageError(MachineError):
    """A package that this task needs is not installed; the message names the extra that installs it."""

    def __init__(self, package: str, purpose: str, extra: str) -> None:
        super().__init__(
            f'{purpose} needs the package {package!r}, which is not installed: pip install "swiftvr-trt[{extra}]"'
        )


class OutputError(MachineError):
    """The result cannot be written: the disk is full, permission is missing, or the directory has vanished."""


class BuildError(MachineError):
    """A bundle could not be built: tracing or compiling a stage failed."""


class InternalError(MachineError):
    """An exception that nothing here expects: a bug in this package or in a library. Its cause is that exception."""


class Moment(Enum):
    """When a device failed."""

    BEGIN = "begin"
    """While a stream was set up on it: buffers, contexts, the first run of each stage."""
    MIDDLE = "middle"
    """While it worked on a stream."""


class DeviceError(MachineError):
    """The device failed. `moment` says when."""

    def __init__(self, message: str, moment: Moment = Moment.BEGIN) -> None:
        super().__init__(message)
        self.moment = moment


class StageError(DeviceError):
    """A stage failed while it ran."""

    def __init__(self, message: str, moment: Moment = Moment.MIDDLE) -> None:
        super().__init__(message, moment)


class Cancelled(Exception):  # noqa: N818 (no error)
    """The owner of the stream has cancelled it."""


def message_of(error: BaseException) -> str:
    """One line about any error: its own message if it was raised on purpose, otherwise `internal error: ...`."""
    if isinstance(error, SwiftVRError):
        return str(error)
    return ": ".join(["internal error", type(error).__name__, *str(error).strip().splitlines()[:1]])
