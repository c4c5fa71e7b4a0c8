"""One piece on disk: its file, and the mark that makes it count. Marks go through a strict parser."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

from ....errors import MediaError
from ....outside import Door, read_json
from ....text import printable
from ...media.files import explain_write_errors
from .claims import Claims
from .input_watch import InputWatch
from .packets import PacketWriter
from .task import KnownInput

# tested with: test_store.py, which damages pieces and marks in every way

SUFFIX = ".segments"

_MAX = 1 << 62
_MAX_LINE = 250
_MARK_DOOR = Door("mark of a piece", MediaError, "the piece is restored again", max_bytes=1 << 16)


@dataclass(frozen=True)
class Mark:
    """A finished piece.

    begin, frames   number of its first frame in the output, and how many it has
    packets, size   of its file
    sha256          of its file
    time_base       seconds per tick of its packets, e.g. "1/1000"
    encoder         FFmpeg's name of what has encoded it
    header          of that encoder, see `Encoding`
    clock           the last frame's time stamp in these ticks
    last            the stream ended with this piece
    follows         what `clock` of the piece before must be, as the index says; None if no index was used
    run, damage     which reading of the input it belongs to, and what was damaged in the input until its end; texts
    shortfall       what the input lacks, if this is the last piece; empty if it is complete
    lost_captions, lost_side_data   as in `PictureEncoder`
    """

    begin: int
    frames: int
    packets: int
    size: int
    sha256: str
    time_base: str
    clock: int
    last: bool
    encoder: str
    header: str = ""
    follows: int | None = None
    run: str = ""
    damage: tuple[str, ...] = ()
    shortfall: str = ""
    lost_captions: int = 0
    lost_side_data: tuple[str, ...] = ()

    @property
    def by_index(self) -> bool:
        return self.follows is not None


def segments_folder(output: Path) -> Path:
    """Where the pieces of `output` lie."""
    place = Path(os.path.realpath(output))
    return place.with_name(place.name + SUFFIX)


class PieceFolder:
    """The folder of an output's pieces, for a process that adds to it on behalf of the one that holds the `Store`.

    shared: with other processes, so that a piece must be claimed. marks: of the finished pieces, by number. watch: of
    the input; None if somebody else has it in view.
    """

    def __init__(self, output: Path, *, shared: bool = False) -> None:
        self.output, self.folder = output, segments_folder(output)
        self.claims = Claims(self.folder)
        self.marks: dict[int, Mark] = {}
        self.watch: InputWatch | None = None
        self._shared = shared

    @property
    def frames(self) -> int:
        """Frames in all finished pieces."""
        return sum(mark.frames for mark in list(self.marks.values()))

    @property
    def last(self) -> int | None:
        """Number of the stream's last piece; None until it is finished."""
        return min((number for number, mark in self.marks.items() if mark.last), default=None)

    @property
    def known(self) -> KnownInput | None:
        """What the pieces are made of."""
        return self.watch.known if self.watch else None

    def check_input(self) -> None:
        """Raise `InputChangedError` if the input is not the one any more that the other pieces are made of."""
        if self.watch is not None:
            self.watch.check()

    def may_begin(self, piece: int) -> bool:
        """Claim a piece if others might. False if somebody else restores it."""
        with explain_write_errors(self.output):
            return not self._shared or self.claims.take(piece)

    def writer(self, piece: int) -> PacketWriter:
        """Begin a piece. Write its packets, then hand its mark to `finish`."""
        return PacketWriter(self.piece_path(piece).with_suffix(".piece.part"), self.output)

    def finish(self, piece: int, mark: Mark) -> None:
        """Keep a piece whose file is written: give it its name, then write its mark. Raises as `check_input`."""
        self.check_input()
        with explain_write_errors(self.output):
            self.piece_path(piece).with_suffix(".piece.part").replace(self.piece_path(piece))
            write_whole(self.mark_path(piece), json.dumps(asdict(mark)))
        self.marks[piece] = mark

    def all_marks(self) -> dict[int, Mark]:
        """The marks, and those of pieces that others have finished meanwhile, unless they are damaged."""
        found = dict(self.marks)
        for path in self.folder.glob("*.json") if self._shared else ():
            if is_mark(path) and int(path.stem) not in found:
                with suppress(MediaError, OSError):
                    found[int(path.stem)] = parse_mark(path)
        return found

    def recall(self, piece: int) -> None:
        """Take a piece that another process finished in this folder, if it did. Raises `MediaError` as `parse_mark`."""
        if piece >= 0 and self.mark_path(piece).exists():
            self.marks[piece] = parse_mark(self.mark_path(piece))

    def end(self, piece: int, shortfall: str) -> None:
        """Make a finished piece the last one: the input ends there, or cannot be read any further.

        Raises as `check_input`.
        """
        self.check_input()
        mark = replace(self.marks[piece], last=True, shortfall=kept_line(shortfall))
        with explain_write_errors(self.output):
            write_whole(self.mark_path(piece), json.dumps(asdict(mark)))
        self.marks[piece] = mark

    def sift(self) -> bool:
        """Drop the pieces that cannot be part of the output.

        Those behind its last one; and where a piece does not follow the one before, all from there on that an index
        found, since it was wrong. True if there were such.
        """
        wrong = next((piece for piece in sorted(self.marks) if not self._follows(piece)), None)
        misled = {piece for piece, mark in self.marks.items() if wrong is not None and piece >= wrong and mark.by_index}
        for piece in misled:
            self.drop(piece)
        for piece in [piece for piece in self.marks if self.last is not None and piece > self.last]:
            self.drop(piece)
        return bool(misled)

    def _follows(self, piece: int) -> bool:
        """Whether a piece begins where the one before ends, as far as can be told."""
        mark, before = self.marks[piece], self.marks.get(piece - 1)
        return before is None or not mark.by_index or before.clock == mark.follows

    def drop(self, piece: int) -> None:
        """Remove a piece, finished or not."""
        self.marks.pop(piece, None)
        with explain_write_errors(self.output):
            self.mark_path(piece).unlink(missing_ok=True)
            self.piece_path(piece).unlink(missing_ok=True)

    def piece_path(self, piece: int) -> Path:
        return self.folder / f"{piece:05}.piece"

    def mark_path(self, piece: int) -> Path:
        return self.folder / f"{piece:05}.json"


def kept_line(text: str) -> str:
    """A line about the input as a mark keeps it: printable, and not too long."""
    return printable(text)[:_MAX_LINE]


def is_mark(path: Path) -> bool:
    """Whether a JSON file in the folder is a mark, by its name."""
    return path.stem.isdecimal()


def write_whole(path: Path, text: str) -> None:
    """Replace a small file such that it is whole or absent, also after a power failure."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def parse_mark(path: Path) -> Mark:
    """Read a mark. Raises `MediaError`, which names what is wrong."""
    fields = read_json(path, _MARK_DOOR)
    mark = Mark(
        begin=fields.integer("begin", 0, _MAX),
        frames=fields.integer("frames", 1, _MAX),
        packets=fields.integer("packets", 1, _MAX),
        size=fields.integer("size", 1, _MAX),
        sha256=fields.digest("sha256"),
        time_base=fields.text("time_base"),
        clock=fields.integer("clock", -_MAX, _MAX),
        last=fields.flag("last"),
        follows=fields.optional_integer("follows", -_MAX, _MAX),
        encoder=fields.text("encoder"),
        header=fields.text("header"),
        run=fields.text("run"),
        damage=fields.texts("damage", 64),
        shortfall=fields.text("shortfall"),
        lost_captions=fields.integer("lost_captions", 0, _MAX),
        lost_side_data=fields.texts("lost_side_data", 64),
    )
    try:
        positive = Fraction(mark.time_base) > 0
    except (ValueError, ZeroDivisionError):
        positive = False
    if not positive:
        fields.refuse("time_base", "a fraction of a second")
    return mark
