"""Names of pictures, and what to do with those that are not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftvr_trt.runtime.media.image_names import OTHER_SUFFIXES, SUFFIXES, conversion, is_image, is_other_image


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


def test_the_command_fits_one_and_many() -> None:
    assert conversion([Path("x/a b.ppm")]) == 'convert it to PNG first, e.g. magick "a b.ppm" "a b.png"'
    assert conversion([Path("a.exr"), Path("b.exr")]).endswith("e.g. magick mogrify -format png *.exr")
