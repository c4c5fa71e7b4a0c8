"""Playlists: read as fast as they are played, and to their end."""

from __future__ import annotations

import http.server
import threading
import time
from fractions import Fraction
from typing import Any

import pytest

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.restore.live.addresses import LiveInputAddress
from swiftvr_trt.runtime.restore.live.backlog import Backlog
from swiftvr_trt.runtime.restore.live.counts import LiveStatistics
from swiftvr_trt.runtime.restore.live.items import Intake, LiveCut, LiveFrame, LiveItem
from swiftvr_trt.runtime.restore.live.live_clock import Break
from swiftvr_trt.runtime.restore.live.live_input import LiveInput, SourceEndedError
from swiftvr_trt.runtime.restore.live.options import LiveOptions
from swiftvr_trt.runtime.restore.live.reading import LiveReader
from tests.patience import PATIENCE_S

from .lab import transport
from .test_live_input import iter_into, renumbered
from .test_reading import shown_s, taken


class Playlist:
    """A server of segments of 18 frames. When it is released, the others come out, and then it ends."""

    def __init__(self, before: int, after: int) -> None:
        """before, after: how many segments there are until `release`, and from then on."""
        step = Fraction(18, 25)
        self._segments = [transport(18, first_s=number * step, sound=False) for number in range(after)]
        self._before, self._released, self._broken = before, False, False
        self._refused = after
        served = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if served._broken:
                    self.close_connection = True
                    return
                name = self.path.rpartition("/")[2].partition(".")[0]
                if name != "live" and int(name) >= served._refused:
                    self.send_error(404)
                    return
                data = served._list() if name == "live" else served._segments[int(name)]
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/live.m3u8"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _list(self) -> bytes:
        count = len(self._segments) if self._released else self._before
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:0"]
        lines += [line for number in range(count) for line in ("#EXTINF:0.72,", f"{number}.ts")]
        return "\n".join([*lines, *["#EXT-X-ENDLIST"] * self._released, ""]).encode()

    def release(self) -> None:
        self._released = True

    def set_broken(self, broken: bool) -> None:
        """Whether connections are closed without an answer."""
        self._broken = broken

    def refuse_from(self, number: int) -> None:
        """Give no segments from this one on."""
        self._refused = number

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.parametrize("live", [False, True])
def test_segments_of_hls_are_read_as_fast_as_they_are_played_and_end_with_their_playlist(live: bool) -> None:
    playlist, lines, statistics = Playlist(3 if live else 0, 5 if live else 2), list[str](), LiveStatistics()
    if not live:
        playlist.release()
    reader = LiveReader(LiveInputAddress.parse(playlist.url), LiveOptions(), SourceOptions(), statistics, lines.append)
    reader.start()
    assert reader.opened.wait(PATIENCE_S)
    assert reader.error is None
    intake = Intake(Backlog[LiveItem](8, 256, 60.0, "drop"), statistics)
    began = time.monotonic()
    reader.go(intake)
    playlist.release()
    items = taken(intake)
    playlist.close()
    frames = [item for item in items if isinstance(item, LiveFrame)]
    cuts = sum(isinstance(item, LiveCut) for item in items)
    assert cuts == live  # it is looked for again when the playlist does not go on, and nothing waits for that
    counts = statistics.report().counts
    assert reader.error is None
    assert (counts.dropped, counts.jumps, counts.gaps) == (0, 0, 0)
    assert len(frames) >= 36  # of a list that grows, what is there before anyone wants it is not kept
    for frame in frames:
        assert frame.arrived is not None
        assert frame.arrived - began >= shown_s(frame) - 0.001  # never early
    assert (f"{playlist.url} has come to its end" in lines) == live


def test_hls_that_breaks_off_and_ends_meanwhile_is_read_to_its_end() -> None:
    playlist, lines, statistics = Playlist(3, 4), list[str](), LiveStatistics()
    reader = LiveReader(
        LiveInputAddress.parse(playlist.url), LiveOptions(when_late="wait"), SourceOptions(), statistics, lines.append
    )
    intake = Intake(Backlog[LiveItem](8, 256, 60.0, "wait"), statistics)
    reader.start()
    assert reader.opened.wait(PATIENCE_S)
    playlist.set_broken(True)
    reader.go(intake)
    deadline = time.monotonic() + PATIENCE_S
    while not lines and time.monotonic() < deadline:  # it is noticed that the server is away
        time.sleep(0.01)
    playlist.release()
    playlist.set_broken(False)
    frames = [item for item in taken(intake) if isinstance(item, LiveFrame)]
    playlist.close()
    assert reader.error is None
    assert len({frame.picture.stamp.pts for frame in frames}) == len(frames) == 4 * 18
    assert lines[-1] == f"{playlist.url} has come to its end"


@pytest.mark.parametrize(
    ("options", "count", "why"),
    [((), 4 * 18, "it has ended"), ((("seg_format_options", ""),), 2 * 18, "it breaks off before its end")],
)
def test_segments_whose_streams_get_other_numbers_go_on(
    options: tuple[tuple[str, str], ...], count: int, why: str
) -> None:
    playlist = Playlist(0, 4)
    playlist.release()
    playlist._segments[2:] = [renumbered(data, 512) for data in playlist._segments[2:]]
    source = LiveInput(LiveInputAddress.parse(playlist.url), options, None)
    packets: list[Any] = []
    with pytest.raises(SourceEndedError, match=why):
        packets.extend(iter_into(source, packets))
    assert len(packets) == count
    source.close()
    playlist.close()


def test_hls_with_an_end_that_breaks_off_is_an_error() -> None:
    playlist, statistics = Playlist(0, 6), LiveStatistics()
    playlist.release()
    playlist.refuse_from(4)
    reader = LiveReader(LiveInputAddress.parse(playlist.url), LiveOptions(), SourceOptions(), statistics, print)
    intake = Intake(Backlog[LiveItem](8, 256, 60.0, "wait"), statistics)
    reader.start()
    assert reader.opened.wait(PATIENCE_S)
    reader.go(intake)
    assert sum(isinstance(item, LiveFrame) for item in taken(intake)) == 4 * 18
    playlist.close()
    assert str(reader.error) == f"{playlist.url} cannot be read to its end: it breaks off before its end"


def test_hls_whose_times_have_jumped_is_not_read_twice() -> None:
    reader = LiveReader(
        LiveInputAddress.parse("http://host/live.m3u8"), LiveOptions(), SourceOptions(), LiveStatistics(), print
    )
    again: Any = Ended(Fraction(60))
    reader._reached = Fraction(7)
    assert reader._go_on(again, SourceEndedError("why", at_end=True))
    reader._note_break(Break(reconnected=False, gap_s=0.0, jump_s=-30.0))
    assert not reader._go_on(again, SourceEndedError("why", at_end=True))


class Ended:
    """A playlist with its last segment, of which seconds are left, or whose times do not fit."""

    has_end = True

    def __init__(self, left: Fraction | None) -> None:
        self._left, self.sought = left, list[Fraction]()

    def left_after(self, _moment: Fraction) -> Fraction | None:
        return self._left

    def seek(self, moment: Fraction) -> None:
        self.sought.append(moment)

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("left", "at_end", "resumed", "outcome"),
    [
        (Fraction(0), True, False, "has come to its end"),
        (Fraction(0), False, False, "has come to its end"),
        (Fraction(3), True, False, ""),
        (Fraction(3), False, False, ""),
        (Fraction(3), False, True, "cannot be read to its end: why"),
        (Fraction(1, 2), True, True, "has come to its end"),
        (None, True, False, "has come to its end; whether some of it is missing cannot be told"),
        (None, False, False, "cannot be read to its end: its times do not continue"),
    ],
)
def test_a_playlist_with_an_end_is_left_only_when_nothing_is_left(
    left: Fraction | None, at_end: bool, resumed: bool, outcome: str
) -> None:
    lines, source = list[str](), Ended(left)
    address = LiveInputAddress.parse("http://host/live.m3u8")
    reader = LiveReader(address, LiveOptions(), SourceOptions(), LiveStatistics(), lines.append)
    again: Any = source
    reader._connect = lambda: again  # type: ignore[method-assign]
    reader._reached = Fraction(7)
    reader._resumed = Fraction(7) if resumed else None
    try:
        found: Any = reader._reconnect(SourceEndedError("why", at_end=at_end))
    except MediaError as error:
        lines.append(str(error))
        found = None
    assert (found is source, source.sought) == ((True, [Fraction(7)]) if not outcome else (False, []))
    assert outcome in lines[-1]
