"""Who restores which piece, where several processes share a video: files that only one of them can create."""

from __future__ import annotations

from pathlib import Path


class Claims:
    """Pieces that somebody has begun, or will begin. Safe between processes.

    A process that restores a span of pieces claims each but the first before it begins it, and ends where a piece is
    claimed already. So whoever claims a piece takes over the span from there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, piece: int) -> bool:
        """Claim a piece. False if somebody else was first."""
        try:
            self._path(piece).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def taken(self, piece: int) -> bool:
        return self._path(piece).exists()

    def forget(self) -> None:
        """Drop all claims. Call it only while no process restores a span."""
        for path in self._folder.glob("*.claim"):
            path.unlink(missing_ok=True)

    def _path(self, piece: int) -> Path:
        return self._folder / f"{piece:05}.claim"
