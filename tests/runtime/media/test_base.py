"""Pictures, options of sinks, and what is said of a source."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from swiftvr_trt.engines.bundle.pixel_formats import NV12, P010
from swiftvr_trt.errors import MisuseError
from swiftvr_trt.runtime.media import CopiedStream, Picture, SinkOptions, SourceView, Stamp, open_source
from swiftvr_trt.runtime.media.base import Template
from swiftvr_trt.runtime.stream.frames import FrameForm, Surface


@pytest.mark.parametrize("options", [{"crf": -1}, {"crf": 300}, {"codec": ""}, {"preset": ""}])
def test_options_are_checked_once(options: dict[str, object]) -> None:
    with pytest.raises(MisuseError):
        SinkOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["audio", "subtitle", "data", "cover", "attachment"])
def test_each_option_leaves_out_its_own_streams(kind: str) -> None:
    option = {"audio": "audio", "subtitle": "subtitles"}.get(kind, "data")
    assert SinkOptions().wants(kind)
    for name in ("audio", "subtitles", "data"):
        assert SinkOptions(**{name: False}).wants(kind) == (name != option)  # type: ignore[arg-type]


def test_a_stream_is_named_in_messages() -> None:
    assert str(CopiedStream(2, "subtitle", "subrip", template=Template(None))) == "subtitle stream 2 (subrip)"


def test_new_pixels_keep_the_stamp() -> None:
    picture = Picture(np.zeros((2, 4, 3), np.uint8), Stamp(7, 90, 3, Fraction(1, 25)))
    larger = picture.with_pixels(np.ones((4, 8, 3), np.uint8))
    assert larger.stamp is picture.stamp
    assert larger.pixels.shape == (4, 8, 3)


@pytest.mark.parametrize(("form", "nbytes"), [(FrameForm(NV12), 48), (FrameForm(P010), 96)])
def test_a_picture_may_lie_on_a_gpu(form: FrameForm, nbytes: int) -> None:
    surface, stamp = Surface((None, None), form, (4, 8)), Stamp(7, 90, 3, Fraction(1, 25))
    picture = Picture(surface, stamp)
    assert (picture.form, picture.nbytes) == (form, nbytes)
    assert picture.without_pixels().nbytes == 0


def test_a_view_is_its_source_where_a_subclass_says_nothing_else(clip: Path) -> None:
    class Numbered(SourceView):
        @property
        def notes(self) -> tuple[str, ...]:
            return ("numbered",)

    source = open_source(clip)
    with Numbered(source) as view:
        stamps = [item.stamp.index for item in view if isinstance(item, Picture)]
    assert stamps == list(range(30))
    assert (view.info, view.damage, view.shortfall) == (source.info, source.damage, source.shortfall)
    assert view.notes == ("numbered",)
    assert list(source) == []  # closed
