"""NVDEC and NVENC, as far as they can be tested without a GPU. The rest is in tests/gpu."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import av
import pytest

from swiftvr_trt.runtime.media import Picture, open_source
from swiftvr_trt.runtime.media.nvcodec import nvdec, nvenc, surface_encoder
from tests.clips import write_clip
from tests.cuda_emulator import emulated


def test_software_encoders_have_a_counterpart_on_the_gpu() -> None:
    """As far as this FFmpeg has them; lossless and professional formats have none."""
    for encoder, expected in (("libx264", "h264_nvenc"), ("libx265", "hevc_nvenc"), ("libsvtav1", "av1_nvenc")):
        found = nvenc(encoder)
        if expected in av.codecs_available:
            assert found is not None
            assert found.name == expected
        else:
            assert found is None
    assert nvenc("ffv1") is None


def test_decoded_frames_are_copied_to_the_host() -> None:
    settings = nvdec(2)
    assert (settings.device_id, settings.is_hw_owned) == (2, False)


@pytest.mark.cuda_emulator
def test_frames_that_stay_on_the_gpu_share_the_context_of_the_bundle() -> None:
    with emulated():
        settings = nvdec(0, surfaces=True)
        assert settings.is_hw_owned
        assert settings.options == surface_encoder(0).options == {"primary_ctx": "0", "current_ctx": "1"}


@pytest.mark.cuda_emulator
@pytest.mark.parametrize("surfaces", [False, True])
def test_software_decodes_what_the_gpu_does_not(tmp_path: Path, surfaces: bool) -> None:
    """The emulated driver has no NVDEC, and FFmpeg goes on in software by itself."""
    clip = write_clip(tmp_path / "in.mp4", 5)
    with emulated() as emulator:
        emulator.allow_pageable()
        with open_source(clip, gpu=0, surfaces=surfaces) as source:
            assert source.notes == ("decoding in software, not on the GPU: NVDEC does not decode this h264 video",)
            assert sum(isinstance(item, Picture) for item in source) == 5
        gc.collect()


def test_av_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, swiftvr_trt.runtime.media.nvcodec; print('av' in sys.modules, 'cuda' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
