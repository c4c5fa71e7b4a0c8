"""Pictures enlarged plainly, for those that are not restored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..stream.frames import FrameForm, size_of
from .base import Colour, Picture
from .colour import converted
from .planes import FrameReader, FrameWriter, pixel_name

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


class PlainScaler:
    """Enlarges pictures of any form and size with bicubic interpolation."""

    def __init__(self, form: FrameForm, size: tuple[int, int]) -> None:
        """form, size: what the pictures become; width and height."""
        from av.video.reformatter import VideoReformatter

        self._form, self._size = form, size
        self._reader = FrameReader(form, form.colour.siting)
        self._reformatter = VideoReformatter()

    def scale(self, picture: Picture) -> Picture:
        """The picture in the other form and size, with the same stamp."""
        return Picture(self._reader.read(self._scaled(picture), None), picture.stamp)

    def _scaled(self, picture: Picture) -> VideoFrame:
        from av.video.reformatter import Interpolation

        form = picture.form
        height, width = size_of(picture.frame)
        tags = Colour(form.colour.matrix, full=form.colour.full)
        frame = FrameWriter(pixel_name(form), tags).frame(picture, width, height)
        wide, high = self._size
        return converted(frame, self._reformatter, width=wide, height=high, interpolation=Interpolation.BICUBIC)
