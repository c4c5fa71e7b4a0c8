"""Short videos for tests and measurements."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swiftvr_trt.runtime.stream.session import Frame

if TYPE_CHECKING:
    import av


def moving(count: int, height: int, width: int) -> list[Frame]:
    """One picture with gradients and edges that moves to the right. By numpy alone: who measures needs no torch."""
    y, x = np.mgrid[0:height, 0:width]
    waves = (np.sin(x / 7.0) * np.cos(y / 11.0), np.sign(np.sin(x / 23.0 + y / 17.0)), np.sin((x + y) / 40.0))
    levels = np.rint(127.5 + 100.0 * np.stack(waves, axis=-1)).astype(np.uint8)
    return [np.roll(levels, 2 * index, axis=1) for index in range(count)]


def write_video(path: Path, frames: Iterable[Frame], **options: str) -> None:
    """Frames of one size as H.264 by software, 25 per second. options: those of x264."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.pix_fmt = "yuv420p"
        for index, frame in enumerate(frames):
            if index == 0:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def write_clip(path: Path, frames: int = 30, width: int = 56, height: int = 34, rate: int = 25) -> Path:
    """An H.264 video with a mono AAC track of about the same length; every frame differs."""
    import av

    from swiftvr_trt.export.verify import synthetic_frame

    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=48000, layout="mono")
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(synthetic_frame(index, height, width), format="rgb24")
            container.mux(video.encode(frame))
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
