"""Frames whose size, fields and time change become pictures, through filters that begin anew where they have to."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from swiftvr_trt.errors import MediaError, MisuseError
from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.media.filters import FilterChain, FilterInput, FrameFilter
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.restore.live.addresses import LiveInputAddress
from swiftvr_trt.runtime.restore.live.framing import Framed, Framer, check_live_filters, live_info
from swiftvr_trt.runtime.restore.live.live_input import LiveInput
from swiftvr_trt.runtime.stream.frames import size_of
from tests.runtime.media.test_captions import EXPECTED as CAPTIONS
from tests.runtime.media.test_captions import make_captioned

from .lab import CLOCK, STEP, transport

SMALL = (48, 32)


def decoded(size: tuple[int, int] = SMALL, count: int = 1) -> tuple[list[Any], Any]:
    """The first frames of a stream of this size, whose times begin at 0, and the stream."""
    container: Any = av.open(io.BytesIO(transport(12, size, sound=False)))
    stream = container.streams.video[0]
    frames = [frame for frame, _ in zip(container.decode(stream), range(count), strict=False)]
    for number, frame in enumerate(frames):
        frame.pts = number * STEP
    return frames, stream


def framed(framer: Framer, frames: Iterable[Any], stream: Any) -> list[Framed]:
    """What a framer makes of frames that arrive at 0, 1, 2 ..., and of the end."""
    made = [each for moment, frame in enumerate(frames) for each in framer.pictures(frame, stream, float(moment))]
    return [*made, *framer.rest()]


@pytest.mark.parametrize(
    ("other", "becomes"), [((96, 64), (64, 96)), ((64, 64), (32, 48)), ((24, 16), (16, 24)), ((48, 32), (32, 48))]
)
def test_frames_of_the_same_shape_keep_their_size_and_others_are_fitted(
    other: tuple[int, int], becomes: tuple[int, int]
) -> None:
    ([first], stream), ([second], other_stream) = decoded(), decoded(other)
    framer = Framer(SourceOptions(), print)
    assert [size_of(each.pixels) for each in framer.pictures(first, stream, 0.0)] == [(32, 48)]
    assert framer.resized == 0
    assert [size_of(each.pixels) for each in framer.pictures(second, other_stream, 0.0)] == [becomes]
    assert framer.resized == (other != SMALL)


@pytest.mark.parametrize(
    ("options", "size", "rate", "times", "arrivals"),
    [
        (SourceOptions(), (32, 48), 25, [0, 1, 2, 3], [0, 1, 2, 3]),
        (SourceOptions(deinterlace="bwdif"), (32, 48), 25, [0, 1, 2, 3], [0, 1, 2, 3]),
        (SourceOptions(vf="crop=iw-16:ih-8"), (24, 32), 25, [0, 1, 2, 3], [0, 1, 2, 3]),
        (SourceOptions(vf="scale=96:64,fps=50"), (64, 96), 50, [i / 2 for i in range(8)], [0, 0, 1, 1, 2, 2, 3, 3]),
        (SourceOptions(vf="framestep=2"), (32, 48), Fraction(25, 2), [0, 2], [0, 2]),
    ],
)  # fmt: skip
def test_filters_may_change_size_and_rate_but_not_when_a_picture_is_shown_or_came(
    options: SourceOptions, size: tuple[int, int], rate: Fraction, times: list[float], arrivals: list[float]
) -> None:
    frames, stream = decoded(count=4)
    framer = Framer(options, print)
    made = framed(framer, frames, stream)
    assert {size_of(each.pixels) for each in made} == {size}
    assert [each.pts / STEP for each in made] == times
    assert [each.arrived for each in made] == arrivals
    assert framer.rate == rate


def test_filters_begin_anew_at_another_size_and_where_time_does_not_go_on() -> None:
    (frames, stream), (others, other_stream) = decoded(count=4), decoded((96, 64), 2)
    for number, frame in enumerate(others):
        frame.pts = (4 + number) * STEP
    later, _ = decoded(count=3)
    for number, frame in enumerate(later):
        frame.pts = (500 + number) * STEP  # 20 seconds, in which nothing came: no filter fills them
    framer = Framer(SourceOptions(vf="fps=25,crop=iw/2:ih"), print)
    made = [
        *(each for frame in frames for each in framer.pictures(frame, stream, 0.0)),
        *(each for frame in others for each in framer.pictures(frame, other_stream, 0.0)),
        *framed(framer, later, stream),
    ]
    assert [each.pts // STEP for each in made] == [0, 1, 2, 3, 4, 5, 500, 501, 502]
    assert [size_of(each.pixels) for each in made] == [(32, 24)] * 4 + [(64, 48)] * 2 + [(32, 24)] * 3
    assert framer.resized == 2


def test_filters_that_do_not_fit_a_new_size_are_left_out_with_a_line() -> None:
    (frames, stream), (others, other_stream) = decoded(count=2), decoded((24, 16), 2)
    lines: list[str] = []
    framer = Framer(SourceOptions(vf="crop=32:32"), lines.append)
    assert [size_of(each.pixels) for each in framed(framer, frames, stream)] == [(32, 32)] * 2
    assert [size_of(each.pixels) for each in framed(framer, others, other_stream)] == [(32, 32)] * 2  # black beside it
    assert len(lines) == 1
    assert lines[0].startswith("the filters 'crop=32:32' cannot be used: ")
    assert lines[0].endswith("frames of 24x16 are restored without them")
    with pytest.raises(MediaError, match="cannot be used"):  # from the first frame on, it is a mistake
        framed(Framer(SourceOptions(vf="crop=320:320"), print), frames, stream)


def test_fields_are_deinterlaced_from_the_first_frame_on_that_has_them() -> None:
    frames, stream = decoded(count=4)
    marking = FrameFilter(FilterChain(("setfield=mode=tff",)), FilterInput(CLOCK, Fraction(25), None), frames[2])
    frames[2:] = [marked for frame in frames[2:] for marked in marking.feed(frame)]
    lines: list[str] = []
    framer = Framer(SourceOptions(), lines.append)
    made = framed(framer, frames, stream)
    assert [each.pts // STEP for each in made] == [0, 1, 2, 3]
    assert (framer.treatment, framer.resized) == ("deinterlaced with bwdif", 0)
    assert lines == ["interlaced from here on, deinterlaced with bwdif"]


@pytest.mark.parametrize(
    ("tonemap", "lines"),
    [
        (False, ["HDR (HLG) from here on, not SDR: the output keeps its colour tags"]),
        (True, []),
    ],
)
def test_hdr_that_begins_later_is_said_unless_it_is_converted(tonemap: bool, lines: list[str]) -> None:
    frames, stream = decoded(count=4)
    for frame in frames[2:]:
        frame.color_trc = 18
    said: list[str] = []
    assert len(framed(Framer(SourceOptions(tonemap=tonemap), said.append), frames, stream)) == 4
    assert said == lines


def test_a_frame_without_a_time_follows_the_one_before() -> None:
    frames, stream = decoded(count=3)
    frames[1].pts = None
    assert [each.pts // STEP for each in framed(Framer(SourceOptions(), print), frames, stream)] == [0, 1, 2]


@pytest.mark.parametrize("graph", ["setpts=PTS-STARTPTS", "crop=16:16,trim=0:5"])
def test_filters_that_move_pictures_away_from_their_sound_are_refused(graph: str) -> None:
    with pytest.raises(MisuseError, match="pictures of a live stream keep their time"):
        check_live_filters(graph)
    check_live_filters(None)
    check_live_filters("hqdn3d,fps=25")


@pytest.mark.parametrize(
    ("options", "known"),
    [
        (SourceOptions(), (48, 32, 25, "")),
        (SourceOptions(vf="scale=64:64,fps=50"), (64, 64, 50, "filtered")),
        (SourceOptions(deinterlace="bwdif"), (48, 32, 25, "deinterlaced with bwdif")),
    ],
)
def test_a_source_is_known_as_it_comes_out_of_its_filters(
    tmp_path: Path, options: SourceOptions, known: tuple[int, int, int, str]
) -> None:
    (tmp_path / "a.ts").write_bytes(transport(12))
    source = LiveInput(LiveInputAddress.parse(str(tmp_path / "a.ts")), (), None)
    frames, stream = decoded(count=4)
    framer = Framer(options, print)
    framed(framer, frames, stream)
    info = live_info(source, framer, options)
    assert (info.width, info.height, int(info.rate), info.treatment) == known
    assert info.frames is None
    source.close()


def marked_as_pq(frame: Any) -> Any:
    frame.color_trc, frame.color_primaries = 16, 9
    return frame


def test_captions_stay_with_their_pictures_and_losses_are_said(tmp_path: Path) -> None:
    with av.open(str(make_captioned(tmp_path / "in.ts"))) as container:
        stream = container.streams.video[0]
        lines: list[str] = []
        made = framed(Framer(SourceOptions(), lines.append), container.decode(stream), stream)
    assert [each.captions for each in made] == CAPTIONS
    assert lines == []
    frames, stream = decoded(count=2)
    transparent = converted(frames[1], format="rgba")
    transparent.planes[0].update(bytes(transparent.planes[0].buffer_size))
    framed(Framer(SourceOptions(), lines.append), [frames[0], transparent], stream)
    assert lines == ["not carried over from the input: transparency"]


def test_what_is_lost_of_the_first_frames_is_a_note_on_the_source(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(transport(12))
    source = LiveInput(LiveInputAddress.parse(str(tmp_path / "a.ts")), (), None)
    frames, stream = decoded(count=2)
    framer = Framer(SourceOptions(assume_sdr=True), print)
    framed(framer, [marked_as_pq(converted(frame, format="yuv444p")) for frame in frames], stream)
    notes = live_info(source, framer, SourceOptions(assume_sdr=True)).notes
    assert [note.partition(" is ")[0].partition(" are ")[0] for note in notes] == ["HDR input (PQ)", "yuv444p frames"]
    source.close()


def test_hdr_is_converted_or_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(transport(12))
    source = LiveInput(LiveInputAddress.parse(str(tmp_path / "a.ts")), (), None)
    for options, transfer in (
        (SourceOptions(tonemap=True), 1),
        (SourceOptions(assume_sdr=True), 16),
        (SourceOptions(), 0),
    ):
        frames, stream = decoded(count=2)
        for frame in frames:
            marked_as_pq(frame)
        framer = Framer(options, print)
        framed(framer, frames, stream)
        if transfer:
            assert live_info(source, framer, options).colour.transfer == transfer
        else:
            with pytest.raises(MediaError, match=r"is HDR \(PQ\), .* --tonemap"):
                live_info(source, framer, options)
    source.close()
