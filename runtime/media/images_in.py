"""A folder of images, or a single image, as a source."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from ...errors import MediaError
from . import colour
from .base import DEFAULT_RATE, Colour, Item, Picture, Pixels, SourceInfo, Stamp

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

    def __init__(self, path: Path, rate: Fraction | None = None) -> None:
        """rate: images per second; None for `DEFAULT_RATE`. Raises `MediaError` if there is no readable image."""
        from av.video.reformatter import VideoReformatter

        self._files = _images(path)
        self._reformatter = VideoReformatter()
        self._deep = self._transparent = False
        rate = DEFAULT_RATE if rate is None else rate
        first = self._read(self._files[0])
        height, width = first.shape[:2]
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
            image_suffix=self._files[0].suffix.lower(),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about these images. Complete after the last one."""
        deep = ("images of more than 8 bits per channel are processed in 8 bits",) if self._deep else ()
        transparent = ("transparency is dropped",) if self._transparent else ()
        return deep + transparent

    @property
    def shortfall(self) -> None:
        """Always None: a folder cannot announce more images than it contains."""
        return

    def __iter__(self) -> Iterator[Item]:
        info = self.info
        for index, file in enumerate(self._files):
            pixels = self._read(file)
            height, width = pixels.shape[:2]
            if (width, height) != (info.width, info.height):
                raise MediaError(
                    f"{file} is {width}x{height}, expected {info.width}x{info.height} like {self._files[0].name}: "
                    "put images of another size into another folder"
                )
            yield Picture(pixels, Stamp(index, index, 1, info.time_base, file.stem))

    def _read(self, file: Path) -> Pixels:
        """One image: uint8 [H, W, 3] RGB, upright."""
        import av

        try:
            data = file.read_bytes()
            # Not by name: FFmpeg takes a % in a name for a pattern.
            with av.open(io.BytesIO(data), "r") as container:
                frame = next(container.decode(video=0))
        except (av.FFmpegError, StopIteration, IndexError, ValueError) as error:
            raise MediaError(f"{file} cannot be read as an image: remove or repair it") from error
        except OSError as error:
            raise MediaError(f"{file} cannot be read: {error.strerror}") from error
        self._deep |= max(component.bits for component in frame.format.components) > 8
        self._transparent |= any(component.is_alpha for component in frame.format.components)
        return colour.upright(colour.to_rgb(frame, self._reformatter), colour.display_matrix(frame))

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
