"""Video through pipes: what arrives is what a file would hold. Standard input and output are tested in `tests/cli`."""

from __future__ import annotations

import io
import os
import sys
import threading
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from swiftvr_trt.errors import MediaError, MisuseError, OutputError
from swiftvr_trt.runtime.media import Picture, SinkOptions, open_sink, open_source
from swiftvr_trt.runtime.media.base import Item
from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.media.pipes import (
    input_name,
    is_input_pipe,
    is_output_pipe,
    is_standard_input,
    is_standard_output,
    output_name,
)
from swiftvr_trt.runtime.media.source_options import SourceOptions
from tests.clips import video_pts, write_clip
from tests.patience import PATIENCE_S

from .videos import EVEN, UNEVEN, make_video

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def sent(data: bytes, fifo: Path) -> threading.Thread:
    """Somebody who writes into the pipe."""

    def send() -> None:
        with fifo.open("wb", buffering=0) as pipe, suppress(BrokenPipeError):
            pipe.write(data)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def received(fifo: Path, into: Path, limit: int | None = None) -> threading.Thread:
    """Somebody who reads the pipe, all of it or so many bytes."""

    def take() -> None:
        with fifo.open("rb") as pipe:
            into.write_bytes(pipe.read() if limit is None else pipe.read(limit))

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    return thread


def items(path: Path, options: SourceOptions | None = None) -> tuple[list[Item], str | None]:
    with open_source(path, options=options) as source:
        return list(source), source.shortfall


def raw_of(clip: Path, pix_fmt: str) -> bytes:
    """The frames of a clip without a header."""
    memory = io.BytesIO()
    with av.open(clip) as source, av.open(memory, "w", format="rawvideo") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for frame in source.decode(video=0):
            container.mux(stream.encode(converted(frame, format=pix_fmt)))
    return memory.getvalue()


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0", "pipe:0", "pipe:"])
def test_standard_input_has_several_names(name: str) -> None:
    assert is_standard_input(name)
    assert is_input_pipe(Path(name))
    assert input_name(name) == "standard input"


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "pipe:1", "pipe:"])
def test_standard_output_has_several_names(name: str) -> None:
    assert is_standard_output(name)
    assert is_output_pipe(Path(name))
    assert output_name(Path(name)) == "standard output"


def test_files_are_no_pipes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, tmp_path, tmp_path / "none"):
        assert not is_input_pipe(path)
        assert not is_output_pipe(path)
        assert input_name(path) == output_name(path) == str(path)
    assert is_output_pipe("/dev/null")
    assert not is_input_pipe("/dev/null")


@pytest.mark.parametrize("suffix", [".nut", ".mkv", ".ts", ".y4m", ".avi"])
def test_a_pipe_gives_what_the_file_gives(fifo: Path, tmp_path: Path, suffix: str) -> None:
    source = make_video(tmp_path / f"in{suffix}", EVEN, "rawvideo" if suffix == ".y4m" else "libx264")
    expected, _ = items(source)
    sent(source.read_bytes(), fifo)
    found, shortfall = items(fifo)
    assert [item.stamp for item in found if isinstance(item, Picture)] == [
        item.stamp for item in expected if isinstance(item, Picture)
    ]
    assert all(
        (one.pixels == other.pixels).all()
        for one, other in zip(found, expected, strict=True)
        if isinstance(one, Picture) and isinstance(other, Picture)
    )
    assert shortfall is None


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "rgb24", "gray"])
@pytest.mark.parametrize("piped", [False, True])
def test_raw_video_needs_to_be_described(fifo: Path, tmp_path: Path, pix_fmt: str, piped: bool) -> None:
    data = raw_of(make_video(tmp_path / "in.mp4", EVEN[:5]), pix_fmt)
    path = tmp_path / "in.yuv"
    path.write_bytes(data)
    if piped:
        sent(data, fifo)
        path = fifo
    found, shortfall = items(path, SourceOptions(f"{pix_fmt}:64x48:24"))
    assert [item.stamp.pts * item.stamp.time_base for item in found if isinstance(item, Picture)] == [
        Fraction(number, 24) for number in range(5)
    ]
    assert shortfall is None


@pytest.mark.parametrize("suffix", [".nut", ".y4m", ".raw"])
def test_a_video_that_is_cut_off_is_incomplete(fifo: Path, tmp_path: Path, suffix: str) -> None:
    """The program before this one may have died."""
    options = None
    if suffix == ".raw":
        data, options = raw_of(make_video(tmp_path / "in.mp4", EVEN), "yuv420p"), SourceOptions("yuv420p:64x48:25")
    else:
        data = make_video(tmp_path / f"in{suffix}", EVEN, "rawvideo").read_bytes()
    sent(data[: len(data) // 2 + 99], fifo)
    found, shortfall = items(fifo, options)
    assert 10 < len(found) < 20
    assert shortfall is not None


@pytest.mark.parametrize("data", [b"", b"no video" * 999])
def test_what_is_no_video_is_refused_in_one_line(fifo: Path, data: bytes) -> None:
    sent(data, fifo)
    with pytest.raises(MediaError, match=r"is empty \(0 bytes\)" if not data else "cannot be read as a video"):
        open_source(fifo)


def write(clip: Path, output: Path, options: SinkOptions | None = None) -> None:
    """Copies a clip into a pipe."""
    with open_source(clip) as source, open_sink(output, source.info, 64, 48, options) as sink:
        for item in source:
            sink.write(item)
        sink.commit()


def piped_through(clip: Path, fifo: Path, into: Path, options: SinkOptions | None = None) -> Path:
    """Copies a clip through a pipe into a file."""
    thread = received(fifo, into)
    write(clip, fifo, options)
    thread.join(PATIENCE_S)
    return into


@pytest.mark.parametrize(
    ("name", "format_name", "codec"),
    [
        (None, "nut", "rawvideo"),
        ("mkv", "matroska,webm", "h264"),
        ("ts", "mpegts", "h264"),
        ("y4m", "yuv4mpegpipe", "rawvideo"),
    ],
)
def test_a_pipe_gets_a_video(tmp_path: Path, fifo: Path, name: str | None, format_name: str, codec: str) -> None:
    clip = make_video(tmp_path / "in.mp4", EVEN)
    out = piped_through(clip, fifo, tmp_path / "out", SinkOptions(out_format=name))
    with av.open(out) as container:
        assert container.format.name == format_name
        assert container.streams.video[0].codec_context.codec.name == codec
    begin = video_pts(out)[0]  # MPEG-TS begins anywhere
    assert [pts - begin for pts in video_pts(out)] == video_pts(clip)


def test_uneven_times_and_sound_go_through_nut(tmp_path: Path, fifo: Path) -> None:
    uneven = make_video(tmp_path / "in.mkv", UNEVEN)
    assert video_pts(piped_through(uneven, fifo, tmp_path / "out.nut")) == video_pts(uneven)
    clip = write_clip(tmp_path / "sound.mp4", width=64, height=48)
    with av.open(piped_through(clip, fifo, tmp_path / "out.nut")) as ours, av.open(clip) as theirs:
        packets = [
            [bytes(packet) for packet in container.demux(audio=0) if packet.size] for container in (ours, theirs)
        ]
    assert packets[0] == packets[1]


def y4m_of(clip: Path, pix_fmt: str, name: str) -> bytes:
    """The frames of a clip behind the headers of yuv4mpeg. name: of the pixel format, as these call it."""
    frames = raw_of(clip, pix_fmt)
    size = len(frames) // len(EVEN)
    parts = [b"FRAME\n" + frames[index : index + size] for index in range(0, len(frames), size)]
    return b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C%s\n" % name.encode() + b"".join(parts)


@pytest.mark.parametrize(("pix_fmt", "name"), [("yuv420p", "420mpeg2"), ("yuv420p10le", "420p10")])
def test_y4m_stays_y4m(tmp_path: Path, fifo: Path, pix_fmt: str, name: str) -> None:
    given = y4m_of(make_video(tmp_path / "in.mp4", EVEN), pix_fmt, name)
    (tmp_path / "in.y4m").write_bytes(given)
    thread = received(fifo, tmp_path / "out")
    with (
        open_source(tmp_path / "in.y4m", options=SourceOptions(planes=True)) as source,
        open_sink(fifo, source.info, 64, 48) as sink,
    ):
        for item in source:
            sink.write(item)
        sink.commit()
    thread.join(PATIENCE_S)
    header, _, frames = (tmp_path / "out").read_bytes().partition(b"\n")
    assert header.startswith(b"YUV4MPEG2 W64 H48 F25:1")
    assert f"C{name}".encode() in header.split()
    assert frames == given.partition(b"\n")[2]


@pytest.mark.parametrize(
    ("name", "encoder", "kept"),
    [
        (None, None, True),
        ("y4m", None, True),
        ("nut", "ffv1", True),
        ("mkv", "libx264", True),
        ("mkv", "ffv1", False),
        ("vob", None, True),  # which keeps that the picture is 16:9
    ],
)
def test_the_shape_of_pixels_goes_through_a_pipe_or_a_line_says_so(
    tmp_path: Path, fifo: Path, name: str | None, encoder: str | None, *, kept: bool
) -> None:
    def stretch(_: Any, stream: Any) -> None:
        stream.width, stream.codec_context.sample_aspect_ratio = 72, Fraction(32, 27)

    clip = make_video(tmp_path / "in.mp4", EVEN, prepare=stretch)
    thread = received(fifo, tmp_path / "out")
    with (
        open_source(clip) as source,
        open_sink(fifo, source.info, 72, 48, SinkOptions(out_format=name, codec=encoder)) as sink,
    ):
        notes = sink.notes
        for item in source:
            sink.write(item)
        sink.commit()
    thread.join(PATIENCE_S)
    with av.open(tmp_path / "out") as container:
        assert (container.streams.video[0].sample_aspect_ratio == Fraction(32, 27)) is kept
    said = [note for note in notes if "that pixels are 32:27" in note]
    assert ["into matroska with ffv1" in note for note in said] == [True] * (not kept)


def test_a_reader_that_leaves_ends_the_writer(tmp_path: Path, fifo: Path) -> None:
    clip = make_video(tmp_path / "in.mp4", EVEN)
    received(fifo, tmp_path / "out", limit=100)
    with pytest.raises(OutputError, match="was closed by the program that reads it before the end"):
        write(clip, fifo)


@pytest.mark.parametrize("name", ["mp4", "xyz", "jpg"])
def test_a_format_that_cannot_go_through_a_pipe_is_refused(tmp_path: Path, name: str) -> None:
    clip = make_video(tmp_path / "in.mp4", EVEN[:2])
    with open_source(clip) as source, pytest.raises(MediaError, match=r"--out-format"):
        open_sink("/dev/null", source.info, 64, 48, SinkOptions(out_format=name))


def test_a_trial_opens_no_pipe(tmp_path: Path, fifo: Path) -> None:
    """Nobody reads it, so opening it would wait."""
    clip = make_video(tmp_path / "in.mp4", EVEN[:2])
    with pytest.raises(MisuseError, match="for a trial"):
        write(clip, fifo, SinkOptions(trial=True))
