"""The sink of a run in pieces: encodes restored pictures into one piece after another."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ....errors import MachineError, MediaError, SwiftVRError
from ...budget import CLOSING_S
from ...media import CopiedPacket, Item, Picture, Source
from ...media.encoder import Encoding, EncodingRequest, open_encoder
from ...media.ffmpeg_log import mute
from ...media.muxer import open_muxer
from ...media.picture_encoder import EncodedPicture, PictureEncoder
from ...media.timeline import ClockConverter
from ...media.video_out import container_format
from ...stream.frames import FrameForm, Surface
from .grid import Grid, Span
from .packets import PacketWriter
from .piece import Mark, PieceFolder, kept_line
from .same_encoder import as_before, check_encoder, surfaces_refused

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet


@dataclass(frozen=True)
class Before:
    """What comes before a span. by_index: its frames are found by the index, not by counting all before.

    clock: makes the converter to an encoder's time base that has seen the frames before.
    """

    clock: Callable[[Fraction], ClockConverter]
    by_index: bool


class PieceTakenError(SwiftVRError):
    """The next piece is somebody else's. Those before it are finished."""


class NoFrameError(MediaError):
    """The input ended before a span. shortfall: what it lacks; empty if it is complete."""

    def __init__(self, message: str, shortfall: str) -> None:
        super().__init__(message)
        self.shortfall = shortfall


@dataclass
class _OpenPiece:
    """A piece that is being written. begin: number of its first frame. header, follows: as in `Mark`."""

    number: int
    begin: int
    header: str
    follows: int | None
    encoder: PictureEncoder
    writer: PacketWriter

    def release(self) -> None:
        """Free the encoder: in PyAV, container and encoder keep each other until Python's cycle collector runs."""
        with mute():
            self.encoder.encoding.container.close()


class PieceSink:
    """Encodes the pictures of a span into pieces, each with an encoder of its own, so that it begins with a key frame.

    See `base.Sink`; `write` raises `PieceTakenError` where a later piece of the span is somebody else's. `commit`
    finishes the last piece; without it, the pieces finished before are kept. Pictures that belong to other spans are
    left out, and so are packets to copy: the joiner takes those from the input.
    """

    def __init__(
        self,
        store: PieceFolder,
        grid: Grid,
        span: Span,
        request: EncodingRequest,
        before: Before,
        pictures: Source,
    ) -> None:
        """pictures: the input, which says what was damaged so far."""
        self._pictures, self._run = pictures, uuid4().hex
        self._store, self._grid, self._span, self._request = store, grid, span, request
        self._format = container_format(store.output)
        self._next = span.first
        self._frames = range(grid.begin(span.first), sys.maxsize if span.stop is None else grid.begin(span.stop))
        self._before = before
        self._clock: ClockConverter | None = None
        self._piece: _OpenPiece | None = None
        self._busy = threading.Lock()
        self.notes: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """One line for people."""
        return self._piece.encoder.description if self._piece else "nothing yet"

    @property
    def takes(self) -> tuple[FrameForm, bool]:
        """The form in which pictures need no conversion to be encoded, and whether they may be surfaces.

        An encoder is opened to find out.
        """
        with mute():
            encoding = self._open()
            found = encoding.form, encoding.surfaces
            encoding.container.close()
        return found

    def write(self, item: Item) -> None:
        """Encode a picture."""
        if isinstance(item, CopiedPacket) or item.stamp.index not in self._frames:
            return
        with self._busy:
            if self._piece and item.stamp.index >= self._grid.begin(self._next):
                self._finish(last=False)
            piece = self._piece or self._begin(item)
            self._keep(piece, piece.encoder.encode(item))

    def commit(self) -> None:
        """Finish the span's last piece."""
        with self._busy:
            if self._piece is None:
                raise NoFrameError(
                    f"no frame was restored for {self._store.output}, expected at least one",
                    self._pictures.shortfall or "",
                )
            end = self._piece.begin + self._piece.encoder.count
            self._finish(last=self._span.stop is None or end < self._frames.stop)  # the input may end before the span

    def _begin(self, picture: Picture) -> _OpenPiece:
        if self._next != self._span.first and not self._store.may_begin(self._next):
            raise PieceTakenError(f"piece {self._next} was taken over")
        encoding = self._open()
        header = encoding.header  # as it is before the first picture
        try:
            codec = encoding.stream.codec_context.name
            check_encoder((codec, header), self._store.all_marks(), encoding.notes)
            if isinstance(picture.frame, Surface) and not encoding.surfaces:
                raise surfaces_refused(encoding.notes)
        except MachineError:
            with mute():
                encoding.container.close()
            raise
        self._clock = self._clock or self._before.clock(encoding.time_base)
        follows = self._clock.last if self._before.by_index else None
        encoder = PictureEncoder(encoding, self._request.width, self._request.height, self._clock)
        self.notes = encoding.notes
        self._piece = _OpenPiece(
            self._next, picture.stamp.index, header, follows, encoder, self._store.writer(self._next)
        )
        self._next += 1
        return self._piece

    def _open(self) -> Encoding:
        options = as_before(self._request.options, self._store.all_marks())
        return open_encoder(self._nowhere, replace(self._request, options=options))

    def _finish(self, *, last: bool) -> None:
        piece = self._piece
        assert piece is not None
        assert piece.encoder.clock.last is not None
        self._keep(piece, piece.encoder.finish())
        # Again: of two devices that begin together, the first to finish decides.
        check_encoder((piece.encoder.codec, piece.header), self._store.all_marks(), self.notes)
        piece.release()
        self._piece = None
        mark = Mark(
            begin=piece.begin,
            frames=piece.encoder.count,
            packets=piece.writer.packets,
            size=piece.writer.size,
            sha256=piece.writer.finish(),
            time_base=str(piece.encoder.encoding.time_base),
            clock=piece.encoder.clock.last,
            last=last,
            follows=piece.follows,
            encoder=piece.encoder.codec,
            header=piece.header,
            run=self._run,
            damage=tuple(map(kept_line, self._pictures.damage)),
            lost_captions=piece.encoder.lost_captions,
            lost_side_data=tuple(sorted(piece.encoder.lost_side_data)),
            shortfall=kept_line(self._pictures.shortfall or "") if last else "",
        )
        self._store.finish(piece.number, mark)

    def _keep(self, piece: _OpenPiece, packets: list[Packet[Any]]) -> None:
        for packet in packets:
            piece.writer.write(EncodedPicture.of(packet))

    def _nowhere(self) -> OutputContainer:
        """A container of the output's format that is never written: encoders are set up for one."""
        return open_muxer(io.BytesIO(), self._format)

    def __enter__(self) -> PieceSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._busy.acquire(timeout=CLOSING_S):  # else a thread is still in the encoder
            try:
                if self._piece is not None:
                    self._piece.writer.discard()
                    self._piece.release()
            finally:
                self._busy.release()
