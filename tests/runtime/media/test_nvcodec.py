"""NVDEC and NVENC, as far as they can be tested without a GPU. The rest is in tests/gpu."""

from __future__ import annotations

import subprocess
import sys

import av

from swiftvr_trt.runtime.media.nvcodec import nvdec, nvenc


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


def test_av_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, swiftvr_trt.runtime.media.nvcodec; print('av' in sys.modules, 'cuda' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
