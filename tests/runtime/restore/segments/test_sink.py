"""Pieces are cut where the grid says, begin with key frames, and hold the stamps of their pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swiftvr_trt import FrameForm, MachineError, MediaError, OutputError
from swiftvr_trt.engines.bundle.pixel_formats import NV12
from swiftvr_trt.runtime.media.base import Colour, Item, Picture, SinkOptions, SourceInfo, Stamp
from swiftvr_trt.runtime.media.encoder import Encoding, EncodingRequest, open_encoder
from swiftvr_trt.runtime.media.timeline import ClockConverter
from swiftvr_trt.runtime.restore.segments import sink
from swiftvr_trt.runtime.restore.segments.grid import Grid, Span
from swiftvr_trt.runtime.restore.segments.piece import PieceFolder, write_whole
from swiftvr_trt.runtime.restore.segments.sink import Before, PieceSink, PieceTakenError
from swiftvr_trt.runtime.restore.segments.store import Store
from swiftvr_trt.runtime.stream.frames import Surface

from .test_grid import manifest

TICK = Fraction(1, 1000)
INFO = SourceInfo(Path("in.mp4"), 32, 24, None, Fraction(25), TICK, Colour(), None, "a video")
GRID = Grid(manifest(8), 1)  # pieces begin at 0, 9, 17, 25


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "out.mp4", {"the input": "x"}, resume=True, say=lambda _line: None) as opened:
        yield opened


class Damaged:
    """A source that is not iterated here."""

    info, notes = INFO, ()
    damage = ("one \x1b[31m frame " + 300 * "x",)
    shortfall = "the input promises 2 frames\x07, but only 1 could be read"

    def __iter__(self) -> Iterator[Item]:
        raise NotImplementedError

    def close(self) -> None: ...

    def __enter__(self) -> Damaged:
        return self

    def __exit__(self, *_: object) -> None: ...


def sink_of(store: PieceFolder, span: Span, last: int | None = None) -> PieceSink:
    request = EncodingRequest(INFO, 32, 24, SinkOptions(preset="ultrafast"))
    return PieceSink(
        store, GRID, span, request, Before(lambda base: ClockConverter(base, last), by_index=True), Damaged()
    )


def picture(index: int, pts: int | None = None) -> Picture:
    pixels = np.full((24, 32, 3), 5 * index % 256, np.uint8)
    return Picture(pixels, Stamp(index, 40 * index if pts is None else pts, 40, TICK))


def write(store: PieceFolder, span: Span, indices: range) -> None:
    with sink_of(store, span) as pieces:
        for index in indices:
            pieces.write(picture(index))
        pieces.commit()


def test_pieces_are_cut_where_the_grid_says(store: Store) -> None:
    write(store, Span(0, None), range(20))
    marks = [store.marks[piece] for piece in range(3)]
    assert [(mark.begin, mark.frames, mark.last) for mark in marks] == [(0, 9, False), (9, 8, False), (17, 3, True)]
    for piece, mark in enumerate(marks):
        packets = list(store.packets(piece))
        assert packets[0].key
        shown = sorted(packet.pts * Fraction(mark.time_base) for packet in packets)
        assert shown == [Fraction(40 * index, 1000) for index in range(mark.begin, mark.begin + mark.frames)]


def test_pictures_of_other_spans_are_left_out(store: Store) -> None:
    write(store, Span(1, 2), range(3, 22))
    assert sorted(store.marks) == [1]
    assert (store.marks[1].begin, store.marks[1].frames, store.marks[1].last) == (9, 8, False)


def test_stamps_stay_apart_across_the_border(store: Store) -> None:
    """Each piece knows the last stamp before it: equal ones are moved as within a stream."""
    with sink_of(store, Span(1, 2), last=360) as sink:
        for index in range(9, 17):
            sink.write(picture(index, pts=360))
        sink.commit()
    base = Fraction(store.marks[1].time_base)
    assert min(packet.pts for packet in store.packets(1)) > 360
    assert store.marks[1].clock == max(packet.pts for packet in store.packets(1))
    assert base == TICK


def test_finished_pieces_stay_and_the_unfinished_one_goes(store: Store) -> None:
    with sink_of(store, Span(0, None)) as sink:
        for index in range(12):
            sink.write(picture(index))
    assert sorted(store.marks) == [0]
    assert sorted(path.name for path in store.folder.iterdir()) == ["00000.json", "00000.piece", "job.json", "lock"]


def test_a_piece_that_somebody_else_has_claimed_ends_the_span(tmp_path: Path) -> None:
    with Store.open(tmp_path / "out.mp4", {"the input": "x"}, resume=True, say=lambda _line: None):
        shared = PieceFolder(tmp_path / "out.mp4", shared=True)
        shared.claims.take(0)  # whoever gets a span need not claim its first piece
        shared.claims.take(2)
        with pytest.raises(PieceTakenError):
            write(shared, Span(0, None), range(40))
        assert sorted(shared.marks) == [0, 1]
        assert shared.claims.taken(1)
        assert not shared.claims.taken(3)
        write(shared, Span(2, 4), range(17, 30))
        assert sorted(shared.marks) == [0, 1, 2, 3]


def test_a_claim_that_the_disk_refuses_is_an_error_of_the_output(tmp_path: Path) -> None:
    with Store.open(tmp_path / "out.mp4", {"the input": "x"}, resume=True, say=lambda _line: None) as store:
        shared = PieceFolder(tmp_path / "out.mp4", shared=True)
        store.folder.rename(tmp_path / "away")
        with pytest.raises(OutputError, match=r"out\.mp4"):
            shared.may_begin(1)
        (tmp_path / "away").rename(store.folder)


def test_a_span_without_a_picture_is_an_error(store: Store) -> None:
    with sink_of(store, Span(1, None)) as sink:
        sink.write(picture(3))
        with pytest.raises(MediaError, match=r"no frame was restored for .*out\.mp4, expected at least one"):
            sink.commit()


def test_what_is_wrong_with_the_input_survives_an_interruption(store: Store) -> None:
    """In the words of the input, but printable and short, or the mark would be refused."""
    write(store, Span(0, None), range(12))
    store.close()
    with Store.open(store.output, {"the input": "x"}, resume=True, say=lambda line: pytest.fail(line)) as again:
        assert again.shortfall is not None
        assert again.shortfall.startswith("the input promises 2 frames")
        assert [line[:4] for line in again.damage] == ["one "]


def test_the_encoder_of_a_finished_piece_is_freed_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def remembered(*given: Any) -> Encoding:
        opened.append(open_encoder(*given))
        return opened[-1]

    monkeypatch.setattr(sink, "open_encoder", remembered)
    write(store, Span(0, 2), range(GRID.begin(2)))
    assert [len(encoding.container.streams) for encoding in opened] == [0, 0]


def test_a_piece_of_another_encoder_is_refused_and_those_before_are_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output would describe the pictures of one of them only."""
    opened = list[Encoding]()

    def changing(new_container: Any, request: EncodingRequest) -> Encoding:
        codec = "mpeg4" if opened else "libx264"
        opened.append(open_encoder(new_container, replace(request, options=SinkOptions(codec=codec))))
        return opened[-1]

    monkeypatch.setattr(sink, "open_encoder", changing)
    with pytest.raises(MachineError, match="pieces encoded by libx264 do not join those by mpeg4: try again"):
        write(store, Span(0, 2), range(GRID.begin(2)))
    assert sorted(store.marks) == [0]
    assert [len(encoding.container.streams) for encoding in opened] == [0, 0]


def test_surfaces_that_the_encoder_takes_no_more_end_the_run_with_the_reason(store: Store) -> None:
    """They were taken when the stream was opened."""
    planes = np.zeros((24, 32), np.uint8), np.zeros((12, 16, 2), np.uint8)
    request = EncodingRequest(INFO, 32, 24, SinkOptions(surfaces=True))
    surface = Picture(Surface(planes, FrameForm(NV12), (24, 32)), picture(0).stamp)
    with (
        PieceSink(
            store,
            GRID,
            Span(0, None),
            request,
            Before(lambda base: ClockConverter(base, None), by_index=False),
            Damaged(),
        ) as pieces,
        pytest.raises(MachineError, match=r"where libx264 encodes them, and the stream .* or with --hwaccel cuda$"),
    ):
        pieces.write(surface)
    assert not store.marks


@pytest.mark.parametrize("shared", [True, False])
def test_what_another_device_has_encoded_with_another_header_stops_this_one_early(store: Store, shared: bool) -> None:
    write(store, Span(0, 1), range(9))
    other = replace(store.marks[0], header="of another GPU")
    assert other.header != store.marks[0].header
    write_whole(store.mark_path(0), json.dumps(asdict(other)))
    folder = PieceFolder(store.output, shared=shared)
    with pytest.raises(MachineError, match="another libx264") if shared else nullcontext():
        write(folder, Span(2, 3), range(17, 25))
    assert sorted(folder.marks) == ([] if shared else [2])


def test_of_two_devices_that_begin_together_the_first_to_finish_decides(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of two encoders in one folder would stop every later run, too."""

    folder = PieceFolder(store.output, shared=True)
    with sink_of(folder, Span(1, 2)) as slow:
        with monkeypatch.context() as patch:
            patch.setattr(Encoding, "header", "of another GPU")
            slow.write(picture(9))
        write(store, Span(0, 1), range(9))
        with pytest.raises(MachineError, match="another libx264"):
            slow.commit()
    assert sorted(folder.all_marks()) == [0]
    assert not list(store.folder.glob("*.part"))


def test_pieces_of_others_in_software_are_gone_on_with_in_software(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, Span(0, 1), range(9))
    asked = list[int | None]()

    def noting(new_container: Any, request: EncodingRequest) -> Encoding:
        asked.append(request.options.gpu)
        return open_encoder(new_container, replace(request, options=replace(request.options, gpu=None)))

    monkeypatch.setattr(sink, "open_encoder", noting)
    request = EncodingRequest(INFO, 32, 24, SinkOptions(preset="ultrafast", gpu=0))
    before = Before(lambda base: ClockConverter(base, None), by_index=True)
    folder = PieceFolder(store.output, shared=True)
    with PieceSink(folder, GRID, Span(2, 3), request, before, Damaged()) as pieces:
        pieces.write(picture(17))
        pieces.commit()
    assert asked == [None]
