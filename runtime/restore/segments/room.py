"""Room on the disk: refuses early what certainly does not fit, and says what to do when a disk is full."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ....errors import OutputError
from ....text import counted, format_bytes
from ...media.files import explain_write_errors
from .store import Store, free_bytes

_LEAST_BITS = {
    "rawvideo": 8.0,
    "v210": 16.0,
    "huffyuv": 1.0,
    "ffvhuff": 1.0,
    "utvideo": 1.0,
    "ffv1": 0.1,
}
"""Bits per pixel that an encoder needs for all but a blank video, at the very least."""
_LEAST_BITS_LOSSY = 0.002
"""The same of all others: a tenth of what a quiet film takes at the lowest quality that people use."""


def least_bytes(codec: str | None, width: int, height: int, frames: int) -> int:
    """Bytes that so many pictures take at the very least. codec: as the user named it."""
    return int(_LEAST_BITS.get(codec or "", _LEAST_BITS_LOSSY) * width * height * max(frames, 0) / 8)


def refuse_without_room(store: Store, least: int) -> None:
    """Raise `OutputError` before anything is restored, if the disk certainly cannot hold pieces and output.

    least: bytes of the pieces that are still to come. The output is written while all pieces are still there.
    """
    needed, free = store.size + 2 * least, _free(store)
    if free < needed:
        raise OutputError(
            f"{store.output} needs at least {format_bytes(needed)} for its pieces and for joining them, and "
            f"{format_bytes(free)} are free: free some space or choose another place"
        )


def check_room_to_join(store: Store) -> None:
    """Raise `OutputError` if the output does not fit beside its pieces."""
    needed, free = store.size, _free(store)
    if free < needed:
        raise OutputError(
            f"{store.output} needs {format_bytes(needed)}, and {format_bytes(free)} are free: free some space and run "
            f"the same command again{store.without}, which then only joins the pieces"
        )


def is_full_disk(error: BaseException) -> bool:
    """Whether the result cannot be written because the disk is full."""
    return isinstance(error, OutputError) and any(
        isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT) for cause in _causes(error)
    )


def full_elsewhere(reason: str) -> OutputError:
    """The error of a disk that `is_full_disk`, as another process has met it. reason: in its words."""
    error = OutputError(reason)
    error.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return error


def full_disk(error: BaseException, store: Store, kept: int) -> OutputError | None:
    """What to say of an error, if it is that of a full disk, in one line; None for others. kept: frames."""
    if not (is_full_disk(error) and store.folder.is_dir()):
        return None
    full = f"cannot write {store.output}: the disk is full, {format_bytes(_free(store))} are free"
    if not kept:
        return OutputError(f"{full}: free some space and run the same command again")
    frames = counted(kept, "frame is kept", "frames are kept")
    return OutputError(
        f"{full}; {frames} in {store.folder}: free some space and run the same command again"
        f"{store.without}, which goes on from there"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _free(store: Store) -> int:
    with explain_write_errors(Path(store.output)):
        return free_bytes(store.folder)
