"""A folder of images, or a single image, as a sink."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from ...errors import MediaError, MisuseError
from . import colour
from .base import Colour, CopiedPacket, Item, Pixels, SinkOptions, SourceInfo, check_pixels
from .codecs import BEST_QUANTISER
from .files import PartFile, PartFolder, explain_write_errors

_ENCODERS = {
    ".png": ("png", "rgb24"),
    ".jpg": ("mjpeg", "yuvj444p"),
    ".jpeg": ("mjpeg", "yuvj444p"),
    ".bmp": ("bmp", "bgr24"),
    ".tif": ("tiff", "rgb24"),
    ".tiff": ("tiff", "rgb24"),
    ".webp": ("libwebp", "bgra"),
}
"""Suffix -> encoder and pixel format. JPEG keeps chroma at full resolution; WebP is lossless."""

_JFIF = Colour(matrix=5, full=True)
"""JPEG is always BT.601 in full range."""


class ImageSink:
    """Writes an image per picture, named as in the source, or numbered from 1 for a video. See `base.Sink`."""

    def __init__(
        self, path: Path, info: SourceInfo, width: int, height: int, options: SinkOptions, *, single: bool = False
    ) -> None:
        """single: `path` is one image, not a folder.

        Raises `MisuseError` for options of a video, `MediaError` or `OutputError` if `path` cannot be written.
        """
        _check_options(path, options)
        if single and info.frames is not None and info.frames > 1:
            raise MediaError(
                f"the output {path} is one image, but the input has {info.frames} frames: name a folder or a video"
            )
        self._path, self._width, self._height = path, width, height
        self._suffix = path.suffix.lower() if single else _suffix(info)
        self._count = 0
        self._committed = False
        self._part = PartFile(path, options.overwrite) if single else PartFolder(path, options.overwrite)
        self._copied = [str(copy) for copy in info.copies if options.wants(copy)]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about this output."""
        return (f"images cannot hold {', '.join(self._copied)}: left out",) if self._copied else ()

    @property
    def description(self) -> str:
        """One line for people."""
        return f"{self._suffix.lstrip('.')} images {self._width}x{self._height}"

    def write(self, item: Item) -> None:
        """Write one image. Copied packets are dropped."""
        if isinstance(item, CopiedPacket):
            return
        data = encode_image(check_pixels(item.pixels, self._width, self._height), self._suffix)
        with explain_write_errors(self._path):
            if isinstance(self._part, PartFolder):
                name = item.stamp.name or f"{item.stamp.index + 1:06d}"
                with (self._part.path / f"{name}{self._suffix}").open("xb") as file:
                    file.write(data)
            elif self._count:
                raise MediaError(
                    f"the output {self._path} is one image, but a second frame follows: name a folder or a video"
                )
            else:
                self._part.write(data)
        self._count += 1

    def commit(self) -> None:
        """Move the images to their final place."""
        if not self._count:
            raise MediaError(f"no frame was written to {self._path}, expected at least one: nothing was kept")
        self._part.commit()
        self._committed = True

    def __enter__(self) -> ImageSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._committed:
            self._part.discard()


def encode_image(pixels: Pixels, suffix: str) -> bytes:
    """uint8 [H, W, 3] RGB as the content of an image file. Raises `MediaError` if the format cannot hold it."""
    import av
    from av.video.reformatter import VideoReformatter

    name, pix_fmt = _ENCODERS[suffix]
    height, width = pixels.shape[:2]
    context: Any = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt, context.framerate = width, height, pix_fmt, 1
    context.thread_count = 1
    if name == "mjpeg":
        context.qscale, context.global_quality = True, BEST_QUANTISER
        context.color_range, context.colorspace = colour.FULL, _JFIF.matrix
    if name == "libwebp":
        context.options = {"lossless": "1"}
    tags = _JFIF if name == "mjpeg" else Colour(matrix=colour.RGB, full=True)
    frame = colour.from_rgb(pixels, tags, pix_fmt, VideoReformatter())
    frame.pts = 0
    try:
        packets = [*context.encode(frame), *context.encode(None)]
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"a {width}x{height} frame cannot be written as {suffix}: choose another format") from error
    return b"".join(bytes(packet) for packet in packets)


def _suffix(info: SourceInfo) -> str:
    """The suffix of the source images if this FFmpeg can write their format, else `.png`."""
    from av.codec.codec import Codec, UnknownCodecError

    if info.image_suffix in _ENCODERS:
        try:
            Codec(_ENCODERS[info.image_suffix][0], "w")
        except UnknownCodecError:
            return ".png"
        return info.image_suffix
    return ".png"


def _check_options(path: Path, options: SinkOptions) -> None:
    given = [name for name in ("codec", "crf", "preset", "pix_fmt") if getattr(options, name) is not None]
    if given or options.extra:
        raise MisuseError(
            f"the output {path} is an image or a folder of images, which takes no "
            f"{' or '.join(given or ['encoder options'])}: leave that out, or name a video such as out.mp4"
        )
