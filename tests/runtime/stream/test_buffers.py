"""Buffers: what a stream holds follows from the manifest, the size of its frames and their forms."""

from __future__ import annotations

from itertools import product

import pytest

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle.manifest import NETWORK_STAGES, Manifest
from swiftvr_trt.engines.bundle.pixel_formats import NV12, P010, RGB24, RGB48, YUV420P, PixelFormat
from swiftvr_trt.runtime.stream.buffers import BufferKind, Forms, frame_size, plan_buffers, used_stages
from tests.conftest import BundleFactory


@pytest.fixture(scope="module")
def manifest(mini_bundle: BundleFactory) -> Manifest:
    return mini_bundle(clip_len=8).manifest


def test_buffers_are_those_of_the_manifest(manifest: Manifest) -> None:
    buffers = plan_buffers(manifest, 33, 57)
    assert buffers["frames_in_0"].shape == (12, 33, 57, 3)
    assert buffers["frames_out_1"].shape == (12, 132, 100, 3)
    assert buffers["latents_0"].shape == (3, 12, 10, 8)
    assert sum(spec.kind is BufferKind.STATE for spec in buffers.values()) == 2 * 9 + 2 * 9


def test_a_stream_beyond_all_memory_is_refused_before_anything_is_allocated(mini_bundle: BundleFactory) -> None:
    with pytest.raises(MisuseError, match=r"needs \d+ GB of buffers"):
        plan_buffers(mini_bundle(clip_len=24).manifest, 16384, 65536)


@pytest.mark.parametrize(("take", "give"), list(product([RGB24, RGB48, YUV420P, NV12, P010], repeat=2)))
def test_frames_have_their_forms_and_pass_through_the_stages_of_them(
    manifest: Manifest, take: PixelFormat, give: PixelFormat
) -> None:
    buffers = plan_buffers(manifest, 34, 58, Forms(take, give))
    assert frame_size(buffers) == (34, 58)
    assert used_stages(buffers) == {take.take, *NETWORK_STAGES, give.give}
    colours = {name.partition("_")[0] for name, spec in buffers.items() if spec.kind is BufferKind.COLOUR}
    assert colours == {side for side, form in (("take", take), ("give", give)) if form.yuv}


def test_planes_need_even_sides(manifest: Manifest) -> None:
    plan_buffers(manifest, 33, 57, Forms(RGB24, NV12))  # those of the output are
    with pytest.raises(MisuseError, match="nv12 frames have even sides, 57x33 has not; use rgb24 or rgb48"):
        plan_buffers(manifest, 33, 57, Forms(NV12, RGB24))


@pytest.mark.parametrize("overlap", [False, True])
def test_a_chunk_that_is_decoded_beside_the_next_one_has_buffers_of_its_own(manifest: Manifest, overlap: bool) -> None:
    kinds = [spec.kind for spec in plan_buffers(manifest, 34, 58, overlap=overlap).values()]
    assert [kinds.count(kind) for kind in (BufferKind.RESTORED, BufferKind.DECODED)] == ([2, 1] if overlap else [1, 0])
