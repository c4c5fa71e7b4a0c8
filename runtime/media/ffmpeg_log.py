"""Catches what FFmpeg logs, because its log names the cause of a failure better than its error codes do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...text import first_line


@contextmanager
def ffmpeg_errors() -> Iterator[list[str]]:
    """Collect the errors that FFmpeg logs within the block, instead of writing them to stderr.

    The list is filled when the block ends.
    """
    from av import logging

    said: list[str] = []
    level, skips = logging.get_level(), logging.get_skip_repeated()
    logging.set_level(logging.ERROR)
    logging.set_skip_repeated(False)  # an error that was logged before this block counts here too
    try:
        with logging.Capture(local=True) as logs:
            yield said
    finally:
        said += [message.strip() for _, _, message in logs if message.strip()]
        logging.set_level(level)
        logging.set_skip_repeated(skips)


def first_error(said: list[str], error: BaseException) -> str:
    """Why something did not open, in one line: the first line that FFmpeg logged, or else the message of `error`."""
    return first_line(said[0] if said else getattr(error, "strerror", None) or error)
