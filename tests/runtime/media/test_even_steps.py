"""Containers that count time in even steps, and those that do not."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.format import ContainerFormat

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.media import SinkOptions, open_sink, open_source
from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.media.even_steps import (
    IN_SYNC_S,
    choose_steps,
    fill_steps,
    find_steps,
    holds_any_time,
    holds_sound,
)
from swiftvr_trt.runtime.media.index import index_video
from swiftvr_trt.runtime.media.video_out import container_format

from .videos import EVEN, frames_of, make_video, noise, one_line, transcode

MS = Fraction(1, 1000)
BURST = [*range(0, 3000, 1000), *(3000 + 1000 * index // 60 for index in range(30)), 4000, 9000]
"""Milliseconds of a recorded screen: a frame per second, then many."""


def even(rate: Fraction, count: int = 200) -> list[int]:
    return [round(1000 * index / rate) for index in range(count)]


@pytest.mark.parametrize(
    ("times", "rate", "clock"),
    [
        (even(Fraction(25)), Fraction(25), Fraction(1, 25)),
        (even(Fraction(30000, 1001)), Fraction(30000, 1001), Fraction(1001, 30000)),
        (even(Fraction(60000, 1001)), Fraction(60000, 1001), Fraction(1001, 60000)),
        (BURST, Fraction(8), Fraction(1, 64)),
        ([0, 100, 600, 640], Fraction(25), Fraction(1, 25)),
        ([0, 1, 2, 3], Fraction(1), Fraction(1, 256)),
        ([0], Fraction(24), Fraction(1, 24)),
    ],
    ids=["25", "ntsc", "59.94", "burst", "gif", "dense", "one frame"],
)
def test_steps_are_the_coarsest_that_keep_pictures_in_sync(times: list[int], rate: Fraction, clock: Fraction) -> None:
    steps = choose_steps([(time, 1) for time in times], MS, rate, finer=True)
    assert steps.clock == clock
    assert steps.off <= IN_SYNC_S
    assert steps.note("avi") is None


def test_steps_that_are_too_coarse_are_said() -> None:
    steps = choose_steps([(time, 1) for time in BURST], MS, Fraction(8), finer=False)
    assert steps.clock == Fraction(1, 8)
    assert steps.off > 3
    note = steps.note("m4v")
    assert note is not None
    assert f"in steps of 1/8 s, so pictures are shown up to {float(steps.off):.2f} s from their time" in note


def test_a_long_pause_does_not_ask_for_more_empty_pictures_than_there_can_be() -> None:
    steps = choose_steps([(0, 1), (7, 1), (9_000_000, 1)], MS, Fraction(1), finer=True)
    assert (steps.clock, steps.off) == (Fraction(1, 4), Fraction(243, 1000))


@pytest.mark.parametrize(
    "name", ["mp4", "mov", "matroska", "webm", "ipod", "3gp", "asf", "flv", "mpegts", "nut", "gif"]
)
def test_most_containers_hold_any_time(name: str) -> None:
    assert holds_any_time(ContainerFormat(name, "w"))


@pytest.mark.parametrize("name", ["avi", "mxf", "yuv4mpegpipe", "h264"])
def test_some_containers_do_not(name: str) -> None:
    assert not holds_any_time(ContainerFormat(name, "w"))


@pytest.mark.parametrize(
    ("times", "off"),
    [
        (even(Fraction(25)), Fraction(0)),
        ([500 + time for time in even(Fraction(25))], Fraction(0)),
        ([0, 40, 80, 2320, 2360], Fraction(2320 - 120, 1000)),
        ([0, 40, 41, 42, 43], Fraction(160 - 43, 1000)),
        ([7], Fraction(0)),
    ],
    ids=["even", "late", "pause", "burst", "one"],
)
def test_steps_that_are_all_filled_lose_a_pause(times: list[int], off: Fraction) -> None:
    steps = fill_steps([(time, 1) for time in times], MS, Fraction(25))
    assert (steps.clock, steps.off) == (Fraction(1, 25), off)
    note = steps.note("h264")
    assert (note is None) == (off == 0)
    assert note is None or "repeats pictures instead" in note


@pytest.mark.parametrize(
    ("times", "usual"),
    [
        ([*even(Fraction(30), 9), 4000, 4033], "30"),
        ([*even(Fraction(60000, 1001), 9), 4000], "60"),
        ([0, 400, 800, 4000], "5/2"),
        ([0, 2000, 4000, 9000], "1/2"),
        ([0], "25"),
    ],
)
def test_the_rate_that_is_suggested_is_that_between_pauses(times: list[int], usual: str) -> None:
    """Frames would be dropped at the average rate, which pauses lower."""
    steps = fill_steps([(time, 1) for time in times], MS, Fraction(25))
    assert steps.usual == Fraction(usual)
    assert len(times) == 1 or f"--vf fps={usual} repeats" in str(steps.note("h264"))


@pytest.mark.parametrize(("name", "holds"), [("mxf", True), ("dv", True), ("yuv4mpegpipe", False), ("h264", False)])
def test_a_container_that_holds_sound_refuses_to_lose_its_sync(tmp_path: Path, name: str, holds: bool) -> None:
    assert holds_sound(name) == holds
    path = make_video(tmp_path / "in.mkv", [*range(0, 18000, 3600), 180000])
    with open_source(path) as source:
        info = source.info
    silent = find_steps(info, name, lambda: index_video(info))
    assert silent is not None
    assert silent.all_filled
    assert silent.note(name) is not None
    if holds:
        with pytest.raises(MediaError, match=r"sound would be up to 1\.80 s off: add --vf fps=25, which") as error:
            find_steps(info, name, lambda: index_video(info), with_sound=True)
        assert one_line(error)
    else:
        assert find_steps(info, name, lambda: index_video(info), with_sound=True) == silent


@pytest.mark.parametrize(
    ("name", "codec", "filled"),
    [
        ("avi", "mpeg4", False),
        ("vob", "mpeg2video", False),
        ("m4v", "mpeg4", False),
        ("mxf", "mpeg2video", True),
        ("yuv4mpegpipe", "wrapped_avframe", True),
    ],
)
def test_which_containers_leave_a_step_empty(tmp_path: Path, name: str, codec: str, filled: bool) -> None:
    with av.open(str(tmp_path / "out"), "w", format=name) as container:
        stream: Any = container.add_stream(codec, rate=25)
        frames_of(352, 288)(container, stream)
        stream.codec_context.time_base = Fraction(1, 25)
        for moment in (0, 1, 2, 47):
            # Of noise: MPEG-PS packs several small pictures into one packet, which has one time.
            frame = converted(av.VideoFrame.from_ndarray(noise(moment, 352, 288), "rgb24"), format=stream.pix_fmt)
            frame.pts, frame.time_base = moment, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    moments = shown(tmp_path / "out")
    assert (moments[-1] - moments[0] < 1) == filled
    with open_source(make_video(tmp_path / "in.mkv", [0, 3600, 7200])) as source:
        steps = find_steps(source.info, name, lambda: index_video(source.info))
    assert steps is not None
    assert steps.all_filled == filled


def test_a_variant_of_a_container_is_asked_under_its_name(tmp_path: Path) -> None:
    with open_source(make_video(tmp_path / "in.mp4", EVEN)) as source:
        assert find_steps(source.info, "m2ts", lambda: "no index") is None


def restored(path: Path, output: Path, codec: str | None = None) -> Path:
    """The pictures of a video in another container, as a run writes them."""
    with open_source(path) as source:
        steps = find_steps(source.info, container_format(output), lambda: index_video(source.info))
        options = SinkOptions(codec=codec, crf=None, clock=steps.clock if steps else None)
        with open_sink(output, source.info, 64, 48, options) as sink:
            for item in source:
                sink.write(item)
            sink.commit()
    return output


def shown(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        tick = stream.time_base
        assert tick is not None
        if container.format.name == "avi":
            return [float(entry.timestamp * tick) for entry in stream.index_entries if entry.size]
        return sorted(float(each.pts * tick) for each in container.demux(stream) if each.size and each.pts is not None)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".avi", None),
        (".avi", "mpeg4"),
        (".wmv", None),
        (".3gp", None),
        (".m4v", None),
        (".flv", None),
        (".mp4", "mpeg4"),
        (".mkv", None),
    ],
)
def test_uneven_times_stay_in_sync(tmp_path: Path, suffix: str, codec: str | None) -> None:
    path = make_video(tmp_path / "in.mkv", [90 * time for time in BURST])
    found = shown(restored(path, tmp_path / f"out{suffix}", codec))
    assert len(found) == len(BURST)
    assert max(abs(one - found[0] - time / 1000) for one, time in zip(found, BURST, strict=True)) <= float(IN_SYNC_S)


def fast_video(path: Path) -> Path:
    """30 frames at 2000 frames per second."""

    def fast(_: Any, stream: Any) -> None:
        stream.codec_context.framerate = 2000

    return make_video(path, [45 * index for index in range(30)], prepare=fast)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_rates_above_1000_are_kept(tmp_path: Path, suffix: str) -> None:
    path = fast_video(tmp_path / "in.mp4")
    with open_source(path) as source:
        assert source.info.rate == 2000
    found = shown(restored(path, tmp_path / f"out{suffix}"))
    assert len(found) == 30
    assert abs(found[-1] - 29 / 2000) <= 0.001


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        (".avi", r"an AVI holds 1000 frames per second at most, but .* has 2000: add --vf fps=500, or"),
        (".gif", r"a GIF holds 100 frames per second at most, but .* has 2000: add --vf fps=50, or"),
    ],
)
def test_more_frames_per_second_than_a_container_holds_are_refused(tmp_path: Path, suffix: str, words: str) -> None:
    path = fast_video(tmp_path / "in.mp4")
    with pytest.raises(MediaError, match=words) as error:
        restored(path, tmp_path / f"out{suffix}")
    assert one_line(error)


@pytest.mark.parametrize("known", [True, False])
def test_a_burst_in_a_gif_fails_no_run(tmp_path: Path, known: bool) -> None:
    """Frames closer than a GIF can count: each is shown, a hundredth of a second later than the one before."""
    times = [0, 40, *(80 + 2 * index for index in range(12)), 400, 440]
    path = make_video(tmp_path / "in.mkv", [90 * time for time in times])
    with open_source(path) as source:
        steps = find_steps(source.info, "gif", lambda: index_video(source.info) if known else "its clock jumps")
    found = shown(restored(path, tmp_path / "out.gif"))
    assert [round(100 * time) for time in found] == [0, 4, *range(8, 20), 40, 44]
    assert (steps is not None) == known
    if steps is not None:
        assert (steps.clock, steps.off) == (Fraction(1, 100), Fraction(190 - 102, 1000))
        assert "gif files count time in steps of 1/100 s, so pictures are shown up to 0.09 s" in str(steps.note("gif"))


@pytest.mark.parametrize(
    ("suffix", "known", "lost"),
    [(".h264", False, True), (".h264", True, False), (".mxf", False, True), (".vob", False, False)],
)
def test_lost_pauses_that_nobody_knew_of_before_are_said_at_the_end(
    tmp_path: Path, suffix: str, known: bool, lost: bool
) -> None:
    """As with filters and pipes, whose times come with the frames."""
    path = make_video(tmp_path / "in.mkv", [*range(0, 18000, 3600), 180000])
    clock = Fraction(1, 25) if known else None
    _, notes = transcode(path, tmp_path / f"out{suffix}", options=SinkOptions(clock=clock))
    said = [note for note in notes if "hold no times" in note]
    assert bool(said) == lost
    assert not said or "shown up to 1.80 s from their time; --vf fps=25 repeats" in said[0]
