"""Which files are pictures by their names: in the formats that are read and written, and in others, which are named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

OTHER_SUFFIXES = frozenset({
    ".arw", ".avif", ".cin", ".cr2", ".cr3", ".dds", ".dng", ".dpx", ".exr", ".hdr", ".heic", ".heif", ".j2c",
    ".j2k", ".jls", ".jp2", ".jpf", ".jpx", ".jxl", ".jxs", ".nef", ".orf", ".pam", ".pbm", ".pcx", ".pfm", ".pgm",
    ".pnm", ".ppm", ".psd", ".qoi", ".raf", ".ras", ".rw2", ".sgi", ".sun", ".tga", ".xwd",
})  # fmt: skip
"""Pictures in formats that are neither read nor written as such; some are read as videos of one frame."""


def is_image(path: Path) -> bool:
    """True if the suffix is one of the image formats in `SUFFIXES`."""
    return path.suffix.lower() in SUFFIXES


def is_other_image(path: Path) -> bool:
    """True if the suffix is one of `OTHER_SUFFIXES`."""
    return path.suffix.lower() in OTHER_SUFFIXES


def about_pattern(path: Path) -> str:
    """What to do instead of naming a pattern such as `f%03d.png`, for the end of a message; empty for other names."""
    if not ({"%", "*", "?"} & set(path.name) and path.parent.is_dir()):
        return ""
    return f": patterns of names are not expanded, so name the folder, {path.parent}"


def but_unread(files: Sequence[Path]) -> str:
    """Names one of these pictures that are not read, behind "no images"; empty if there is none."""
    return f" but {files[0].name}, whose format is not read" if files else ""


def conversion(files: Sequence[Path]) -> str:
    """What to do with pictures, at least one, that are not read."""
    if len(files) > 1:
        return f"convert them to PNG first, e.g. magick mogrify -format png *{files[0].suffix}"
    return f'convert it to PNG first, e.g. magick "{files[0].name}" "{files[0].stem}.png"'
