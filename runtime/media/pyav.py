"""What PyAV 18 and 19 do differently. Elsewhere, one spelling serves both."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from ...errors import MachineError

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer


_ROOM = 256 << 20
"""Bytes that can be allocated unless memory is short."""


_BUFFER = 1 << 20
"""Bytes that FFmpeg reads at once from an open file. Each time costs a call of Python."""


class Ratio(Protocol):
    """A `Fraction` or an `av.rational.AVRational`."""

    @property
    def numerator(self) -> int: ...

    @property
    def denominator(self) -> int: ...


def open_input(
    file: Any,
    hardware: HWAccel | None = None,
    allowed: Mapping[str, str] | None = None,
    format_name: str | None = None,
    timeout: tuple[float, float] | None = None,
) -> InputContainer:
    """Open a file to read, even one with tags that are not UTF-8. PyAV 18 raises on those unless told otherwise.

    file: a URL, or an open file. allowed: FFmpeg's options, among them what it may open. format_name: of the demuxer;
    None to find it by the contents. timeout: seconds to open it, and without data while it is read; None for no limit.
    """
    import av

    major = int(av.__version__.split(".")[0])
    options: dict[str, Any] = {} if major >= 19 else {"metadata_errors": "replace"}
    container: InputContainer = av.open(
        file,
        "r",
        format_name,
        hwaccel=hardware,
        container_options=dict(allowed or {}),
        buffer_size=_BUFFER,
        timeout=timeout,
        **options,
    )
    return container


def fraction(ratio: Ratio | None) -> Fraction | None:
    """A ratio that FFmpeg gave. None if unset, which is None in PyAV 18, and 0/1, 0/0 or 1/0 in PyAV 19."""
    return Fraction(ratio.numerator, ratio.denominator) if ratio else None


def refuse_without_memory(error: Exception, path: Path) -> None:
    """Raise `MachineError` if reading `path` failed because memory is short.

    FFmpeg says the same of a damaged file that asks for an absurd size. So it is believed only if memory is short.
    """
    import av

    if isinstance(error, MemoryError) and not (isinstance(error, av.FFmpegError) and can_allocate(_ROOM)):
        raise _short_of_memory(path) from error


def refuse_end_without_memory(path: Path) -> None:
    """Raise `MachineError` if `path` ended early because memory is short.

    FFmpeg passes over a packet that it cannot allocate, and then says that the file ends.
    """
    if not can_allocate(_ROOM):
        raise _short_of_memory(path)


def _short_of_memory(path: Path) -> MachineError:
    return MachineError(
        f"not enough memory to read {path}; close other programs, or raise the memory limit of this process"
    )


def can_allocate(count: int) -> bool:
    """Whether so many bytes are to be had. They are not touched, so this takes no memory."""
    try:
        mmap.mmap(-1, count).close()
    except (OSError, MemoryError):
        return False
    return True


def readable(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a file or a stream, with U+FFFD for bytes that are not UTF-8. PyAV 19 gives those as surrogates."""
    return {_readable(name): _readable(text) for name, text in tags.items()}


def _readable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def starts_anywhere(container: InputContainer) -> bool:
    """True if the clock of the format may start anywhere and jump, as in recordings of broadcasts."""
    from av.format import Flags

    return bool(container.format.flags & cast(int, Flags.ts_discont.value))
