"""Opens sources and sinks: decides what a path stands for, and refuses what cannot be combined."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from ...errors import MediaError, MisuseError
from .base import SinkOptions, Source, SourceInfo
from .contents import holds_video
from .files import check_parent
from .image_names import about_pattern, is_image
from .images_in import ImageSource
from .images_out import ImageSink
from .pipes import is_input_pipe, is_output_pipe
from .source_options import SourceOptions
from .trim import Trim
from .trimmed import open_trimmed
from .video_out import VideoSink


def open_source(
    path: str | Path,
    *,
    rate: Fraction | None = None,
    gpu: int | None = None,
    surfaces: bool = False,
    trim: Trim | None = None,
    options: SourceOptions | None = None,
) -> Source:
    """Open a video file, a folder of images, a single image, or a pipe; `-` is standard input.

    rate: images per second (default 25). gpu: number of the NVIDIA GPU that decodes a video, if it can; None decodes in
    software. surfaces: its frames may stay there, see `VideoSource.keep_on_gpu`. trim: the part to read; None for all.
    Raises `MediaError` if `path` holds no images or video, `MisuseError` for a rate of a video, or a part without a
    frame.
    """
    path, options = Path(path), options or SourceOptions()
    is_pipe = is_input_pipe(path)
    if not (is_pipe or path.exists()):
        hint = about_pattern(path)
        raise MediaError(f"the input {path} does not exist, expected a video or a folder of images{hint}")
    if not (is_pipe or path.is_dir() or path.is_file()):
        raise MediaError(f"the input {path} is a device, expected a video, a folder of images or a pipe")
    if rate is not None and rate <= 0:
        raise MisuseError(f"the rate is {rate}, expected frames per second above 0, e.g. 25")
    if is_read_as_images(path, options):
        _refuse_for_images(path, options)
        return ImageSource(path, rate, trim, options)
    if rate is not None:
        raise MisuseError(f"a rate was given for {path}, but a video has its own: leave out the rate")
    return open_trimmed(path, trim or Trim(), gpu, options, surfaces=surfaces)


def is_read_as_images(path: Path, options: SourceOptions | None = None) -> bool:
    """True for a folder, and for a file with the name of an image unless it is a pipe, raw video, or moves."""
    is_raw = options is not None and options.raw is not None
    return path.is_dir() or (is_image(path) and not (is_raw or is_input_pipe(path) or holds_video(path)))


def _refuse_for_images(path: Path, options: SourceOptions) -> None:
    if options.raw is not None:
        raise MisuseError(f"--in-format was given for {path}, expected a file or a pipe of raw video")
    if options.vf is not None:
        raise MisuseError(f"--vf was given for {path}, expected a video: make one of the images first")
    if options.tonemap:
        raise MisuseError(f"--tonemap was given for {path}, expected a video: make one of the images first")
    if options.deinterlace not in ("auto", "no"):
        raise MisuseError(
            f"--deinterlace {options.deinterlace} was given for {path}, expected a video: make one of the images first"
        )


def open_sink(
    path: str | Path, info: SourceInfo, width: int, height: int, options: SinkOptions | None = None
) -> VideoSink | ImageSink:
    """Open the output for pictures of `width` x `height` pixels from the source with this `info`.

    `-` is standard output; it and named pipes get a video. Otherwise the name decides what is written: a folder of
    images if `path` is a folder, ends with a slash or has no suffix; one image if it has the suffix of an image; else a
    video. Keep the source open as long as the sink, which copies its streams. Nothing appears under `path` before
    `commit()`, except in a pipe.
    Raises `MediaError` or `MisuseError` if the output cannot be written in that form, `OutputError` if the place cannot
    be written to.
    """
    if width < 1 or height < 1:
        raise MisuseError(f"the output size is {width}x{height}, expected at least 1x1")
    ends_with_slash = str(path).endswith(("/", "\\"))
    path, options = Path(path), options or SinkOptions()
    if is_output_pipe(path):
        return VideoSink(path, info, width, height, options)
    if options.out_format is not None:
        raise MisuseError(
            f"--out-format is {options.out_format!r}, but the output is {path}: the name of a file decides its format; "
            "the option is for pipes"
        )
    if not options.trial:
        check_parent(path)
    _refuse_own_input(path, info)
    if ends_with_slash or path.is_dir() or not path.suffix:
        return ImageSink(path, info, width, height, options)
    if is_image(path):
        return ImageSink(path, info, width, height, options, single=True)
    return VideoSink(path, info, width, height, options)


def _refuse_own_input(path: Path, info: SourceInfo) -> None:
    """Raise if writing to `path` would replace the input, whatever names or links lead to it."""
    inputs = {_identity(file) for file in (info.path, *info.files)} - {None}
    if _identity(path) in inputs:
        raise MediaError(f"the output {path} is the input itself: choose another name")
    if path.is_dir():
        stems = {file.stem.casefold() for file in info.files}
        for file in path.iterdir():
            written = file.stem.casefold() in stems if info.image_suffix else file.stem.isdecimal()
            if written and _identity(file) in inputs:
                raise MediaError(f"the output {file} is the input itself: choose another folder")


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells files apart, also behind links; None if there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
