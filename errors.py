"""Every error that this package raises on purpose.

    SwiftVRError                    exit code
    ├── MisuseError (ValueError)        2   the request cannot be met; a different request can
    │   ├── CheckpointError                 a checkpoint directory that does not hold a checkpoint
    │   ├── BundleError                     a bundle that is damaged, foreign, or does not fit this machine
    │   ├── NoBundleError                   no bundle was named or found, nor a checkpoint named to build one from
    │   └── MediaError                      frames or a media file that cannot be used
    │       └── UnreadableInputError    1   a video that cannot be read on in the middle
    └── MachineError (RuntimeError)     1   the request was fine; the machine could not carry it out
        ├── MissingPackageError             a package that this task needs is not installed
        ├── OutputError                     the result cannot be written (disk full, no permission, ...)
        │   └── NameTakenError                  it is complete, but under another name: its own was taken meanwhile
        ├── BuildError                      a bundle could not be built
        ├── DownloadError                   weights could not be downloaded; a later try may succeed
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
from pathlib import Path
from typing import Any

from .installing import install_command
from .text import first_line, printable


class SwiftVRError(Exception):
    """Base of every error raised on purpose. The command line exits with `exit_code`.

    Its message is one printable line, whatever the names and values in it. It survives pickling with its fields.
    """

    exit_code = 1

    def __str__(self) -> str:
        return printable(" ".join(map(str.strip, super().__str__().splitlines())))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), self.args, self.__dict__)


def _unpickled(kind: type[SwiftVRError], args: tuple[Any, ...], state: dict[str, Any]) -> SwiftVRError:
    """The error again. Not through its constructor, which may take other arguments."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class MisuseError(SwiftVRError, ValueError):
    """The request cannot be met; a different request can."""

    exit_code = 2


class CheckpointError(MisuseError):
    """A checkpoint directory lacks something, or does not have the published layout."""


class BundleError(MisuseError):
    """A bundle is incomplete, damaged, made for another machine, or in another version of the format."""


class NoBundleError(MisuseError):
    """No bundle was named, none of the size is in the cache, and no checkpoint was named to build one from."""

    def __init__(self, message: str, size: str = "WxH") -> None:
        """size: of the output, in pixels."""
        super().__init__(message)
        self.size = size


class MediaError(MisuseError):
    """Frames or a media file cannot be read, or cannot be written in the requested form."""


class UnreadableInputError(MediaError):
    """An input that could be read so far cannot be read on: the disk or the network fails.

    Exits with 1: the request was fine until then.
    """

    exit_code = 1


class MachineError(SwiftVRError, RuntimeError):
    """The request was fine, but the machine could not carry it out."""


class MissingPackageError(MachineError):
    """A package that this task needs is not installed; the message ends with the command that installs it."""

    def __init__(self, package: str, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}, which is not installed: {install_command(extra)}")


def cannot_import(error: ImportError | OSError, package: str, purpose: str, extra: str) -> MachineError:
    """The error for a package that cannot be imported: it is missing, or is there and cannot be loaded.

    The latter happens if memory is short or one of its libraries is missing; to install it again may not help.
    """
    if isinstance(error, ModuleNotFoundError):
        return MissingPackageError(package, purpose, extra)
    return MachineError(
        f"{purpose} needs the package {package!r}, which is installed but cannot be loaded ({first_line(error)}); "
        f'close other programs if memory is short, or reinstall it: pip install --force-reinstall "{package}"'
    )


class OutputError(MachineError):
    """The result cannot be written: the disk is full, permission is missing, or the directory has vanished."""


class NameTakenError(OutputError):
    """Something appeared under the output's name during the run. The result is complete, under the name `kept_as`."""

    def __init__(self, name: Path, kept_as: Path) -> None:
        super().__init__(f"{name} was created by somebody else during the run; the result is complete in {kept_as}")
        self.kept_as = kept_as


class BuildError(MachineError):
    """A bundle could not be built: tracing or compiling a stage failed."""


class DownloadError(MachineError):
    """Weights could not be downloaded: no network, or the server failed. A later try continues where it stopped."""


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


_NO_THREAD = "can't start new thread"
"""What Python says."""


def message_of(error: BaseException) -> str:
    """One line about any error: its own message if it was raised on purpose, otherwise `internal error: ...`."""
    if isinstance(error, SwiftVRError):
        return str(error)
    if is_shortage(error):
        short = "memory" if isinstance(error, MemoryError) else "memory or processes for another thread"
        return (
            f"not enough {short} ({printable(first_line(error))}); close other programs, or choose a smaller resolution"
        )
    return printable(": ".join(["internal error", type(error).__name__, *str(error).strip().splitlines()[:1]]))


def is_shortage(error: BaseException) -> bool:
    """Whether the machine lacks memory, or does not let this process start a thread."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_THREAD in str(error))


def unexpected(error: Exception, work: str) -> MachineError | InternalError:
    """What an error becomes that was not raised on purpose. work: what has failed."""
    found = (
        MachineError(message_of(error))
        if is_shortage(error)
        else InternalError(f"{work} failed: {type(error).__name__}: {error}")
    )
    found.__cause__ = error
    return found
