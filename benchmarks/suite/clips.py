"""The clips to measure with: made, read and identified."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from ...errors import MediaError
from ...runtime.media import Picture, open_source
from ...runtime.media.colour import converted
from ...runtime.stream.session import Frame
from .protocols import MOVING, SAMPLE, Protocol
from .record import Clip

SAMPLE_CLIP = Path(__file__).resolve().parents[2] / "export" / "sample.mp4"
_FASTEST = {"preset": "veryfast", "threads": "1"}
"""One thread, so that the same frames always give the same file."""


def moving(count: int, height: int, width: int) -> list[Frame]:
    """As `moving_frames`, all at once."""
    return list(moving_frames(count, height, width))


def moving_frames(count: int, height: int, width: int) -> Iterator[Frame]:
    """A picture with gradients and edges that moves to the right by two pixels per frame."""
    y, x = np.mgrid[0:height, 0:width]
    waves = (np.sin(x / 7.0) * np.cos(y / 11.0), np.sign(np.sin(x / 23.0 + y / 17.0)), np.sin((x + y) / 40.0))
    levels = np.rint(127.5 + 100.0 * np.stack(waves, axis=-1)).astype(np.uint8)
    for index in range(count):
        yield np.roll(levels, 2 * index, axis=1)


def write_video(path: Path, frames: Iterable[Frame], **options: str) -> None:
    """Encode frames of one size as H.264 in software, 25 per second. options: those of x264."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.pix_fmt = "yuv420p"
        for index, frame in enumerate(frames):
            if index == 0:
                stream.height, stream.width = frame.shape[:2]
            rgb = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(converted(rgb, format=stream.pix_fmt)))
        container.mux(stream.encode(None))


def clip_file(protocol: Protocol, folder: Path, given: Path | None = None) -> Path:
    """Where the input of a protocol is, or will be. given: a file to use instead. New files go to `folder`."""
    made = folder / f"{MOVING}-{protocol.input_width}x{protocol.input_height}-{protocol.frames}.mp4"
    return given or (SAMPLE_CLIP if protocol.clip == SAMPLE else made)


def obtain_clip(protocol: Protocol, folder: Path, given: Path | None = None) -> tuple[Path, Clip]:
    """The file of `clip_file`, made if need be, and what it is. Raises `MediaError` if it holds no frame."""
    path = clip_file(protocol, folder, given)
    if given is None and protocol.clip == MOVING and not path.exists():
        frames = moving_frames(protocol.frames, protocol.input_height, protocol.input_width)
        write_video(path, frames, **_FASTEST)
    return path, describe_clip(path, protocol.frames)


def describe_clip(path: Path, most: int) -> Clip:
    """What a clip is. most: its frames that are used."""
    count, (height, width), rate = look_at_frames(path, most)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Clip(path.stem, digest, width, height, count, rate)


def look_at_frames(path: Path, most: int) -> tuple[int, tuple[int, int], float]:
    """How many frames there are, up to `most`, their height and width, and how many there are per second."""
    count, shape = 0, (0, 0)
    with open_source(path) as source:
        rate = float(source.info.rate or 0)
        for item in source:
            if isinstance(item, Picture):
                count, shape = count + 1, (item.pixels.shape[0], item.pixels.shape[1])
                if count == most:
                    break
    if not count:
        raise MediaError(f"{path}: there are no frames in it, expected a video; name another file")
    return count, shape, rate


def count_frames(path: Path) -> int:
    """The frames of a video. Raises `MediaError` if there are none."""
    with open_source(path) as source:
        count = sum(isinstance(item, Picture) for item in source)
    if not count:
        raise MediaError(f"{path}: there are no frames in it, expected a restored video")
    return count


def read_frames(path: Path, count: int) -> list[Frame]:
    """The first `count` frames of a video, or all that there are, as RGB."""
    with open_source(path) as source:
        pictures = (item for item in source if isinstance(item, Picture))
        return [item.pixels for item in islice(pictures, count)]


def write_lossless(path: Path, frames: Iterable[Frame]) -> None:
    """Encode frames of one size as FFV1, 25 per second, with colours at full size."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.pix_fmt = "yuv444p"
        for index, frame in enumerate(frames):
            if index == 0:
                stream.height, stream.width = frame.shape[:2]
            rgb = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(converted(rgb, format=stream.pix_fmt)))
        container.mux(stream.encode(None))
