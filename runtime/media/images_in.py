"""A folder of images, or a single image, as a source."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ...errors import MachineError, MediaError
from ...text import counted
from ..stream.frames import RGB, RGB16
from . import colour
from .alpha import DROPPED, alpha_of, has_alpha, is_opaque, keeps_alpha
from .base import DEFAULT_RATE, Colour, Item, Picture, SourceInfo, Stamp
from .contents import is_animated, open_image
from .ffmpeg_log import ffmpeg_errors
from .frame_memory import FrameBound
from .image_heads import Head, read_head
from .image_names import SUFFIXES, but_unread, conversion, is_image, is_other_image
from .number_gaps import gap_note
from .photo_tags import PhotoTags, read_tags
from .planes import bits_of
from .source_options import SourceOptions
from .tonemap import refuse_hdr_image
from .trim import Clock, Trim, find_excerpt

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_log = logging.getLogger(__name__)


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key that reads digits as numbers: frame2 before frame10. Equal numbers (1, 01) sort by their text."""
    parts = re.split(r"([0-9]+)", name.casefold())
    key = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)
    return (*key, (2, 0, name))


_APPEARS = (
    "transparency that begins after the first image is dropped: add --alpha keep to enlarge it, or --alpha drop if "
    "that is meant"
)

_NAMED = 4
"""Images that a line names; it only counts the others."""


@dataclass(frozen=True)
class _Image:
    """A decoded image. said: an error that FFmpeg reported."""

    file: Path
    frame: VideoFrame
    tags: PhotoTags
    said: str | None


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

        Raises `MediaError` if the first image cannot be read, another one has another size, or one is HDR without
        `assume_sdr`, `MisuseError` if that part has none. Those of no use that show later are left out (`shortfall`).
        """
        from av.video.reformatter import VideoReformatter

        rate, options = DEFAULT_RATE if rate is None else rate, options or SourceOptions()
        self._files = _trimmed(_images(path), path, rate, trim or Trim())
        self._reformatter = VideoReformatter()
        self._deep, self._transparent, self._fitted = False, False, 0
        self._assume_sdr, self._hdr = options.assume_sdr, set[str]()
        self._about_alpha = DROPPED if options.alpha == "drop" or not options.restores else _APPEARS
        self._damage, self._missing = dict[str, None](), list[tuple[Path, str]]()
        decoded = self._decode(self._files[0])
        first = decoded.frame
        self._fitted = first.width * first.height
        self._form = RGB16 if options.restores and bits_of(first) > 8 else RGB
        alpha = options.restores and keeps_alpha(self._files[0], options.alpha, first)
        width, height = colour.upright_size(first)
        alpha |= self._checked((width, height)) and options.restores and options.alpha == "keep"
        self._note(decoded, alpha=alpha)
        self.info = SourceInfo(
            path=path,
            width=width,
            height=height,
            frames=len(self._files),
            rate=rate,
            time_base=1 / rate,
            colour=Colour(),
            sample_aspect=None,
            description=f"{self._kind} {width}x{height}",
            notes=self.notes,
            tagged=bool(decoded.tags),
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
        transparent = (self._about_alpha,) if self._transparent else ()
        gaps = gap_note(self._files)
        hdr = tuple(f"HDR input ({name}) is restored as if it were SDR" for name in sorted(self._hdr))
        return hdr + deep + transparent + ((gaps,) if gaps else ()) + self.damage

    @property
    def damage(self) -> tuple[str, ...]:
        """What is damaged in the images. Complete after the last one."""
        return tuple(self._damage)

    @property
    def shortfall(self) -> str | None:
        """Which images could not be used. Complete after the last one."""
        if not self._missing:
            return None
        others = [file.name for file, _ in self._missing[1:]]
        more = f"; also {', '.join(others[:_NAMED])}" if others else ""
        more += f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        are = "is" if len(self._missing) == 1 else "are"
        return f"{len(self._missing)} of {len(self._files)} images {are} left out: {self._missing[0][1]}{more}"

    def __iter__(self) -> Iterator[Item]:
        count = 0
        for number, file in enumerate(self._files):
            try:
                picture = self._picture(file, count, number)
            except (MediaError, MachineError) as error:  # only a larger one takes too much memory
                _log.info("%s is left out: %s", file, error)
                self._missing.append((file, str(error)))
            else:
                count += 1
                yield picture

    def _picture(self, file: Path, index: int, moment: int) -> Picture:
        """An image as the picture with this index, shown at this moment. Raises `MediaError` if it is of no use."""
        info, deep = self.info, self._form is RGB16
        decoded = self._decode(file)
        frame = decoded.frame
        matrix = colour.display_matrix(frame)
        pixels = colour.upright(colour.to_rgb(frame, self._reformatter, deep=deep), matrix)
        height, width = pixels.shape[:2]
        if (width, height) != (info.width, info.height):
            raise self._of_another_size(file, (width, height), (info.width, info.height))
        self._note(decoded, alpha=info.alpha)
        alpha = alpha_of(frame, matrix, self._reformatter, deep=deep) if info.alpha else None
        return Picture(pixels, Stamp(index, moment, 1, info.time_base, file.stem, tags=decoded.tags, alpha=alpha))

    def _checked(self, expected: tuple[int, int]) -> bool:
        """Raise `MediaError`, before hours of work, if an image is HDR or has another size than the first one.

        Returns whether one of the others may be transparent.
        """
        transparent = False
        for file in self._files[1:]:
            head = read_head(file)
            if head is not None:
                refuse_hdr_image(str(file), head.transfer, assume_sdr=self._assume_sdr)
            if head is None or (head.width, head.height) != expected:
                head = self._decoded_head(file, head)
            if (head.width, head.height) != expected:
                raise self._of_another_size(file, (head.width, head.height), expected)
            transparent |= head.alpha
        return transparent

    def _decoded_head(self, file: Path, head: Head | None) -> Head:
        """What an image turns out to be; what its head says if it is too large to be decoded. Raises `MediaError`."""
        try:
            frame = self._decode(file).frame
        except MachineError:
            if head is None:
                raise
            return head
        return Head(*colour.upright_size(frame), has_alpha(frame))

    def _of_another_size(self, file: Path, size: tuple[int, int], expected: tuple[int, int]) -> MediaError:
        (width, height), (first_width, first_height) = size, expected
        return MediaError(
            f"{file} is {width}x{height}, expected {first_width}x{first_height} like {self._files[0].name}: "
            "put images of another size into another folder"
        )

    @property
    def _kind(self) -> str:
        """How many images of what format these are, by the first one."""
        count, kind = len(self._files), self._files[0].suffix.lower().lstrip(".")
        return counted(count, f"{kind} image")

    def _note(self, image: _Image, *, alpha: bool) -> None:
        """Remember what of an image is lost. alpha: its transparency is kept."""
        if (name := colour.HDR_TRANSFERS.get(int(image.frame.color_trc))) is not None:
            self._hdr.add(name)
        self._deep |= bits_of(image.frame) > 8 and self._form is RGB
        self._transparent |= not alpha and not is_opaque(image.frame)
        if image.said:
            name = image.file.name
            self._damage[f"{name} is damaged and was restored as it is: FFmpeg says {image.said!r}"] = None

    def _decode(self, file: Path) -> _Image:
        """One image as FFmpeg decodes it.

        Raises `MediaError` if that cannot be, or if it is HDR, `MachineError` if it is too large.
        """
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
                fitted = context.width * context.height <= self._fitted
                bound = FrameBound(file, context, again=fitted)
                frame = next(container.decode(video=0))
                bound.check(frame)
            refuse_hdr_image(str(file), int(frame.color_trc), assume_sdr=self._assume_sdr)
        except MediaError:
            raise
        except (av.FFmpegError, StopIteration, IndexError, ValueError) as error:
            raise MediaError(f"{file} cannot be read as an image: remove or repair it") from error
        except OSError as error:
            raise MediaError(f"{file} cannot be read: {error.strerror}") from error
        return _Image(file, frame, read_tags(data), said[0] if said else None)

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
    files = [file for file in path.iterdir() if not file.name.startswith(".") and file.is_file()]
    files.sort(key=lambda file: natural_key(file.name))
    found = [file for file in files if is_image(file)]
    if not found:
        others = [file for file in files if is_other_image(file)]
        remedy = f": {conversion(others)}" if others else ""
        raise MediaError(
            f"the folder {path} contains no images{but_unread(others)}, expected files named "
            f"{', '.join('*' + s for s in SUFFIXES)}{remedy}"
        )
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
