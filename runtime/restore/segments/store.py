"""`OUTPUT.segments`: the finished pieces of an unfinished output.

    job.json        what decides the result; a resume with anything else is refused
    00012.piece     the packets of a piece
    00012.json      its mark, written last: a piece without a mark does not count
    00012.claim     some process restores it, while several share the video
    lock            held by the process that works on the output

Nothing here is trusted: marks go through a strict parser, and the digest of a piece is checked before it is kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from .... import leaving
from ....engines.bundle.files import sha256
from ....engines.bundle.lease import is_locked
from ....errors import MediaError, MisuseError, OutputError
from ....outside import Door, read_json
from ....text import LineCallback
from ...media.files import explain_write_errors, sweep_leftovers
from ...media.picture_encoder import EncodedPicture
from ...media.readback import count_shown
from .grid import Span, missing_spans
from .packets import read_packets
from .piece import Mark, PieceFolder, is_mark, parse_mark, segments_folder, write_whole

FORMAT = 2

_JOB, _LOCK = "job.json", "lock"
_OURS = re.compile(r"\d{5,}\.(claim|(piece|json)(\.part)?)|job\.json(\.part)?|lock")
_LITTER = re.compile(
    r"\._.*|\.DS_Store|\.directory|(eh)?thumbs\.db|desktop\.ini|@eaDir|\.(nfs|fuse_hidden)[0-9a-f]+", re.IGNORECASE
)
"""What file managers and file systems leave in any folder. It does not matter, and goes with the folder."""

_JOB_DOOR = Door("record of an unfinished run", MediaError, "start over with --no-resume", max_bytes=1 << 20)


class Store(PieceFolder):
    """The pieces of one output, of which one process at a time is in charge.

    Open it with `Store.open`; close it when done, which keeps finished pieces. misled: the index has turned out to be
    wrong where several processes relied on it. without: what messages add to "the same command" that goes on with the
    pieces: empty, or to leave out the option that would start over again.
    """

    def __init__(self, output: Path, lock: FileLock) -> None:
        super().__init__(output)
        self._lock = lock
        self._release = leaving.hold(str(self.folder), self._leave, leaving.Turn.FOLDERS)
        self.misled, self.without = False, ""
        self._ours = False  # until the record says so: what belongs to another run is not touched

    @classmethod
    def open(cls, output: Path, identity: Mapping[str, str], *, resume: bool, say: LineCallback) -> Store:
        """Open or create the folder, and check the pieces in it.

        identity: what decides the result, by names for people. resume: keep finished pieces; False removes them. say:
        gets a line for each piece that is damaged and will be restored again.
        Raises `MediaError` if the pieces are of another identity, if the folder holds other files, or if another
        process works on this output; `OutputError` if it cannot be written.
        """
        folder = segments_folder(output)
        _check_ours(folder, output)
        with explain_write_errors(output):
            folder.mkdir(exist_ok=True)
        store = cls(output, _locked(folder, output))
        try:
            place = Path(os.path.realpath(output))
            sweep_leftovers(place, place.parent, alone=True)  # whoever wrote them has let go of the lock
            if not resume:
                store.without = " without --no-resume"
                store._clear()
            store._begin(dict(identity), say)
        except BaseException:
            store.close()
            raise
        return store

    @property
    def damage(self) -> tuple[str, ...]:
        """What was damaged in the input, as far as it was read for the finished pieces."""
        by_run = {mark.run: mark.damage for _, mark in sorted(self.marks.items())}  # a later piece knows more
        return tuple(dict.fromkeys(line for lines in by_run.values() for line in lines))

    @property
    def shortfall(self) -> str | None:
        """What the input lacks; None if it is complete, or its end was not reached yet."""
        return next((mark.shortfall for mark in self.marks.values() if mark.last), "") or None

    @property
    def size(self) -> int:
        """Bytes of all finished pieces."""
        return sum(mark.size for mark in self.marks.values())

    def look_again(self) -> None:
        """Take the pieces that other processes finished in this folder meanwhile."""
        for path in self.folder.glob("*.json"):
            if is_mark(path):
                self.recall(int(path.stem))

    def missing(self, expected: int | None) -> list[Span]:
        """The pieces still to restore, after those were dropped that cannot be part of the output.

        One open-ended span if a wrong index had found some of those: the rest is read in order, by one process.

        expected: number of the last piece, as the index says; None if unknown. Where the input has ended counts more.
        """
        self.misled |= self.sift()
        spans = list(missing_spans(self.marks, expected if self.last is None else self.last))
        return [Span(spans[0].first, None)] if self.misled and spans else spans

    def packets(self, piece: int) -> Iterator[EncodedPicture]:
        """The packets of a finished piece. Raises `MediaError` if its file has changed since it was checked."""
        path = self.piece_path(piece)
        try:
            yield from read_packets(path)
        except (OSError, ValueError) as error:
            raise MediaError(
                f"{path} has changed since it was checked ({error}); run the same command again{self.without}"
            ) from error

    def remove(self) -> None:
        """Remove the folder with all pieces, once the output is complete or to start over. Closes the store."""
        self._clear()
        self.close()

    def close(self) -> None:
        """Let go of the folder. It stays if it holds finished pieces."""
        self._leave()
        self._release()

    def _leave(self) -> None:
        unused = self._ours and not any(map(is_mark, self.folder.glob("*.json")))  # of any process
        if unused:
            self._clear()
        self._lock.release()
        if unused:
            with suppress(OSError):
                (self.folder / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):
                self.folder.rmdir()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, identity: dict[str, str], say: LineCallback) -> None:
        where = self.folder / _JOB
        if where.exists():
            _check_identity(identity, where)
            self._ours = True
            self._check_pieces(say)
        else:
            self._clear()
            with explain_write_errors(self.output):
                write_whole(where, json.dumps({"format": FORMAT, "decides": identity}, indent=2) + "\n")
            self._ours = True

    def _check_pieces(self, say: LineCallback) -> None:
        """Take the marks whose pieces are intact. Removes everything else."""
        self.claims.forget()
        for path in sorted(self.folder.glob("*.json")):
            if not is_mark(path):
                continue
            piece = int(path.stem)
            try:
                mark = parse_mark(path)
                if not self.piece_path(piece).is_file() or sha256(self.piece_path(piece)) != mark.sha256:
                    raise MediaError(f"{self.piece_path(piece)} is damaged; the piece is restored again")
            except (MisuseError, OSError) as error:
                say(f"piece {piece}: {error}")
                self.drop(piece)
            else:
                self.marks[piece] = mark
        self.sift()
        kept = {self.piece_path(piece) for piece in self.marks}
        for path in (*self.folder.glob("*.part"), *self.folder.glob("*.piece")):
            if path not in kept:
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _clear(self) -> None:
        """Remove all that is ours but the lock, as far as that is possible. What others have put there stays."""
        self.marks.clear()
        found: list[Path] = []
        with suppress(OSError):
            found = sorted(self.folder.iterdir(), key=lambda path: path.name != _JOB)
        for path in found:  # job.json first: without it the rest does not count
            is_litter = _LITTER.fullmatch(path.name)
            with suppress(OSError):
                if is_litter and path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif is_litter or (_OURS.fullmatch(path.name) and path.name != _LOCK):
                    path.unlink(missing_ok=True)


def kept_pieces(output: Path, identity: Mapping[str, str] | None) -> tuple[Mark, ...]:
    """The finished pieces of an unfinished output, as far as can be told without reading them. Changes nothing.

    identity: as in `Store.open`; None if it is not known yet. Raises `MediaError` as `Store.open` does.
    """
    folder = segments_folder(output)
    _check_ours(folder, output)
    if is_locked(folder / _LOCK):
        raise _being_written(output)
    if not (folder / _JOB).exists():
        return ()
    if identity is not None:
        _check_identity(identity, folder / _JOB)
    found = []
    for path in sorted(folder.glob("*.json")):
        with suppress(MediaError, OSError):
            if path.name != _JOB and path.with_suffix(".piece").stat().st_size == (mark := parse_mark(path)).size:
                found.append(mark)
    return tuple(found)


def tidy(output: Path, *, keep_pieces: bool = True) -> None:
    """Remove what a killed run left of `output`, unless it finished a piece or is still alive.

    keep_pieces: False if an output that holds all of them needs them no more: the run was killed in its last moment.
    """
    folder = segments_folder(output)
    if not folder.is_dir():
        return
    with suppress(MisuseError, OutputError, OSError):
        _check_ours(folder, output)
        marks = sorted(filter(is_mark, folder.glob("*.json")))
        dropped = not (folder / _JOB).exists()  # see `_clear`
        if dropped or not marks or (not keep_pieces and _holds_all(output, marks)):
            store = Store(output, _locked(folder, output))
            store._ours = True
            if marks:
                store._clear()
            store.close()


def _holds_all(output: Path, marks: list[Path]) -> bool:
    """Whether an output was made of the pieces with these marks. May raise what reading them raises."""
    written = output.stat().st_mtime
    pieces = [parse_mark(path) for path in marks]
    complete = [int(path.stem) for path in marks] == list(range(len(marks))) and pieces[-1].last
    older = all(path.stat().st_mtime <= written for path in marks)
    return complete and older and count_shown(output) in (None, sum(mark.frames for mark in pieces))


def _check_identity(identity: Mapping[str, str], where: Path) -> None:
    """Raise `MediaError` if a record of an unfinished run says otherwise."""
    fields = read_json(where, _JOB_DOOR)
    fields.integer("format", FORMAT, FORMAT)
    before = fields.child("decides")
    differs = [
        f"{name} was {before.text(name) if name in before else 'not recorded'}, now {now}"
        for name, now in identity.items()
        if name not in before or before.text(name) != now
    ]
    if differs:
        raise MediaError(
            f"{where.parent} holds pieces of an unfinished run, but {'; '.join(differs)}: repeat that run to go on "
            "with it, or start over with --no-resume"
        )


def _being_written(output: Path) -> MediaError:
    return MediaError(f"another process is writing {output}: wait for it, or choose another output")


def _check_ours(folder: Path, output: Path) -> None:
    """Raise unless the folder is absent or holds nothing that a user may want to keep."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise MediaError(f"{folder} is not a folder, but the pieces of {output} belong there: move it away")
    if folder.is_dir():
        with explain_write_errors(output):
            names = sorted(path.name for path in folder.iterdir())
        others = [name for name in names if not (_OURS.fullmatch(name) or _LITTER.fullmatch(name))]
        if others:
            remedy = "move it to another place, and the pieces stay" if _JOB in names else "move the folder away"
            raise MediaError(f"{folder} holds {others[0]!r}, which is not a piece of an unfinished run: {remedy}")


def _locked(folder: Path, output: Path) -> FileLock:
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _being_written(output) from None
    except OSError as error:
        raise OutputError(f"cannot write {output}: {folder / _LOCK}: {error.strerror or error}") from error
    return lock


def free_bytes(folder: Path) -> int:
    """Free space on the disk of a folder, in bytes."""
    return shutil.disk_usage(folder).free
