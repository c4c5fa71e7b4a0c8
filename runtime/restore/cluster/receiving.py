"""Puts the pieces that arrive from the nodes into `OUTPUT.segments`, with their marks, as a local run does."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from .... import leaving
from ....errors import MachineError
from ...media.files import explain_write_errors
from ..segments.piece import Mark, PieceFolder, write_whole
from .actor import PiecePart


class Receiver:
    """Collects the parts of one span's pieces. Close it; a piece whose parts are not all there is discarded.

    done: the numbers of the pieces that are finished. frames: in these.
    """

    def __init__(self, output: Path) -> None:
        self._folder = PieceFolder(output)
        self._file: BinaryIO | None = None
        self._path = output
        self.done: set[int] = set()
        self.frames = 0

    def mark_before(self, piece: int) -> Mark | None:
        """The mark of the piece before this one, if it is finished."""
        self._folder.recall(piece - 1)
        return self._folder.marks.get(piece - 1)

    def take(self, part: PiecePart) -> bool:
        """Keep a part. True if that finishes a piece. Raises `OutputError`, or `MachineError` for a damaged piece."""
        if part.mark is not None and not part.data:
            with explain_write_errors(self._folder.output):
                write_whole(self._folder.mark_path(part.piece), json.dumps(asdict(part.mark)))
            return False
        with explain_write_errors(self._folder.output):
            file = self._file or self._open(part.piece)
            file.write(part.data)
        self._digest.update(part.data)
        if part.mark is None:
            return False
        with explain_write_errors(self._folder.output):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        if self._digest.hexdigest() != part.mark.sha256:
            self.close()
            raise MachineError(f"piece {part.piece} arrived damaged")
        self._folder.finish(part.piece, part.mark)
        self._file = None
        self._release()
        self.done.add(part.piece)
        self.frames += part.mark.frames
        return True

    def close(self) -> None:
        """Discard what is not finished."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            self._file = None
            self._release()

    def _open(self, piece: int) -> BinaryIO:
        self._path = self._folder.piece_path(piece).with_suffix(".piece.part")
        self._digest = hashlib.sha256()
        with leaving.creating(self._path) as self._release:
            self._file = self._path.open("wb")
        return self._file
