"""Notices that the input of a run in pieces changes meanwhile: pieces of two videos must not be mixed."""

from __future__ import annotations

from ....errors import MediaError
from ...media import SourceInfo
from .task import KnownInput, PiecesTask, digest_of_files, files_of, states_of_files


class InputChangedError(MediaError):
    """The input is another one than when it was opened."""


class InputWatch:
    """Tells whether the input of a task is still the one that its pieces are made of.

    Looking costs next to nothing. Only if a file has another size or time of change is its content compared: a run of
    hours must not end because somebody has touched the file.
    """

    def __init__(self, task: PiecesTask, known: KnownInput) -> None:
        self.known = known
        self._files, self._states = files_of(task), known.states

    def check(self) -> None:
        """Raise `InputChangedError` if the input has changed.

        One that is gone or cannot be read has not: what has been opened is still what it was, and whoever opens it
        again will say what is wrong.
        """
        try:
            states = states_of_files(self._files)
            if states == self._states or None in states:
                return
            digest = digest_of_files(self._files)
        except OSError:
            return
        if digest != self.known.digest:
            raise InputChangedError(f"{self._files[0]} was changed while it was restored")
        self._states = states


def check_since_opening(info: SourceInfo, known: KnownInput) -> None:
    """Raise `InputChangedError` if a video was changed between its opening and `known`, as while a bundle was built."""
    if info.state is not None and known.states[0] != info.state:
        raise InputChangedError(
            f"{info.path} was changed after it was opened: run the same command again once it stays as it is"
        )
