"""What would fit: the expected answers follow from manifests whose memory is set by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swiftvr_trt.engines.bundle.manifest import Manifest, Toolchain
from swiftvr_trt.runtime.devices.what_fits import shortage_message, what_fits
from swiftvr_trt.runtime.stream.plan import plan_memory
from tests.engines.fakes import RECIPE, fake_stages

GB = 1_000_000_000


def manifest(
    *, weights: int = 0, arena: int = 0, target: str = "rtx5090", precision: str = "fp16", clip_len: int = 24
) -> Manifest:
    """A bundle for 1920x1080 with frames, latents, one file with these weights, and this arena, in bytes."""
    recipe = replace(RECIPE, width=1920, height=1080, clip_len=clip_len, precision=precision, target=target)
    stages = tuple(replace(s, file="all.engine", arena_bytes=arena, weight_bytes=weights) for s in fake_stages(recipe))
    return Manifest(recipe, Toolchain("test", "TensorRT-RTX", "1.0", "12.0"), stages, ())


def option(found: tuple[str, ...], name: str) -> str | None:
    return next((f.removeprefix(f"--{name} ") for f in found if f.startswith(f"--{name} ")), None)


def test_the_largest_resolution_that_fits_is_named() -> None:
    full = manifest(arena=8 * GB)
    # Half the sides make a quarter of the pixels, hence of the arena; 2/3 of the sides make 4/9.
    assert option(what_fits(full, 540, 960, 3 * GB), "resolution") == "960x540"
    assert option(what_fits(full, 540, 960, int(4.3 * GB)), "resolution") == "1280x720"
    assert option(what_fits(full, 540, 960, 100_000), "resolution") is None


def test_the_longest_clip_that_fits_is_named() -> None:
    full = manifest(arena=0)
    needed = {c: plan_memory(manifest(clip_len=c), 540, 960).gpu_bytes for c in (24, 20, 16, 12)}
    assert needed[24] > needed[20] > needed[16] > needed[12]
    for clip_len in (20, 16, 12):
        assert option(what_fits(full, 540, 960, needed[clip_len]), "clip-len") == str(clip_len)
        assert option(what_fits(full, 540, 960, needed[clip_len] - 1), "clip-len") == str(clip_len - 4)


def test_only_precisions_of_the_target_are_suggested() -> None:
    heavy = manifest(weights=10 * GB)
    assert option(what_fits(heavy, 540, 960, 6 * GB), "precision") == "fp8"
    assert option(what_fits(heavy, 540, 960, int(4.5e9) + 10**9), "precision") == "fp8"
    assert option(what_fits(heavy, 540, 960, int(3.5e9)), "precision") == "nvfp4"
    assert option(what_fits(manifest(weights=10 * GB, target="rtx4090"), 540, 960, int(3.5e9)), "precision") is None
    assert option(what_fits(manifest(weights=10 * GB, target="rtx3090"), 540, 960, 6 * GB), "precision") == "int8"


def test_the_bundle_itself_is_never_suggested() -> None:
    found = what_fits(manifest(), 540, 960, 100 * GB)
    assert option(found, "resolution") == "1600x900"
    assert option(found, "clip-len") == "20"


@pytest.mark.parametrize(
    ("free", "words"),
    [
        (3 * GB, ["1920x1080, fp16", "3.00 GB are available", "960x540 frames", "--resolution 960x540"]),
        (1000, ["0.0 MB are available", "use a GPU with more memory"]),
        (None, ["the GPU has less"]),
    ],
)
def test_the_message_says_what_is_needed_what_is_available_and_what_to_do(free: int | None, words: list[str]) -> None:
    full = manifest(arena=8 * GB)
    message = shortage_message(full, 540, 960, free)
    assert f"needs {plan_memory(full, 540, 960).gpu_bytes / 1e9:.2f} GB" in message
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize("overlap", [False, True])
def test_other_streams_count_and_the_advice_suits_them(overlap: bool) -> None:
    """A smaller build that would fit alone is of no use beside them, nor is leaving out --overlap."""
    full = manifest(arena=8 * GB)
    needed = plan_memory(full, 540, 960, overlap=overlap).gpu_bytes + 3 * GB
    message = shortage_message(full, 540, 960, needed - GB // 10, overlap=overlap, others=[GB, 2 * GB])
    assert (
        f"needs {needed / 1e9:.2f} GB for 960x540 frames in 3 streams or tiles{' with --overlap' * overlap}" in message
    )
    assert message.endswith(
        "; close other programs on the GPU, or use fewer streams; for tiles, choose a smaller output"
    )
