"""Cuts: a stream that is continued at a chunk gives the bytes of the uninterrupted one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from swiftvr_trt import BundleError, MediaError, MisuseError, Restorer
from swiftvr_trt.engines.bundle.manifest import Manifest
from swiftvr_trt.runtime.stream.cuts import Cut, chunk_of, cut_at
from tests.conftest import BundleFactory
from tests.sweeps import every, everything

from .streams import LANDSCAPE, clip, feed_all


def with_reach(manifest: Manifest, encoder: int | None, decoder: int | None) -> Manifest:
    reach = {"encode": encoder, "decode": decoder}
    stages = tuple(replace(stage, reach=reach.get(stage.name)) for stage in manifest.stages)
    return replace(manifest, stages=stages)


@pytest.mark.parametrize(
    ("clip_len", "chunk", "expected"),
    [
        (24, 0, Cut(0, 0, 0, 0, 0)),
        (24, 1, Cut(1, 28, 25, 0, 0)),
        (24, 2, Cut(2, 52, 49, 0, 0)),
        (24, 3, Cut(3, 76, 73, 0, 28)),
        (24, 10, Cut(10, 244, 241, 164, 196)),  # two whole chunks, behind 8 latents that are only encoded
        (8, 10, Cut(10, 84, 81, 20, 52)),  # four whole chunks
        (4, 20, Cut(20, 84, 81, 20, 52)),  # eight
        (32, 10, Cut(10, 324, 321, 260, 292)),  # one
    ],
)
def test_cuts_by_hand(mini_bundle: BundleFactory, clip_len: int, chunk: int, expected: Cut) -> None:
    manifest = mini_bundle().manifest
    manifest = replace(with_reach(manifest, 8, 8), recipe=replace(manifest.recipe, clip_len=clip_len))
    assert cut_at(manifest, chunk) == expected


def test_every_frame_belongs_to_the_chunk_that_begins_last(mini_bundle: BundleFactory) -> None:
    manifest = mini_bundle(clip_len=8).manifest
    for frame in range(100):
        chunk = chunk_of(manifest, frame)
        assert cut_at(manifest, chunk).frame <= frame < cut_at(manifest, chunk + 1).frame


@pytest.mark.parametrize(
    ("clip_len", "parity"), [(4, False), (8, False), (24, False), (8, True), *([(4, True), (24, True)] * everything())]
)
def test_every_cut_continues_to_the_byte(mini_bundle: BundleFactory, clip_len: int, parity: bool) -> None:
    """Every third cut, the first and the last; the published protocol with 8 frames. All of them in a campaign."""
    frames = clip(24 * 5 + 7 if clip_len == 24 else 90, LANDSCAPE)
    with Restorer.open(mini_bundle(clip_len=clip_len, parity=parity), threads=1) as restorer:
        whole = list(restorer.restore(frames))
        chunks = range(chunk_of(restorer.manifest, len(frames)) + 1)
        with restorer.session() as session:
            for cut in map(restorer.cut, every(24 // max(clip_len, 8), chunks)):
                session.begin_at(cut, iter(frames[cut.lead : cut.frame]))
                restored = feed_all(session, frames[cut.frame :]) + session.flush()
                assert len(restored) == len(whole) - cut.emitted
                assert np.array_equal(restored, whole[cut.emitted :])


def test_without_what_precedes_the_cut_the_bytes_differ(mini_bundle: BundleFactory) -> None:
    frames = clip(90)
    with Restorer.open(mini_bundle(clip_len=4), threads=1) as restorer, restorer.session() as session:
        whole = list(restorer.restore(frames))

        def same(encoder: int, decoder: int) -> bool:
            cut = cut_at(with_reach(restorer.manifest, encoder, decoder), 18)
            session.begin_at(cut, frames[cut.lead : cut.frame])
            restored = feed_all(session, frames[cut.frame :]) + session.flush()
            return np.array_equal(restored, whole[cut.emitted :])

        assert same(8, 8)
        assert not same(1, 8)
        assert not same(8, 1)


def test_a_bundle_that_does_not_say_its_reach_is_refused(mini_bundle: BundleFactory) -> None:
    with pytest.raises(BundleError, match=r"how far stage encode remembers.*rebuild it: swiftvr-export"):
        cut_at(with_reach(mini_bundle().manifest, None, 8), 3)


def test_misuse_is_one_line_and_the_session_goes_on(restorer: Restorer) -> None:
    frames = clip(60)
    whole = list(restorer.restore(frames))
    cut = restorer.cut(4)
    with pytest.raises(MisuseError, match="chunk is -1, expected 0 or more"):
        restorer.cut(-1)
    with restorer.session() as session:
        for wrong in ([], frames[cut.lead : cut.frame - 1]):
            with pytest.raises(MisuseError, match=f"{len(wrong)} frames precede the cut, expected {cut.frame}"):
                session.begin_at(cut, wrong)
        with pytest.raises(MediaError, match="a frame has the shape"):
            session.begin_at(cut, [np.zeros((1, 1), np.uint8)])
        session.feed(frames[0])
        with pytest.raises(MisuseError, match=r"a stream is under way .* flush\(\) or reset\(\)"):
            session.begin_at(cut, frames[: cut.frame])
        session.reset()
        session.begin_at(cut, frames[cut.lead :])  # more frames than needed: the rest is left alone
        restored = feed_all(session, frames[cut.frame :]) + session.flush()
        assert np.array_equal(restored, whole[cut.emitted :])
