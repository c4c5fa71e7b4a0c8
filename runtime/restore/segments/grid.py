"""Divides the restored frames of a stream into pieces. Pure.

A piece is a whole number of chunks, so each can be restored by itself (`runtime/stream/cuts`). Where pieces begin
depends on the bundle and the frame rate only, never on the length of the stream, which may be unknown until it ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from ....engines.bundle.manifest import Manifest
from ...stream.cuts import Cut, begin_of, cut_at

PIECE_S = 30
"""Length of a piece in seconds. An interruption costs at most one piece; a piece costs an encoder's start and, if it is
not restored right after the one before, the chunks that rebuild the state: about 6 % of 30 s."""


@dataclass(frozen=True)
class Grid:
    """Where pieces begin. chunks: of the stream, per piece."""

    manifest: Manifest
    chunks: int

    @classmethod
    def for_rate(cls, manifest: Manifest, rate: Fraction, seconds: float = PIECE_S) -> Grid:
        """Pieces of about `seconds` of a video with `rate` frames per second, at least one chunk."""
        return cls(manifest, max(1, round(Fraction(seconds) * rate / manifest.recipe.clip_len)))

    def begin(self, piece: int) -> int:
        """Number of a piece's first frame."""
        return begin_of(self.manifest, piece * self.chunks)[1]

    def taken(self, piece: int) -> int:
        """How many input frames the pieces before this one take."""
        return begin_of(self.manifest, piece * self.chunks)[0]

    def piece_of(self, frame: int) -> int:
        """The piece that holds a restored frame."""
        clip_len = self.manifest.recipe.clip_len
        estimate = max(frame - self.begin(1), -1) // (clip_len * self.chunks) + 1
        assert self.begin(estimate) <= frame < self.begin(estimate + 1)
        return estimate

    def count(self, frames: int) -> int:
        """Number of pieces of a stream with this many frames, which is at least 1."""
        return self.piece_of(frames - 1) + 1

    def entry(self, piece: int, frames: int | None) -> Cut:
        """Where the stream is continued to restore a piece. frames: of the whole stream; None if unknown.

        Usually the cut at the piece's beginning. Near the end of the stream the chunk before that cut may be short of
        frames, and then the chunk before it is the last that a stream can begin with.
        """
        cut = cut_at(self.manifest, piece * self.chunks)
        if piece and (frames is None or cut.frame > frames):
            return cut_at(self.manifest, piece * self.chunks - 1)
        return cut


@dataclass(frozen=True)
class Span:
    """Neighbouring pieces, `first` up to `stop` - 1. stop: None for the end of the stream."""

    first: int
    stop: int | None


def missing_spans(done: Iterable[int], last: int | None) -> Iterator[Span]:
    """The pieces still to restore, joined where they are neighbours.

    done: numbers of finished pieces. last: number of the last piece; None if unknown.
    """
    finished = sorted(done)
    begin = 0
    for piece in finished:
        if piece > begin:
            yield Span(begin, piece)
        begin = piece + 1
    if last is None:
        yield Span(begin, None)
    elif begin <= last:
        yield Span(begin, last + 1)
