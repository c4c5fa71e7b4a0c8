"""Everything this package raises on purpose.

    SwiftVRError                    exit code
    ├── MisuseError (ValueError)        2   what was asked for cannot be done; asking differently helps
    │   ├── CheckpointError                 a checkpoint directory that is not one
    │   ├── BundleError                     a bundle that is damaged, foreign, or does not fit here
    │   └── MediaError                      frames or a media file that cannot be used
    └── MachineError (RuntimeError)     1   the request was fine; the machine could not carry it out
        ├── MissingPackageError             a package that this task needs is not installed
        ├── OutputError                     the result cannot be written (disk full, no permission, ...)
        └── StageError                      a stage of the pipeline failed while running

`Cancelled` stands apart: it ends a stream that its owner has cancelled, and reports no error.

Every message is one line in three parts: what arrived, what was expected, what to do.
"""

from __future__ import annotations


class SwiftVRError(Exception):
    """Base of every error raised on purpose. `exit_code` is what the command line returns for it."""

    exit_code = 1


class MisuseError(SwiftVRError, ValueError):
    """What was asked for cannot be done; asking differently helps."""

    exit_code = 2


class CheckpointError(MisuseError):
    """A checkpoint directory lacks something, or holds something else than the published layout."""


class BundleError(MisuseError):
    """A bundle is incomplete, damaged, made for something else, or from another version of the format."""


class MediaError(MisuseError):
    """Frames or a media file that cannot be read, or cannot be written in the form that was asked for."""


class MachineError(SwiftVRError, RuntimeError):
    """The request was fine, but the machine could not carry it out."""


class MissingPackageError(MachineError):
    """A package that this task needs is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, purpose: str, extra: str) -> None:
        super().__init__(
            f'{purpose} needs the package {package!r}, which is not installed: pip install "swiftvr-trt[{extra}]"'
        )


class OutputError(MachineError):
    """The result cannot be written: disk full, no permission, or the place vanished."""


class StageError(MachineError):
    """A stage of the pipeline failed while it ran."""


class Cancelled(Exception):  # noqa: N818 (no error)
    """The stream was cancelled by its owner."""
