"""Which source and which sink a name stands for, and what may not be combined."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from swiftvr_trt.errors import MediaError, MisuseError

from .base import Sink, SinkOptions, Source, SourceInfo
from .files import check_parent
from .images_in import ImageSource, is_image
from .images_out import ImageSink
from .probe import open_video
from .video_in import VideoSource
from .video_out import VideoSink


def source(path: Path, rate: Fraction | None, threads: int, gpu: int | None) -> Source:
    """See `open_source`."""
    if str(path) == "-":
        raise MisuseError("input from standard input is not supported yet, expected the name of a file or a folder")
    if not path.exists():
        raise MediaError(f"the input {path} does not exist, expected a video or a folder of images")
    if rate is not None and rate <= 0:
        raise MisuseError(f"the rate is {rate}, expected pictures per second above 0, e.g. 25")
    if path.is_dir() or is_image(path):
        return ImageSource(path, rate)
    if rate is not None:
        raise MisuseError(f"{path} is a video and has its own rate: leave out the rate, it is for images only")
    return VideoSource(open_video(path, threads, gpu))


def sink(path: Path, info: SourceInfo, width: int, height: int, options: SinkOptions, *, folder: bool) -> Sink:
    """See `open_sink`."""
    if str(path) == "-":
        raise MisuseError("output to standard output is not supported yet, expected the name of a file or a folder")
    if width < 1 or height < 1:
        raise MisuseError(f"the output size is {width}x{height}, expected at least 1x1")
    check_parent(path)
    if path.exists() and info.path.exists() and path.samefile(info.path):
        raise MediaError(f"the output {path} is the input itself: choose another name")
    if folder or path.is_dir() or not path.suffix:
        return ImageSink(path, info, width, height, options)
    if is_image(path):
        return ImageSink(path, info, width, height, options, single=True)
    return VideoSink(path, info, width, height, options)
