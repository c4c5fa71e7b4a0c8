"""Names of pictures, and what to do with those that are not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftvr_trt.runtime.media.image_names import (
    OTHER_SUFFIXES,
    SUFFIXES,
    about_pattern,
    conversion,
    is_image,
    is_other_image,
)


@pytest.mark.parametrize(
    ("name", "read", "other"),
    [
        ("a.PNG", True, False),
        ("a.Tiff", True, False),
        ("a.DPX", False, True),
        ("a.mp4", False, False),
        ("a", False, False),
    ],
)
def test_pictures_are_told_by_their_suffixes(name: str, read: bool, other: bool) -> None:
    assert (is_image(Path(name)), is_other_image(Path(name))) == (read, other)


def test_no_format_is_both_read_and_not_read() -> None:
    assert not OTHER_SUFFIXES & set(SUFFIXES)


def test_who_names_a_pattern_is_told_of_the_folder(tmp_path: Path) -> None:
    for name in ("f%03d.png", "*.png", "f?.png"):
        assert about_pattern(tmp_path / name).endswith(f"name the folder, {tmp_path}")
    assert about_pattern(tmp_path / "f.png") == about_pattern(tmp_path / "none" / "*.png") == ""


def test_the_command_fits_one_and_many() -> None:
    assert conversion([Path("x/a b.ppm")]) == 'convert it to PNG first, e.g. magick "a b.ppm" "a b.png"'
    assert conversion([Path("a.exr"), Path("b.exr")]).endswith("e.g. magick mogrify -format png *.exr")
