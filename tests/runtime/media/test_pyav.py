"""Both supported versions of PyAV give the same answers. CI runs these tests with each."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from swiftvr_trt.errors import MachineError
from swiftvr_trt.runtime.media import Picture, open_sink, open_source
from swiftvr_trt.runtime.media.pyav import can_allocate, fraction, open_input, readable, refuse_without_memory

from .videos import EVEN, make_video


@dataclass(frozen=True)
class Ratio19:
    """What PyAV 19 gives where 18 gave a `Fraction` or None: any two numbers, false unless both differ from zero."""

    numerator: int
    denominator: int

    def __bool__(self) -> bool:
        return self.numerator != 0 and self.denominator != 0


@pytest.mark.parametrize("unset", [None, Fraction(0), Ratio19(0, 1), Ratio19(0, 0), Ratio19(1, 0)])
def test_every_way_to_say_unset_is_none(unset: Fraction | Ratio19 | None) -> None:
    assert fraction(unset) is None


@pytest.mark.parametrize("given", [Fraction(30000, 1001), Ratio19(30000, 1001)])
def test_a_ratio_becomes_a_fraction(given: Fraction | Ratio19) -> None:
    result = fraction(given)
    assert result == Fraction(30000, 1001)
    assert type(result) is Fraction


def test_what_a_video_says_of_itself_are_fractions(tmp_path: Path) -> None:
    """Other parts calculate with them, and send them to other processes."""
    with open_source(make_video(tmp_path / "in.mkv", EVEN)) as source:
        info = source.info
    assert {type(info.rate), type(info.time_base)} == {Fraction}


def test_bytes_that_are_not_utf8_become_readable() -> None:
    assert readable({"title": "caf\udce9", "na\udcefve": "plain"}) == {"title": "caf\ufffd", "na\ufffdve": "plain"}
    assert readable({"title": "café 映画"}) == {"title": "café 映画"}


def test_tags_that_are_not_utf8_are_read_and_written(tmp_path: Path) -> None:
    """Old tools wrote Latin-1. The titles of the file, of a stream and of a chapter must not stop a restoration."""

    def name_everything(container, stream) -> None:  # type: ignore[no-untyped-def]  # PyAV's objects
        container.metadata["title"] = stream.metadata["title"] = "XXcafe"
        chapter = {"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "XXcafe"}}
        container.set_chapters([chapter])

    path = make_video(tmp_path / "in.mkv", EVEN[:3], prepare=name_everything)
    data = path.read_bytes()
    assert data.count(b"XXcafe") == 3
    path.write_bytes(data.replace(b"XXcafe", b"XXcaf\xe9"))
    with open_source(path) as source, open_sink(tmp_path / "out.mkv", source.info, 64, 48) as sink:
        for item in source:
            if isinstance(item, Picture):
                sink.write(item)
        sink.commit()
    for file in (path, tmp_path / "out.mkv"):
        with open_source(file) as source:
            info = source.info
        titles = [info.metadata["title"], info.stream_metadata["title"], info.chapters[0]["metadata"]["title"]]
        assert titles == ["XXcaf\ufffd"] * 3


def test_open_input_reads(tmp_path: Path) -> None:
    with open_input(str(make_video(tmp_path / "in.mkv", EVEN[:3]))) as container:
        assert len(list(container.decode(video=0))) == 3


def test_memory_is_short_if_it_cannot_be_allocated() -> None:
    assert can_allocate(1 << 20)
    assert not can_allocate(1 << 60)


def test_memory_that_python_lacks_is_always_short(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"not enough memory to read .*in\.mkv"):
        refuse_without_memory(MemoryError(), tmp_path / "in.mkv")
    refuse_without_memory(ValueError("damaged"), tmp_path / "in.mkv")
