"""The chunk planner: as many frames out as in for every length, and the published protocol where it applies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle.geometry import check_clip_len
from swiftvr_trt.runtime.stream.chunks import Chunk, Kind, next_chunk


def plan(clip_len: int, frames: int, *, eager: bool = True, parity: bool = False) -> list[Chunk]:
    """All chunks of a stream. eager: a live source, planned after every frame; otherwise all frames are there."""
    chunks: list[Chunk] = []
    waiting = owed = 0

    def run(*, ended: bool) -> None:
        nonlocal waiting, owed
        while chunk := next_chunk(clip_len, first=not chunks, waiting=waiting, owed=owed, ended=ended, parity=parity):
            chunks.append(chunk)
            waiting, owed = waiting - chunk.frames, owed - chunk.emit

    for _ in range(frames):
        waiting, owed = waiting + 1, owed + 1
        if eager:
            run(ended=False)
    run(ended=True)
    return chunks


clip_lens = st.integers(1, 12).map(lambda latents: 4 * latents)


@given(clip_lens, st.integers(0, 400), st.booleans())
def test_as_many_frames_come_out_as_went_in(clip_len: int, frames: int, parity: bool) -> None:
    chunks = plan(clip_len, frames, parity=parity)
    assert sum(chunk.frames for chunk in chunks) == frames
    assert sum(chunk.emit for chunk in chunks) == frames


@given(clip_lens, st.integers(0, 400))
def test_a_live_source_is_cut_like_a_file(clip_len: int, frames: int) -> None:
    assert plan(clip_len, frames, eager=True) == plan(clip_len, frames, eager=False)


@given(clip_lens, st.integers(1, 400), st.booleans())
def test_every_chunk_keeps_to_the_protocol(clip_len: int, frames: int, parity: bool) -> None:
    latents = clip_len // 4
    chunks = plan(clip_len, frames, parity=parity)
    for number, chunk in enumerate(chunks):
        assert (chunk.frames + chunk.repeats) % 4 == 0
        assert chunk.skip == (3 if number == 0 else 0)
        assert 0 < chunk.emit <= 4 * chunk.latents - chunk.skip
        assert chunk.window == (latents if chunk.kind is Kind.MIDDLE else latents + 1)
        assert (chunk.kind is Kind.FIRST) <= (number == 0)
        assert (chunk.kind is Kind.MIDDLE) <= (number > 0 and chunk.repeats == 0)
        assert (chunk.kind is Kind.LAST) <= (number == len(chunks) - 1)


@pytest.mark.parametrize(
    ("clip_len", "frames", "kinds", "latents"),
    [
        (8, 37, "FMMML", [3, 2, 2, 2, 1]),  # stream_clip8.npz
        (24, 28, "FL", [7, 1]),
        (24, 29, "FL", [7, 1]),
        (24, 52, "FML", [7, 6, 1]),
        (24, 51, "FL", [7, 7]),
        (24, 1, "L", [7]),
        (24, 25, "L", [7]),
        (24, 26, "FL", [7, 1]),
        (4, 9, "FL", [2, 1]),
    ],
)
def test_known_streams(clip_len: int, frames: int, kinds: str, latents: list[int]) -> None:
    chunks = plan(clip_len, frames)
    assert "".join(chunk.kind.name[0] for chunk in chunks) == kinds
    assert [chunk.latents for chunk in chunks] == latents


def test_a_short_stream_is_padded_with_repeats_or_as_published_with_zeros() -> None:
    assert plan(24, 21) == [Chunk(Kind.LAST, frames=21, repeats=7, context=0, skip=3, emit=21)]
    assert plan(24, 21, parity=True) == [Chunk(Kind.LAST, frames=21, repeats=3, context=1, skip=3, emit=21)]


def test_a_chunk_is_planned_as_soon_as_its_frames_are_there() -> None:
    assert next_chunk(24, first=True, waiting=27, owed=27, ended=False) is None
    first = next_chunk(24, first=True, waiting=28, owed=28, ended=False)
    assert first == Chunk(Kind.FIRST, 28, 0, 0, 3, 25)
    assert next_chunk(24, first=False, waiting=23, owed=26, ended=False) is None
    assert next_chunk(24, first=False, waiting=24, owed=27, ended=False) == Chunk(Kind.MIDDLE, 24, 0, 0, 0, 24)


@pytest.mark.parametrize("clip_len", [0, -4, 2, 6, 25, 2048])
def test_clip_lengths_that_the_protocol_lacks_are_refused(clip_len: int) -> None:
    with pytest.raises(MisuseError, match="multiple of 4"):
        check_clip_len(clip_len)
