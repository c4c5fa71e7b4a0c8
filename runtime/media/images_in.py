"""A folder of images, or a single image, as a source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ...errors import MediaError
from ..stream.frames import RGB, RGB16
from . import colour
from .alpha import DROPPED, alpha_of, has_alpha, keeps_alpha
from .base import DEFAULT_RATE, Colour, Item, Picture, SourceInfo, Stamp
from .contents import is_animated, open_image
from .ffmpeg_log import ffmpeg_errors
from .frame_memory import FrameBound
from .photo_tags import PhotoTags, holds_more, read_tags
from .planes import bits_of
from .source_options import SourceOptions
from .trim import Clock, Trim, find_excerpt

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def is_image(path: Path) -> bool:
    """True if the suffix is one of the image formats in `SUFFIXES`."""
    return path.suffix.lower() in SUFFIXES


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key that reads digits as numbers: frame2 before frame10. Equal numbers (1, 01) sort by their text."""
    parts = re.split(r"([0-9]+)", name.casefold())
    key = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)
    return (*key, (2, 0, name))


class ImageSource:
    """The images of a folder in natural order, one file open at a time. See `base.Source`."""

    def __init__(
        self,
        path: Path,
        rate: Fraction | None = None,
        trim: Trim | None = None,
        options: SourceOptions | None = None,
    ) -> None:
        """rate: images per second; None for `DEFAULT_RATE`. trim: the part to read, at this rate; None for all.

        options: if pictures are to be restored, they have 16 bits if the first image has more than 8, and `alpha`
        counts.

        Raises `MediaError` if there is no readable image, `MisuseError` if there is none in that part.
        """
        from av.video.reformatter import VideoReformatter

        rate, options = DEFAULT_RATE if rate is None else rate, options or SourceOptions()
        self._files = _trimmed(_images(path), path, rate, trim or Trim())
        self._reformatter = VideoReformatter()
        self._deep = self._transparent = False
        self._damage: dict[str, None] = {}
        self._tags, self._untagged = PhotoTags(), False
        first = self._decode(self._files[0])
        self._form = RGB16 if options.restores and bits_of(first) > 8 else RGB
        alpha = options.restores and keeps_alpha(self._files[0], options.alpha, first)
        self._note(first, alpha=alpha)
        turned = colour.is_turned(colour.display_matrix(first))
        width, height = (first.height, first.width) if turned else (first.width, first.height)
        kind = self._files[0].suffix.lower().lstrip(".")
        count = len(self._files)
        self.info = SourceInfo(
            path=path,
            width=width,
            height=height,
            frames=count,
            rate=rate,
            time_base=1 / rate,
            colour=Colour(),
            sample_aspect=None,
            description=f"{count} {kind} {'image' if count == 1 else 'images'} {width}x{height}",
            notes=self.notes,
            tagged=bool(self._tags),
            form=self._form,
            bits=bits_of(first),
            alpha=alpha,
            image_suffix=self._files[0].suffix.lower(),
            files=tuple(self._files),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about these images. Complete after the last one."""
        deep = ("images of more than 8 bits per channel are processed in 8 bits",) if self._deep else ()
        transparent = (DROPPED,) if self._transparent else ()
        untagged = ("the EXIF data of TIFF files is left out",) if self._untagged else ()
        return deep + transparent + untagged + self.damage

    @property
    def damage(self) -> tuple[str, ...]:
        """What is damaged in the images. Complete after the last one."""
        return tuple(self._damage)

    @property
    def shortfall(self) -> None:
        """Always None: a folder cannot announce more images than it contains."""
        return

    def __iter__(self) -> Iterator[Item]:
        info = self.info
        for index, file in enumerate(self._files):
            frame = self._decode(file)
            self._note(frame, alpha=info.alpha)
            matrix, deep = colour.display_matrix(frame), self._form is RGB16
            pixels = colour.upright(colour.to_rgb(frame, self._reformatter, deep=deep), matrix)
            height, width = pixels.shape[:2]
            if (width, height) != (info.width, info.height):
                raise MediaError(
                    f"{file} is {width}x{height}, expected {info.width}x{info.height} like {self._files[0].name}: "
                    "put images of another size into another folder"
                )
            alpha = alpha_of(frame, matrix, self._reformatter, deep=deep) if info.alpha else None
            stamp = Stamp(index, index, 1, info.time_base, file.stem, tags=self._tags, alpha=alpha)
            yield Picture(pixels, stamp)

    def _note(self, frame: VideoFrame, *, alpha: bool) -> None:
        """Remember what of an image is lost. alpha: its transparency is kept."""
        self._deep |= bits_of(frame) > 8 and self._form is RGB
        self._transparent |= has_alpha(frame) and not alpha

    def _decode(self, file: Path) -> VideoFrame:
        """One image as FFmpeg decodes it. Leaves its tags in `_tags`."""
        import av

        try:
            data = file.read_bytes()
            if is_animated(data):
                raise MediaError(
                    f"{file} is an animation, expected one picture: restore a PNG by itself, convert others to a video"
                )
            with ffmpeg_errors() as said, open_image(data) as container:
                context = container.streams.video[0].codec_context
                context.thread_count = 1
                bound = FrameBound(file, context)
                frame = next(container.decode(video=0))
                bound.check(frame)
        except MediaError:
            raise
        except (av.FFmpegError, StopIteration, IndexError, ValueError) as error:
            raise MediaError(f"{file} cannot be read as an image: remove or repair it") from error
        except OSError as error:
            raise MediaError(f"{file} cannot be read: {error.strerror}") from error
        if said:
            self._damage[f"{file.name} is damaged and was restored as it is: FFmpeg says {said[0]!r}"] = None
        self._tags = read_tags(data)
        self._untagged |= holds_more(data)
        return frame

    def close(self) -> None:
        """Does nothing: no file stays open between images."""

    def __enter__(self) -> ImageSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _images(path: Path) -> list[Path]:
    """The images to read, in natural order. Skips hidden files and other file types."""
    if not path.is_dir():
        return [path]
    found = [file for file in path.iterdir() if is_image(file) and not file.name.startswith(".") and file.is_file()]
    if not found:
        raise MediaError(
            f"the folder {path} contains no images, expected files named {', '.join('*' + s for s in SUFFIXES)}"
        )
    found.sort(key=lambda file: natural_key(file.name))
    stems: dict[str, Path] = {}
    for file in found:
        other = stems.setdefault(file.stem, file)
        if other != file:
            raise MediaError(f"{path} contains {other.name} and {file.name}, expected one image per name: remove one")
    return found


def _trimmed(files: list[Path], path: Path, rate: Fraction, trim: Trim) -> list[Path]:
    """The files of a part."""
    if trim.is_whole:
        return files
    stamps = [(number, 1) for number in range(len(files))]
    excerpt = find_excerpt(trim, stamps, Clock(1 / rate), path)
    return files[excerpt.begin : excerpt.begin + excerpt.frames]
