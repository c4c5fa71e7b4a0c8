"""A live run from one end to the other."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from swiftvr_trt import Bundle
from swiftvr_trt.errors import MachineError, MisuseError
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.display import Result
from swiftvr_trt.runtime.restore.live.counts import LiveReport
from swiftvr_trt.runtime.restore.live.live_run import LiveRequest, restore_live
from swiftvr_trt.runtime.restore.live.options import LiveOptions
from tests.clips import video_pts
from tests.patience import wait_until
from tests.runtime.media.test_captions import EXPECTED as CAPTIONS
from tests.runtime.media.test_captions import captions_of, make_captioned

from .lab import Feed, Receiver, shown, transport


class Kept:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.results: list[Result] = []

    def begin(self, files: Sequence[tuple[str, str]]) -> None: ...

    def say(self, line: str, name: str = "") -> None:
        assert not name
        self.lines.append(line)

    warn = say

    def update(self, name: str, done: int, total: int | None, remaining: float | None) -> None: ...

    def show_nodes(self, frames: Mapping[str, int]) -> None: ...

    def finish(self, name: str) -> None: ...

    def result(self, result: Result, name: str = "") -> None:
        assert not name
        self.results.append(result)


def request(source: str, output: str, bundle: Bundle, **live: Any) -> LiveRequest:
    options = LiveOptions(when_late="wait", on_gap="skip", reconnect=Fraction(1, 5), **live)
    return LiveRequest(source, output, BundleRequest(bundle=bundle.path), options, threads=1)


def test_from_a_stream_to_a_stream_and_all_frames_are_accounted_for(small_bundle: Bundle) -> None:
    feed, receiver, display = Feed([transport(30, first_s=7), transport(20)]), Receiver(), Kept()
    reports: list[LiveReport] = []
    with pytest.raises(MachineError, match="did not come back in time"):
        restore_live(
            request(feed.url, receiver.url, small_bundle), display, lambda counted: reports.append(counted.report())
        )
    counts = reports[-1].counts
    assert (counts.frames_in, counts.frames_out, counts.working) == (50, 50, 0)
    assert reports[-1].p50 is not None
    assert reports[-1].p50 > 0
    wait_until(lambda: receiver.ended == 1)
    (received,) = receiver.received
    times = shown(received)
    assert len(times) == 50
    assert all(after > before for before, after in pairwise(times))
    assert display.results[0].status == "failed"
    assert any(line.startswith("until then: 50 frames in, 50 out") for line in display.lines)
    for server in (feed, receiver):
        server.close()


@pytest.mark.parametrize(
    ("reading", "count"),
    [
        (SourceOptions(), 20),
        (SourceOptions(deinterlace="bwdif", vf="crop=32:32"), 20),
        (SourceOptions(vf="framestep=2"), 10),
    ],
)
def test_a_file_played_like_a_stream_ends_well(
    small_bundle: Bundle, tmp_path: Path, reading: SourceOptions, count: int
) -> None:
    (tmp_path / "a.ts").write_bytes(transport(20))
    display = Kept()
    played = request(str(tmp_path / "a.ts"), str(tmp_path / "a.mkv"), small_bundle)
    report = restore_live(replace(played, reading=reading), display, lambda _report: None)
    assert (report.counts.frames_in, report.counts.frames_out) == (count, count)
    assert len(video_pts(tmp_path / "a.mkv")) == count
    with av.open(str(tmp_path / "a.mkv")) as written:
        assert len(written.streams.audio) == 1
    assert display.results[0].status == "done"
    assert display.results[0].frames == count


def with_more(path: Path, film: Path) -> Path:
    """A film with a second video, and two streams of subtitles."""
    source: Any = av.open(str(film))
    with source, av.open(str(path), "w") as container:
        videos: list[Any] = [container.add_stream_from_template(source.streams.video[0], opaque=True) for _ in "12"]
        subtitles: list[Any] = [container.add_mux_stream("subrip") for _ in "12"]
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = videos[0]
                container.mux(packet)
        for stream in (videos[1], *subtitles):
            more: Any = av.Packet(b"text")
            more.stream, more.pts, more.dts, more.time_base = stream, 100, 100, Fraction(1, 1000)
            container.mux(more)
    return path


def test_captions_are_kept_and_the_last_line_names_streams_that_are_not(small_bundle: Bundle, tmp_path: Path) -> None:
    source = with_more(tmp_path / "a.mkv", make_captioned(tmp_path / "a.ts", size=(48, 32)))
    display, output = Kept(), tmp_path / "b.mkv"
    restore_live(request(str(source), str(output), small_bundle), display, lambda _statistics: None)
    assert captions_of(output) == CAPTIONS
    (result,) = display.results
    assert (result.status, [line.partition(" left out:")[0] for line in result.lost]) == (
        "done",
        ["1 further video stream (h264) is", "2 subtitle streams (srt) are"],
    )
    for line in result.lost:
        assert [each for each in display.lines if line in each] == [f"a.mkv: {line}"]  # at the beginning, too


def test_a_file_is_not_written_over_itself(small_bundle: Bundle, tmp_path: Path) -> None:
    clip = tmp_path / "a.ts"
    clip.write_bytes(transport(5))
    (tmp_path / "b.ts").hardlink_to(clip)
    for name in ("a.ts", "b.ts"):
        request_ = replace(request(str(clip), str(tmp_path / name), small_bundle), sink=SinkOptions(overwrite=True))
        with pytest.raises(MisuseError, match="is the input: give it a name of its own"):
            restore_live(request_, Kept(), lambda _report: None)
    assert clip.read_bytes() == transport(5)


def test_no_folder_is_left_where_a_source_does_not_answer(small_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot open"):
        restore_live(request("tcp://127.0.0.1:1", f"{tmp_path}/hls/", small_bundle), Kept(), lambda _report: None)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_gets_a_playlist_and_what_it_names(small_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(transport(20))
    report = restore_live(
        request(str(tmp_path / "a.ts"), f"{tmp_path}/hls/", small_bundle), Kept(), lambda _statistics: None
    )
    assert report.counts.frames_out == 20
    with av.open(str(tmp_path / "hls" / "live.m3u8")) as played:
        assert [stream.type for stream in played.streams] == ["video", "audio"]
        assert sum(1 for _ in played.decode(video=0)) == 20


def test_datagrams_carry_every_frame(small_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(transport(20))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        receiver.bind(("127.0.0.1", 0))
        url = f"udp://127.0.0.1:{receiver.getsockname()[1]}"
        report = restore_live(request(str(tmp_path / "a.ts"), url, small_bundle), Kept(), lambda _statistics: None)
        receiver.setblocking(False)
        received = b""
        with suppress(BlockingIOError):
            while True:
                received += receiver.recv(65536)
    assert report.counts.frames_out == 20
    assert len(shown(received)) == 20


@pytest.mark.parametrize("given", [{"alpha": "drop"}, {"allow_playlist": True}, {"in_format": "yuv420p:8x8:25"}])
def test_what_a_stream_does_without_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(MisuseError, match="was given with --live, which does without it"):
        LiveRequest("udp://:5000", "a.mkv", reading=SourceOptions(**given))
