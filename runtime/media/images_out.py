"""A folder of images, or a single image, as a sink."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError, MisuseError
from ..stream.frames import RGB, RGB16, FrameForm
from . import colour
from .alpha import with_alpha
from .base import Colour, CopiedPacket, Item, OutputForm, SinkOptions, SourceInfo
from .codecs import BEST_QUANTISER
from .files import PartFile, PartFolder, TrialFile, TrialFolder, explain_write_errors
from .kept import about_lost
from .photo_tags import HOLDS_TAGS, TagsLost, about_tags, write_tags
from .planes import check_pixels

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

_DEEP = {"png": "rgb48be", "tiff": "rgb48le"}
"""Encoders that hold 16 bits, and how."""

_ALPHA = {"png": "rgba", "tiff": "rgba", "libwebp": "bgra"}
_DEEP_ALPHA = {"png": "rgba64be", "tiff": "rgba64le"}
"""Encoders that hold transparency, in 8 and in 16 bits, and how."""

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
        self._bits = info.bits
        if info.alpha and _ENCODERS[self._suffix][0] not in _ALPHA:
            raise MediaError(
                f"{self._suffix} images hold no transparency: write .png, .webp or .tiff, or leave it out with "
                "--alpha drop"
            )
        self._count, self._lost = 0, set[str]()
        self._committed = False
        self._keeps_tags = options.metadata
        self._tags_lost = TagsLost(self._suffix)
        will_lose = options.trial and options.metadata and info.tagged and self._suffix not in HOLDS_TAGS
        self._about_tags = (about_tags(f"{self._suffix} images"),) if will_lose else ()
        self._part = _part(path, options, single=single)
        self._unwanted = [str(copy) for copy in info.copies if not options.wants(copy.kind)]
        self._copied = [str(copy) for copy in info.copies if options.wants(copy.kind)]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about this output. Complete after `commit()`."""
        copied = (f"images cannot hold {', '.join(self._copied)}: left out",) if self._copied else ()
        fewer = f"the input has {self._bits} bits per component, {self._suffix} images 8: .png and .tiff keep 16"
        shallow = (fewer,) * (self._bits > 8 and self.frames is RGB)
        return (*copied, *shallow, *about_lost(self._lost), *self._about_tags, *self._tags_lost.notes)

    @property
    def description(self) -> str:
        """One line for people."""
        return f"{self._suffix.lstrip('.')} images {self._width}x{self._height}"

    @property
    def frames(self) -> FrameForm:
        """The form in which pictures are written: of 16 bits if the input has more than 8 and the files hold them."""
        return RGB16 if self._bits > 8 and _ENCODERS[self._suffix][0] in _DEEP else RGB

    surfaces = False
    """Images are encoded on the host."""

    @property
    def form(self) -> OutputForm:
        """What this output is."""
        left_out = [(name, "as asked for") for name in self._unwanted]
        left_out += [(name, "images cannot hold it") for name in self._copied]
        name, pix_fmt = _ENCODERS[self._suffix]
        return OutputForm("images", name, _DEEP[name] if self.frames is RGB16 else pix_fmt, left_out=tuple(left_out))

    def write(self, item: Item) -> None:
        """Write one image. Copied packets are dropped."""
        if isinstance(item, CopiedPacket):
            return
        pixels = check_pixels(item.pixels, self._width, self._height)
        self._lost |= item.stamp.lost
        if item.stamp.alpha is not None:
            pixels = with_alpha(pixels, item.stamp.alpha)
        data = encode_image(pixels, self._suffix)
        if self._keeps_tags:
            self._tags_lost.note(item.stamp.tags)
            data = write_tags(data, self._suffix, item.stamp.tags.for_restored(self._width, self._height))
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


def encode_image(pixels: NDArray[Any], suffix: str) -> bytes:
    """uint8 or uint16 RGB or RGBA [H, W, 3 or 4] as the content of an image file, in 16 bits if the format holds them.

    Raises `MediaError` if the format cannot hold the picture.
    """
    import av
    from av.video.reformatter import VideoReformatter

    name, pix_fmt = _ENCODERS[suffix]
    deep = pixels.dtype == np.uint16
    if pixels.shape[2] == 4:
        pix_fmt = (_DEEP_ALPHA if deep else _ALPHA).get(name, pix_fmt)
    elif deep:
        pix_fmt = _DEEP.get(name, pix_fmt)
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


def _part(path: Path, options: SinkOptions, *, single: bool) -> PartFile | TrialFile | PartFolder:
    """The temporary output, or what stands in for it in a trial."""
    if single:
        return (TrialFile if options.trial else PartFile)(path, options.overwrite)
    return (TrialFolder if options.trial else PartFolder)(path, options.overwrite)


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
