"""One clock for all streams of a file: known packets, and recordings that are joined."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from swiftvr_trt.runtime.media import CopiedPacket, Picture, open_source
from swiftvr_trt.runtime.media.file_clock import FileClock
from swiftvr_trt.runtime.media.index import index_video
from tests.clips import seconds

from .videos import STEP, make_video, mux_tone, packets, times, transcode

VIDEO, SOUND, TEXT = 0, 1, 2
KINDS = {VIDEO: "video", SOUND: "audio", TEXT: "subtitle"}
MS = Fraction(1, 1000)


def packet(pts: int, length: int = 40, dts: int | None = None) -> Any:
    made = av.Packet(b"data")
    made.pts, made.dts, made.duration, made.time_base = pts, pts if dts is None else dts, length, MS
    return made


def placed(events: list[tuple[int, int]], jumps: bool = True, length: int = 40) -> tuple[dict[int, list[Any]], int]:
    """The times of each stream after the clock has seen packets (stream, pts), and how often it jumped."""
    clock = FileClock(KINDS, VIDEO, jumps=jumps)
    made = [(stream, packet(pts, 5000 if stream == TEXT else length)) for stream, pts in events]
    numbers = {id(each): stream for stream, each in made}
    ready = [*(done for stream, each in made for done in clock.place(each, stream)), *clock.rest()]
    assert len(ready) == len(made)
    return {kind: [each.pts for each in ready if numbers[id(each)] == kind] for kind in KINDS}, clock.jumped


def recording(start: int, count: int = 25, sound_first: bool = False) -> list[tuple[int, int]]:
    """Picture and sound of a recording, interleaved, 40 ms each."""
    order = (SOUND, VIDEO) if sound_first else (VIDEO, SOUND)
    return [(stream, start + 40 * index) for index in range(count) for stream in order]


@pytest.mark.parametrize("length", [40, 0], ids=["durations", "no durations"])
@pytest.mark.parametrize("sound_first", [False, True])
@pytest.mark.parametrize(
    "starts",
    [
        [0, 0],
        [800, 0, 20_000],
        [1_000_000, 0],
        [0, 1_000_000],
        [0, 500, 200],
        [95_443_000, 0, 95_443_000, 12],
        [5000, 4500, 4000, 3500, 3000],
    ],
    ids=str,
)
def test_picture_and_sound_go_on_together_where_recordings_are_joined(
    starts: list[int], sound_first: bool, length: int
) -> None:
    events = [event for start in starts for event in recording(start, sound_first=sound_first)]
    found, jumped = placed(events, length=length)
    expected = [starts[0] + 40 * index for index in range(25 * len(starts))]
    assert found[VIDEO] == found[SOUND] == expected
    assert jumped == len(starts) - 1


def test_a_pause_stays_a_pause() -> None:
    events = [*recording(0), *recording(9000)]
    assert placed(events) == ({VIDEO: [t for s, t in events if s == VIDEO], SOUND: [t for s, t in events if s == SOUND],
                               TEXT: []}, 0)  # fmt: skip


def test_a_still_picture_is_no_jump_while_the_sound_goes_on() -> None:
    events = [(VIDEO, 0), *((SOUND, 40 * index) for index in range(500)), (VIDEO, 20_000)]
    found, jumped = placed(events)
    assert (found[VIDEO], jumped) == ([0, 20_000], 0)


@pytest.mark.parametrize("jumps", [False, True])
def test_a_subtitle_never_moves_anything(jumps: bool) -> None:
    events = [(VIDEO, 0), (TEXT, 0), (VIDEO, 40), (TEXT, 1000), (TEXT, 900), (VIDEO, 80), (TEXT, 60_000), (VIDEO, 120)]
    found, jumped = placed(events, jumps)
    assert (found[VIDEO], found[TEXT], jumped) == ([0, 40, 80, 120], [0, 1000, 900, 60_000], 0)


def test_a_subtitle_moves_with_the_recording_that_it_belongs_to() -> None:
    events = [*recording(90_000), (TEXT, 90_900), *recording(0)[:10], (TEXT, 300), *recording(0)[10:]]
    assert placed(events)[0][TEXT] == [90_900, 91_300]


def test_the_last_picture_may_come_after_the_first_sound_of_the_next_recording() -> None:
    first, second = recording(700), recording(0)
    late = first.pop(-2)
    found, jumped = placed([*first, second.pop(1), late, *second])
    assert found[VIDEO] == found[SOUND] == [700 + 40 * index for index in range(50)]
    assert jumped == 1


def test_a_stray_packet_of_sound_moves_nothing_else() -> None:
    events = recording(0)
    events[21] = (SOUND, 77_000)
    found, jumped = placed(events)
    assert (found[VIDEO], jumped) == ([40 * index for index in range(25)], 0)
    assert found[SOUND] == [40 * index for index in range(25)]


def test_sound_that_jumps_alone_goes_on_by_itself() -> None:
    pictures = [40 * index for index in range(400)]
    sound = [time if time < 4000 else time + 500_000 for time in pictures]
    events = [event for pair in zip(pictures, sound, strict=True) for event in zip((VIDEO, SOUND), pair, strict=True)]
    found, jumped = placed(events)
    assert (found[VIDEO], found[SOUND], jumped) == (pictures, pictures, 0)


def test_small_steps_back_are_left_to_the_stream() -> None:
    assert placed([(VIDEO, 1000), (VIDEO, 980), (VIDEO, 1040)]) == ({VIDEO: [1000, 980, 1040], SOUND: [], TEXT: []}, 0)


def test_reordered_frames_without_decoding_times_are_no_jump() -> None:
    clock = FileClock({VIDEO: "video"}, VIDEO, jumps=False)
    found = []
    for pts in (0, 5000, 1000, 3000):
        made = packet(pts)
        made.dts = None
        found += [ready.pts for ready in clock.place(made, VIDEO)]
    assert (found, clock.jumped) == ([0, 5000, 1000, 3000], 0)


def one_recording(path: Path, begin: int, **options: str) -> bytes:
    """A second of picture and sound whose clock begins at `begin` ticks of 1/90000 s."""

    def sound(container: Any, _: Any) -> None:
        container.add_stream("aac", rate=48000)

    made = make_video(path, [STEP * i for i in range(25)], prepare=sound, extra=lambda c: mux_tone(c, 1.0), **options)
    return late(made, begin)


def late(path: Path, begin: int) -> bytes:
    """The same recording with another beginning, as MPEG-TS."""
    after = path.with_suffix(".late.ts")
    with av.open(str(path)) as source, av.open(str(after), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for each in source.demux():
            if each.size and each.dts is not None and each.pts is not None and each.time_base is not None:
                ticks = round(begin * Fraction(1, 90000) / each.time_base)
                each.pts, each.dts = each.pts + ticks, each.dts + ticks
                each.stream = streams[each.stream_index]
                target.mux(each)
    return after.read_bytes()


@pytest.mark.parametrize(
    "begins",
    [[0, 0], [90_000_000, 0], [0, 90_000_000], [0, 90_000, 180_000], [(1 << 33) - 45_000, 0], [900_000, 855_000, 0]],
    ids=str,
)
@pytest.mark.parametrize("b_frames", ["0", "2"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_joined_recordings_keep_every_picture_and_every_packet(
    tmp_path: Path, begins: list[int], b_frames: str, suffix: str
) -> None:
    parts = [
        one_recording(tmp_path / f"{number}.ts", begin, bf=b_frames, preset="medium")
        for number, begin in enumerate(begins)
    ]
    path = tmp_path / "in.ts"
    path.write_bytes(b"".join(parts))
    transcode(path, tmp_path / f"out{suffix}")
    shown = times(tmp_path / f"out{suffix}")
    assert len(shown) == 25 * len(begins)
    assert abs(shown[-1] - shown[0] + Fraction(1, 25) - len(begins)) < Fraction(1, 10) * len(begins)
    assert len(packets(tmp_path / f"out{suffix}", "audio")) == len(packets(path, "audio"))
    drift = sync(tmp_path / f"out{suffix}", len(begins))
    assert max(drift) < 0.1


def sync(path: Path, count: int) -> list[float]:
    """How far sound and picture are apart at the beginning of each of `count` equal parts, in seconds."""
    with av.open(str(path)) as container:
        kinds: dict[str, list[float]] = {"video": [], "audio": []}
        for each in container.demux():
            if each.size:
                kinds[each.stream.type].append(float(seconds(each)))
    starts = {
        kind: [sorted(found)[len(found) * part // count] for part in range(count)] for kind, found in kinds.items()
    }
    return [abs(video - audio) for video, audio in zip(starts["video"], starts["audio"], strict=True)]


def test_packets_alone_have_the_same_times_as_between_pictures(tmp_path: Path) -> None:
    path = tmp_path / "in.ts"
    path.write_bytes(b"".join(one_recording(tmp_path / f"{begin}.ts", begin) for begin in (900_000, 45_000, 0)))
    with open_source(path) as source:
        items = list(source)
        assert any("the clock of the input jumps 2 times" in note for note in source.notes)
    between = [(item.packet.pts, item.packet.dts) for item in items if isinstance(item, CopiedPacket)]
    with open_source(path) as source:
        alone = [(item.packet.pts, item.packet.dts) for item in source.copied_packets()]  # type: ignore[attr-defined]
    with open_source(path) as source:
        stamps = list(source.stamps())  # type: ignore[attr-defined]
    assert between == alone
    assert stamps == [(item.stamp.pts, item.stamp.duration) for item in items if isinstance(item, Picture)]
    assert index_video(source.info) == "its clock jumps"
    assert all(after > before for before, after in itertools.pairwise(pts for pts, _ in stamps))


@pytest.mark.parametrize(
    ("times", "gaps"),
    [
        ([0, 40, 80, 120], None),
        ([0, 40, 80, 400, 440], (1, 280, 120)),
        ([0, 40, 80, 180, 220, 820], (2, 620, 120)),
        ([0, 400, 440], None),  # the first packet may be long
        ([0, 40, 80, 130, 170], None),  # jitter
    ],
)
def test_gaps_in_the_sound_are_measured(times: list[int], gaps: tuple[int, int, int] | None) -> None:
    clock = FileClock(KINDS, VIDEO, jumps=True)
    for time in times:
        clock.place(packet(time), SOUND)
    found = clock.gaps.get(SOUND)
    assert (None if found is None else (found.count, int(found.total / MS), int(found.first / MS))) == gaps


def test_where_clocks_do_not_jump_a_pause_is_no_gap() -> None:
    clock = FileClock(KINDS, VIDEO, jumps=False)
    for time in (0, 40, 80, 4000):
        clock.place(packet(time), SOUND)
    assert clock.gaps == {}
