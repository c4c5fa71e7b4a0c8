"""FFmpeg's frames as pictures to restore, and restored pictures as FFmpeg's frames.

A frame whose pixel format the bundle knows is copied plane by plane; the bundle converts it. Any other goes through RGB
of as many bits, converted by swscale (`colour`).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...engines.bundle.pixel_formats import NV12, P010, RGB48, YUV420P, YUV420P10
from ...errors import MediaError
from ..stream.frames import RGB, RGB16, AnyFrame, FrameForm, Planes, Surface, YuvColour
from . import colour
from .alpha import alpha_of, holds_alpha, with_alpha
from .base import Colour, Picture
from .siting import Siting, usual_siting
from .surfaces import SurfaceFrames

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.plane import VideoPlane

    from .colour import DisplayMatrix

_FORMS = {"yuv420p": YUV420P, "yuvj420p": YUV420P, "nv12": NV12, "yuv420p10le": YUV420P10, "p010le": P010}
"""FFmpeg's pixel formats that the bundle takes and gives as they are."""


def pixel_name(form: FrameForm) -> str:
    """FFmpeg's pixel format for frames in this form."""
    if not form.format.yuv:
        return "rgb48le" if form.format is RGB48 else "rgb24"
    return next(name for name, known in _FORMS.items() if known is form.format)


def bits_of(frame: VideoFrame) -> int:
    """Bits of the finest component."""
    return max(component.bits for component in frame.format.components)


def depth_of(pix_fmt: str) -> int:
    """Bits of the finest component of a pixel format."""
    from av.video.format import VideoFormat

    return max(component.bits for component in VideoFormat(pix_fmt).components)


def form_of_frame(frame: VideoFrame, siting: Siting, matrix: DisplayMatrix | None) -> FrameForm:
    """The form in which a video is restored whose frames are like this one, once they are upright."""
    form = _FORMS.get(frame.format.name)
    if form is None or not form.holds(frame.height, frame.width):
        return RGB16 if bits_of(frame) > 8 else RGB
    usable = colour.usable_matrix(int(frame.colorspace), frame.width, frame.height)
    return FrameForm(form, YuvColour(usable, colour.is_full(frame), turned(siting, matrix)))


def form_of_output(pix_fmt: str, tags: Colour, codec: str, size: tuple[int, int]) -> FrameForm:
    """The form in which an encoder gets its pictures. size: their width and height."""
    form = _FORMS.get(pix_fmt)
    if form is None or not form.holds(size[1], size[0]):
        return RGB16 if depth_of(pix_fmt) > 8 else RGB
    return FrameForm(form, YuvColour(tags.matrix, tags.full, usual_siting(codec)))


def turned(siting: Siting, matrix: DisplayMatrix | None) -> Siting:
    """The siting in a picture that `colour.upright` has turned."""
    if matrix is None:
        return siting
    across, down = siting
    a, b, c, d = matrix
    if colour.is_turned(matrix):
        across, down = down, across
        left, up = c < 0, b < 0
    else:
        left, up = a < 0, d < 0
    return (1 - across if left else across), (1 - down if up else down)


class DecodedPlanes(Planes):
    """The planes of a decoded frame in FFmpeg's memory, as they are stored there.

    `data` is a copy, made when it is first asked for; the frame is let go then. What shrinks a frame, or looks at its
    luma, needs none: at 3840x2160, it would take up to 25 MB.
    """

    _lent: tuple[NDArray[Any], ...]
    _sides: tuple[int, int]

    def __init__(self, frame: VideoFrame, form: FrameForm) -> None:
        """frame: in the pixel format of `form`."""
        vars(self).update(form=form, _lent=_layers(frame, form), _sides=(frame.height, frame.width))

    @cached_property
    def data(self) -> NDArray[Any]:
        packed = Planes.empty(self.form, *self.size)
        for target, source in zip(packed.layers, self._lent, strict=True):
            np.copyto(target, source)
        vars(self)["_lent"] = ()
        return packed.data

    @property
    def size(self) -> tuple[int, int]:
        return self._sides

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)

    @property
    def luma(self) -> NDArray[Any]:
        return self._lent[0][..., 0] if self._lent else super().luma

    @property
    def layers(self) -> tuple[NDArray[Any], ...]:
        return self._lent or super().layers


class FrameReader:
    """Makes pictures of one form of the frames of a video."""

    def __init__(self, form: FrameForm, siting: Siting) -> None:
        """siting: of the frames as they are stored."""
        from av.video.reformatter import VideoReformatter

        self._form, self._siting = form, siting
        self._reformatter = VideoReformatter()

    def read(self, frame: VideoFrame, matrix: DisplayMatrix | None) -> AnyFrame:
        """An upright picture; it may be `DecodedPlanes`. matrix: how to turn the frame."""
        form = self._form
        if not form.format.yuv:
            return colour.upright(colour.to_rgb(frame, self._reformatter, deep=form.format is RGB48), matrix)
        own = form_of_frame(frame, self._siting, matrix)
        alike = (own.format.yuv, own.format.bits, own.colour) == (True, form.format.bits, form.colour)
        if not alike or any(plane.line_size < 0 for plane in frame.planes):
            frame, own = self._converted(frame), form
        found = arranged(DecodedPlanes(frame, own), form)
        if matrix is None:
            return found
        height, width = found.size[::-1] if colour.is_turned(matrix) else found.size
        upright = Planes.empty(form, height, width)
        for target, source in zip(upright.layers, found.layers, strict=True):
            np.copyto(target, colour.upright(source, matrix))
        return upright

    def alpha(self, frame: VideoFrame, matrix: DisplayMatrix | None) -> NDArray[Any]:
        """How opaque the upright picture is."""
        return alpha_of(frame, matrix, self._reformatter, deep=self._form.format.wide)

    def _converted(self, frame: VideoFrame) -> VideoFrame:
        """A frame with other tags or in another pixel format than the first, as the first one is."""
        form = self._form
        tags = Colour(form.colour.matrix, full=form.colour.full)
        rgb = colour.to_rgb(frame, self._reformatter, deep=form.format.wide)
        return colour.from_rgb(rgb, tags, pixel_name(form), self._reformatter)


class FrameWriter:
    """Makes frames of one pixel format, with one set of tags, of pictures in any form."""

    def __init__(self, pix_fmt: str, tags: Colour) -> None:
        from av.video.reformatter import VideoReformatter

        self._pix_fmt, self._tags = pix_fmt, tags
        self._reformatter, self._surfaces = VideoReformatter(), SurfaceFrames()

    def frame(self, picture: Picture, width: int, height: int) -> VideoFrame:
        """Raises `MediaError` if the picture has another size."""
        form, alpha = picture.form, picture.stamp.alpha
        if isinstance(picture.frame, Surface):
            return self._surface(picture.frame, width, height)
        if not form.format.yuv:
            pixels = check_pixels(picture.pixels, width, height)
            if alpha is not None and holds_alpha(self._pix_fmt):
                pixels = with_alpha(pixels, alpha)
            return colour.from_rgb(pixels, self._tags, self._pix_fmt, self._reformatter)
        planes = check_planes(picture, width, height)
        frame = _frame_of(planes, self._pix_fmt if _FORMS.get(self._pix_fmt) is form.format else None)
        frame.colorspace = form.colour.matrix
        frame.color_range = colour.FULL if form.colour.full else colour.LIMITED
        if frame.format.name != self._pix_fmt or not self._agrees(form):
            rgb = colour.to_rgb(frame, self._reformatter, deep=form.format.wide)
            return colour.from_rgb(rgb, self._tags, self._pix_fmt, self._reformatter)
        frame.color_primaries, frame.color_trc = self._tags.primaries, self._tags.transfer
        return frame

    def _surface(self, surface: Surface, width: int, height: int) -> VideoFrame:
        if (
            surface.size != (height, width)
            or pixel_name(surface.form) != self._pix_fmt
            or not self._agrees(surface.form)
        ):
            found = f"{pixel_name(surface.form)} {surface.size[1]}x{surface.size[0]}"
            raise MediaError(
                f"a surface is {found}, expected {self._pix_fmt} {width}x{height} in the colours of the output: "
                "open the sink for its pictures"
            )
        frame = self._surfaces.frame(surface, self._pix_fmt)
        frame.colorspace = surface.form.colour.matrix
        frame.color_range = colour.FULL if surface.form.colour.full else colour.LIMITED
        frame.color_primaries, frame.color_trc = self._tags.primaries, self._tags.transfer
        return frame

    def _agrees(self, form: FrameForm) -> bool:
        return (form.colour.matrix, form.colour.full) == (self._tags.matrix, self._tags.full)


def check_planes(picture: Picture, width: int, height: int) -> Planes:
    """The frame of a picture in planes. Raises `MediaError` for another size."""
    frame, form = picture.frame, picture.form.format
    if not isinstance(frame, Planes) or frame.size != (height, width):
        raise MediaError(
            f"a picture is {form.name} {list(picture.pixels.shape)}, expected {list(form.shape(height, width))}: "
            "open the sink for the size of its pictures"
        )
    return frame


def arranged(planes: Planes, form: FrameForm) -> Planes:
    """Planes in a format of the same depth. NVDEC has chroma in one plane, decoders in software in two."""
    own = planes.form.format
    if own is form.format:
        return planes
    found = Planes.empty(form, *planes.size)
    for target, source in ((found.luma, planes.luma), (found.chroma, planes.chroma)):
        np.copyto(target, source // own.unit * form.format.unit, casting="same_kind")
    return found


def _frame_of(planes: Planes, pix_fmt: str | None) -> VideoFrame:
    """A new frame with a copy of these planes. pix_fmt: None for the usual one of their format."""
    from av.video.frame import VideoFrame

    height, width = planes.size
    frame = VideoFrame(width, height, pix_fmt or pixel_name(planes.form))
    for source, target in zip(planes.layers, _layers(frame, planes.form), strict=True):
        np.copyto(target, source)
    return frame


def _layers(frame: VideoFrame, form: FrameForm) -> tuple[NDArray[Any], ...]:
    """Views of a frame's planes, as `Planes.layers` has them, without the gaps between their rows."""
    height, width = frame.height, frame.width
    chroma = (height // 2, width // 2)
    shapes = [(height, width, 1), *([(*chroma, 2)] if form.format.interleaved else [(*chroma, 1)] * 2)]
    return tuple(_layer(plane, shape, form) for plane, shape in zip(frame.planes, shapes, strict=True))


def _layer(plane: VideoPlane, shape: tuple[int, int, int], form: FrameForm) -> NDArray[Any]:
    code = np.dtype(form.format.host_dtype)
    whole = np.frombuffer(plane, code)  # type: ignore[call-overload]
    steps = (plane.line_size, shape[2] * code.itemsize, code.itemsize)
    layer: NDArray[Any] = np.lib.stride_tricks.as_strided(whole, shape, steps)
    return layer


def check_pixels(pixels: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """`pixels` as C-contiguous uint8 or uint16 [height, width, 3]. Raises `MediaError` for another type or shape."""
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.shape != (height, width, 3):
        raise MediaError(
            f"a picture is {pixels.dtype} {list(pixels.shape)}, expected uint8 [{height}, {width}, 3]: "
            "open the sink for the size of its pictures"
        )
    return np.ascontiguousarray(pixels)
