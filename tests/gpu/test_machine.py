"""How readings of a GPU are judged, and which machines skip a test of video."""

from __future__ import annotations

import pytest

from swiftvr_trt.runtime.devices.driver import has_driver

from .machine import MOST_GROWTH_PER_CHUNK, growth_per_chunk, need_video, no_encoder

MIB = 1 << 20
SOFTWARE = "encoding in software with libx264, not on the GPU: "


def _taken(growth: int, chunks: int) -> list[int]:
    """Readings of a GPU with a desktop on it: windows come (50 MiB) and go (300 MiB)."""
    others = [0, 0, 50, 50, 50, 55, 0, -300, -300, -250, -250]
    return [(other + growth * index * chunks // MIB) * MIB for index, other in enumerate(others)]


def test_growth_of_ours_stands_out_from_memory_that_others_take() -> None:
    assert growth_per_chunk(_taken(0, 100), 100) == 0
    assert growth_per_chunk(_taken(43_200, 100), 100) > MOST_GROWTH_PER_CHUNK  # a frame that came in, each time


@pytest.mark.skipif(has_driver(), reason="this machine has a driver")
def test_without_the_driver_video_is_skipped_with_the_doctors_reason() -> None:
    for purpose in ("decode", "encode"):
        with pytest.raises(pytest.skip.Exception, match=f"{purpose} video on the GPU.*NVIDIA driver.* missing"):
            need_video(purpose)


@pytest.mark.parametrize(
    ("capability", "words", "skipped"),
    [
        ("9.0", "No capable devices found", True),  # an H100 has no NVENC, whatever FFmpeg calls that
        ("6.1", "OpenEncodeSessionEx failed: unsupported device (2): (no details)", True),
        ("8.6", "Driver does not support the required nvenc API version. Required: 13.0 Found: 12.1", True),
        ("8.6", "The minimum required Nvidia driver for nvenc is 570.0 or newer", True),
        ("8.6", "InitializeEncoder failed: invalid param (8)", False),  # our fault
    ],
)
def test_a_missing_encoder_skips_and_a_failing_one_does_not(capability: str, words: str, skipped: bool) -> None:
    assert bool(no_encoder((SOFTWARE + words,), capability)) == skipped
    assert no_encoder((), capability) == ""
