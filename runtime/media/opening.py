"""Opens sources and sinks: what a path stands for, and what cannot be combined."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from ...errors import MediaError, MisuseError
from .base import Sink, SinkOptions, Source, SourceInfo
from .files import check_parent
from .images_in import ImageSource, is_image
from .images_out import ImageSink
from .probe import open_video
from .video_in import VideoSource
from .video_out import VideoSink


def open_source(path: str | Path, *, rate: Fraction | None = None, threads: int = 0, gpu: int | None = None) -> Source:
    """Open a video file, a folder of images, or a single image.

    rate: images per second (default 25); `MisuseError` for a video, which has its own. threads: of the decoder, 0 for
    one per core. gpu: number of the NVIDIA GPU that decodes a video, if it can; None decodes in software. `MediaError`
    if there is nothing to read.
    """
    if str(path) == "-":
        raise MisuseError("standard input is not supported yet as input, expected a file or a folder: name one")
    path = Path(path)
    if not path.exists():
        raise MediaError(f"the input {path} does not exist, expected a video or a folder of images")
    if rate is not None and rate <= 0:
        raise MisuseError(f"the rate is {rate}, expected frames per second above 0, e.g. 25")
    if path.is_dir() or is_image(path):
        return ImageSource(path, rate)
    if rate is not None:
        raise MisuseError(f"{path} is a video and has its own rate: leave out the rate, it is for images only")
    return VideoSource(open_video(path, threads, gpu))


def open_sink(path: str | Path, info: SourceInfo, width: int, height: int, options: SinkOptions | None = None) -> Sink:
    """Open the output for pictures of `width` x `height` pixels from the source of `info`.

    The name decides what is written: one image if it has an image suffix; a folder of images if it is a folder, ends
    with a slash or has no suffix; else a video. Keep the source open as long as the sink, which copies its streams.
    Nothing appears under `path` before `commit()`. `MediaError` if the output cannot be written in that form,
    `OutputError` if the place cannot be written to.
    """
    if str(path) == "-":
        raise MisuseError("standard output is not supported yet as output, expected a file or a folder: name one")
    if width < 1 or height < 1:
        raise MisuseError(f"the output size is {width}x{height}, expected at least 1x1")
    ends_with_slash = str(path).endswith(("/", "\\"))
    path, options = Path(path), options or SinkOptions()
    check_parent(path)
    if path.exists() and info.path.exists() and path.samefile(info.path):
        raise MediaError(f"the output {path} is the input itself: choose another name")
    if ends_with_slash or path.is_dir() or not path.suffix:
        return ImageSink(path, info, width, height, options)
    if is_image(path):
        return ImageSink(path, info, width, height, options, single=True)
    return VideoSink(path, info, width, height, options)
