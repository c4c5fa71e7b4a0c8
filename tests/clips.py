"""Short videos to test with."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import av


def write_clip(path: Path, frames: int = 30, width: int = 56, height: int = 34, rate: int = 25) -> Path:
    """An H.264 video with a mono AAC track of about the same length; every frame differs."""
    import av

    from swiftvr_trt.export.moving_picture import synthetic_frame
    from swiftvr_trt.runtime.media.colour import converted

    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=48000, layout="mono")
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(synthetic_frame(index, height, width), format="rgb24")
            container.mux(video.encode(converted(frame, format="yuv420p")))  # left to the encoder, threads damage some
        for index in range(frames * 48000 // rate // 1024):
            sound = av.AudioFrame.from_ndarray(np.full((1, 1024), 0.1 * (index % 7), np.float32), "fltp", "mono")
            sound.sample_rate, sound.pts = 48000, index * 1024
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path


def video_pts(path: Path) -> list[Fraction]:
    """When the frames of a video are shown, in seconds."""
    import av

    with av.open(path) as container:
        return [seconds(frame) for frame in container.decode(video=0)]


def seconds(moment: av.VideoFrame | av.Packet[Any]) -> Fraction:
    """The time of a frame or packet that has one."""
    assert moment.pts is not None
    assert moment.time_base is not None
    return moment.pts * moment.time_base
