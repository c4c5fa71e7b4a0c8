"""A folder of images, or a single one, as a sink."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from swiftvr_trt.errors import MediaError, MisuseError

from . import colour
from .base import Colour, CopiedPacket, Item, Picture, Pixels, SinkOptions, SourceInfo, check_pixels
from .codecs import BEST_QUANTISER
from .files import PartFile, PartFolder, writing
from .images_in import SUFFIXES

_ENCODERS = {
    ".png": ("png", "rgb24"),
    ".jpg": ("mjpeg", "yuvj444p"),
    ".jpeg": ("mjpeg", "yuvj444p"),
    ".bmp": ("bmp", "bgr24"),
    ".tif": ("tiff", "rgb24"),
    ".tiff": ("tiff", "rgb24"),
    ".webp": ("libwebp", "bgra"),
}
"""Encoder and pixel format by suffix. JPEG keeps its colour at full resolution; WebP is written without loss."""

_JFIF = Colour(matrix=5, full=True)
"""JPEG is BT.601 in full range by definition, whatever its size."""


class ImageSink:
    """One image per picture: named as in the source, or numbered from 1 if that was a video. See `base.Sink`.

    `single`: `path` is the one image itself.
    """

    def __init__(
        self, path: Path, info: SourceInfo, width: int, height: int, options: SinkOptions, *, single: bool = False
    ) -> None:
        _check_options(path, options)
        if single and info.frames is not None and info.frames > 1:
            raise MediaError(
                f"the output {path} is one image, but the input has {info.frames}: give the name of a folder or a video"
            )
        self._path, self._width, self._height = path, width, height
        self._suffix = path.suffix.lower() if single else _suffix(info)
        self._count = 0
        self._committed = False
        self._file = PartFile(path, options.overwrite) if single else None
        self._folder = None if single else PartFolder(path, options.overwrite)
        self._copied = [str(copy) for copy in info.copies if options.wants(copy)]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of this output."""
        return (f"images hold no {', no '.join(self._copied)}",) if self._copied else ()

    @property
    def description(self) -> str:
        """One line for people."""
        return f"{self._suffix.lstrip('.')} images {self._width}x{self._height}"

    def write(self, item: Item) -> None:
        """Write one image. Passengers have no place here."""
        if isinstance(item, CopiedPacket):
            return
        data = encode_image(check_pixels(item.pixels, self._width, self._height), self._suffix)
        with writing(self._path):
            if self._file is None:
                self._write_to_folder(item, data)
            elif self._count:
                raise MediaError(f"a second picture arrived for the image {self._path}: give the name of a folder")
            else:
                self._file.write(data)
        self._count += 1

    def _write_to_folder(self, picture: Picture, data: bytes) -> None:
        assert self._folder is not None
        name = picture.stamp.name or f"{picture.stamp.index + 1:06d}"
        with (self._folder.path / f"{name}{self._suffix}").open("xb") as file:
            file.write(data)

    def commit(self) -> None:
        """Give the images their final place."""
        if not self._count:
            raise MediaError(f"no picture was written to {self._path}, expected at least one: nothing is kept")
        (self._file or self._folder).commit()  # type: ignore[union-attr]  # there is always one of them
        self._committed = True

    def __enter__(self) -> ImageSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._committed:
            (self._file or self._folder).discard()  # type: ignore[union-attr]


def encode_image(pixels: Pixels, suffix: str) -> bytes:
    """uint8 [H, W, 3] RGB as the bytes of an image file."""
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
        raise MediaError(f"a {width}x{height} picture cannot be written as {suffix}: choose another format") from error
    return b"".join(bytes(packet) for packet in packets)


def _suffix(info: SourceInfo) -> str:
    """Images keep their format where it can be written; a video becomes PNG."""
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
            f"the output {path} is images ({', '.join(s.lstrip('.') for s in SUFFIXES)}), which take no "
            f"{' or '.join(given or ['encoder options'])}: leave that out, or name a video such as out.mp4"
        )
