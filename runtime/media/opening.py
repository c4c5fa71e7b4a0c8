"""Opens sources and sinks: decides what a path stands for, and refuses what cannot be combined."""

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


def open_source(path: str | Path, *, rate: Fraction | None = None, gpu: int | None = None) -> Source:
    """Open a video file, a folder of images, or a single image.

    rate: images per second (default 25). gpu: number of the NVIDIA GPU that decodes a video, if it can; None decodes in
    software. Raises `MediaError` if `path` holds no images or video, `MisuseError` for a rate of a video.
    """
    if str(path) == "-":
        raise MisuseError("the input is standard input (-), which is not supported yet: name a file or a folder")
    path = Path(path)
    if not path.exists():
        raise MediaError(f"the input {path} does not exist, expected a video or a folder of images")
    if rate is not None and rate <= 0:
        raise MisuseError(f"the rate is {rate}, expected frames per second above 0, e.g. 25")
    if path.is_dir() or is_image(path):
        return ImageSource(path, rate)
    if rate is not None:
        raise MisuseError(f"a rate was given for {path}, but a video has its own: leave out the rate")
    return VideoSource(open_video(path, gpu))


def open_sink(path: str | Path, info: SourceInfo, width: int, height: int, options: SinkOptions | None = None) -> Sink:
    """Open the output for pictures of `width` x `height` pixels from the source with this `info`.

    The name decides what is written: a folder of images if `path` is a folder, ends with a slash or has no suffix; one
    image if it has the suffix of an image; else a video. Keep the source open as long as the sink, which copies its
    streams. Nothing appears under `path` before `commit()`.
    Raises `MediaError` or `MisuseError` if the output cannot be written in that form, `OutputError` if the place cannot
    be written to.
    """
    if str(path) == "-":
        raise MisuseError("the output is standard output (-), which is not supported yet: name a file or a folder")
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
