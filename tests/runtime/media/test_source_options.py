"""What raw video consists of, from the text of an option."""

from __future__ import annotations

from fractions import Fraction

import pytest

from swiftvr_trt.errors import MisuseError
from swiftvr_trt.runtime.media.source_options import RawFormat, SourceOptions


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("yuv420p:720x576:25", RawFormat("yuv420p", 720, 576, Fraction(25))),
        ("yuv422p10le:1920X1080:30000/1001", RawFormat("yuv422p10le", 1920, 1080, Fraction(30000, 1001))),
        ("rgb24:1x1:0.5", RawFormat("rgb24", 1, 1, Fraction(1, 2))),
    ],
)
def test_raw_video_is_described_in_three_words(text: str, raw: RawFormat) -> None:
    assert SourceOptions(text).raw == raw


@pytest.mark.parametrize(
    "text",
    [
        "", "yuv420p", "yuv420p:720x576", "yuv420p:720:25", "yuv:720x576:25", "yuv420p:0x576:25", "yuv420p:720x-1:25",
        "yuv420p:99999x2:25", "yuv420p:720x576:0", "yuv420p:720x576:1/0", "yuv420p:720x576:2000", "yuv420p:2x2:25:x",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(MisuseError, match=r"^--in-format is .*expected pixel format, size and frame rate"):
        SourceOptions(text)


def test_options_are_described_for_people() -> None:
    assert str(SourceOptions()) == "as it is"
    assert str(SourceOptions("gray:2x2:1")) == "in_format gray:2x2:1"
    assert str(SourceOptions(allow_playlist=True, again=True)) == "allow_playlist True"
