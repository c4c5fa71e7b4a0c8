"""Short clips to measure with, and how much two clips agree. Needs NumPy and PyAV only, not torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from swiftvr_trt.runtime.stream.session import Frame

_WHITE = 255.0


def moving(count: int, height: int, width: int) -> list[Frame]:
    """A picture with gradients and edges that moves to the right by two pixels per frame."""
    y, x = np.mgrid[0:height, 0:width]
    waves = (np.sin(x / 7.0) * np.cos(y / 11.0), np.sign(np.sin(x / 23.0 + y / 17.0)), np.sin((x + y) / 40.0))
    levels = np.rint(127.5 + 100.0 * np.stack(waves, axis=-1)).astype(np.uint8)
    return [np.roll(levels, 2 * index, axis=1) for index in range(count)]


def psnr(ours: Sequence[Frame], theirs: Sequence[Frame]) -> float:
    """Of all frames together, against white, in dB; infinity if they are equal."""
    squares = [np.square(a.astype(np.float64) - b).mean() for a, b in zip(ours, theirs, strict=True)]
    error = float(np.mean(squares))
    return float("inf") if error == 0 else 10 * float(np.log10(_WHITE**2 / error))


def write_video(path: Path, frames: Iterable[Frame], **options: str) -> None:
    """Encode frames of one size as H.264 in software, 25 per second. options: those of x264."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.pix_fmt = "yuv420p"
        for index, frame in enumerate(frames):
            if index == 0:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
