"""Files that are not videos, and videos that are damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MachineError, MediaError
from swiftvr_trt.runtime.media import Picture, decoder, encoder, open_sink, open_source
from swiftvr_trt.runtime.media.video_out import VideoSink

from .videos import (
    EVEN,
    UNEVEN,
    add_cover,
    add_tone,
    frames_of,
    make_checked,
    make_noise,
    make_video,
    mux_cover,
    mux_tone,
    one_line,
    read,
    remux,
)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"this is no video at all\n" * 50, "cannot be read as a video"), (bytes(5000), "cannot be read")],
)
def test_a_file_that_is_not_a_video_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "in.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=said) as error:
        open_source(tmp_path / "in.mp4")
    assert one_line(error)


@pytest.mark.parametrize(("limit", "threads"), [(3, 3), (None, 0)])
def test_decoder_and_encoder_keep_within_the_limit_of_a_container(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None, threads: int
) -> None:
    for module in (decoder, encoder):
        monkeypatch.setattr(module, "cpu_limit", lambda: limit)
    reading = decoder.VideoDecoder(clip)
    assert reading.stream.codec_context.thread_count == 1
    reading.close()
    with open_source(clip) as source, open_sink(tmp_path / "out.mp4", source.info, 64, 48) as sink:
        assert isinstance(sink, VideoSink)
        assert sink._encoding.stream.codec_context.thread_count == threads


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("libx264", "yuv420p"),
        ("libx265", "yuv420p"),
        ("libsvtav1", "yuv420p"),
        ("libvpx-vp9", "yuv420p"),
        ("ffv1", "gray"),
    ],
)
def test_decoders_know_every_option_they_are_given(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    """FFmpeg ignores others without a word; PyAV keeps them."""
    options: Any = {"preset": "12"} if codec == "libsvtav1" else {}
    # Of one or two pictures, x265 leaves decoding times undefined, and the muxer refuses some.
    path = make_video(tmp_path / "in.mkv", EVEN[:6], codec, frames_of(64, 64, pix_fmt), **options)
    with closing(decoder.VideoDecoder(path)) as reading:
        next(iter(reading))
        assert reading.stream.codec_context.options == {}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory from Linux's /proc")
def test_a_closed_source_keeps_no_frames_in_memory(tmp_path: Path) -> None:
    """Whoever still has its info, to write an output with its tags, does not keep the decoder."""
    path = make_video(tmp_path / "in.mkv", EVEN[:12], prepare=frames_of(2048, 1536), preset="ultrafast")
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back to the system at once
    command = [sys.executable, "-c", CLOSE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    before, reading, closed = map(int, done.stdout.split())
    frame = 2048 * 1536 * 3 // 2
    assert reading - before > 2 * frame
    assert closed - before < 2 * frame


CLOSE = """
import itertools, os, sys
from pathlib import Path
from typing import Any
from swiftvr_trt.runtime.media import open_source

def resident():
    print(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"))

for times in range(2):  # the first time, libraries are loaded
    if times:
        resident()
    source = open_source(sys.argv[1])
    for _ in itertools.islice(source, 8): pass
    if times:
        resident()
    info = source.info
    source.close()
    source.close()
resident()
"""
"""Prints the memory of a process before a video is read, while it is, and after it is closed."""


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no\.mp4 does not exist") as error:
        open_source(tmp_path / "no.mp4")
    assert one_line(error)


def test_a_file_with_only_sound_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2000), np.int16), format="s16", layout="stereo")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
    with pytest.raises(MediaError, match="no video stream"):
        open_source(tmp_path / "in.wav")


def test_a_file_without_its_index_is_refused(clip: Path) -> None:
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])  # the index of an MP4 is at its end
    with pytest.raises(MediaError, match="complete") as error:
        open_source(clip)
    assert one_line(error)


def test_a_truncated_file_is_read_as_far_as_it_goes_and_reported(tmp_path: Path) -> None:
    path = make_noise(tmp_path / "in.mp4")
    data = path.read_bytes()
    start = data.index(b"moov") - 4
    size = int.from_bytes(data[start : start + 4], "big")
    assert start + size == len(data)
    cut = bytearray(data)
    half = data.index(b"mdat") + 4 + (start - data.index(b"mdat")) // 2
    cut[half:start] = bytes(start - half)  # the second half of the pictures is gone, the index is not
    path.write_bytes(cut)
    with open_source(path) as source:
        items = list(source)
        assert 10 <= len(items) <= 20
        assert any("damaged video packets were skipped" in note for note in source.notes)
        assert source.shortfall == f"the input promises 30 frames, but only {len(items)} could be read"


def test_a_damaged_packet_in_the_middle_does_not_end_the_run(clip: Path) -> None:
    with av.open(str(clip)) as container:
        packets = [(packet.pos, packet.size, packet.pts) for packet in container.demux(video=0) if packet.size]
    data = bytearray(clip.read_bytes())
    position, size, lost = packets[15]
    assert position is not None
    data[position : position + size] = b"\xff" * size
    clip.write_bytes(data)
    items, notes = read(clip)
    stamps = [item.stamp.pts for item in items if isinstance(item, Picture)]
    assert stamps == [pts for _, _, pts in packets if pts != lost]
    assert any("1 damaged video packet was skipped" in note for note in notes)


def test_a_file_with_only_a_cover_has_no_video(tmp_path: Path) -> None:
    path = tmp_path / "in.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        add_tone(container)
        add_cover(container, None)
        container.start_encoding()
        mux_cover(container)
        mux_tone(container, 0.2)
    with pytest.raises(MediaError, match="no video stream"):
        open_source(path)


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "libx264"), (".mkv", "ffv1"), (".webm", "libvpx-vp9")])
def test_damage_at_the_end_costs_the_damaged_frames_only(tmp_path: Path, suffix: str, codec: str) -> None:
    path = make_video(tmp_path / f"in{suffix}", EVEN, codec)
    with av.open(str(path)) as container:
        at = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    position, size = at[-3]
    assert position is not None
    data = bytearray(path.read_bytes())
    data[position + size // 2 : position + size // 2 + 6] = b"\xff" * 6
    path.write_bytes(data)
    with open_source(path) as source:
        assert len(list(source)) >= len(EVEN) - 1
        assert source.damage


def test_damaged_slices_of_ffv1_are_counted(tmp_path: Path) -> None:
    path = make_checked(tmp_path / "in.avi", EVEN, damaged=range(5, 9))
    with open_source(path) as source:
        assert len(list(source)) == len(EVEN)
        assert source.damage[0] == "4 frames are damaged in the input and were restored as they are"
        assert "slice CRC mismatch" in source.damage[1]
        assert source.shortfall is None


@pytest.mark.parametrize("lost", [1, 2, 20])
def test_no_missing_packet_is_too_few_to_be_said(tmp_path: Path, lost: int) -> None:
    path = remux(make_noise(tmp_path / "slow.mp4", count=200), tmp_path / "in.mp4", movflags="faststart")
    with av.open(str(path)) as container:
        at = [packet.pos for packet in container.demux(video=0) if packet.size]
    end = at[-lost]
    assert end is not None
    path.write_bytes(path.read_bytes()[:end])
    with open_source(path) as source:
        found = len(list(source))
        assert found == 200 - lost
        assert source.shortfall == f"the input promises 200 frames, but only {found} could be read"


@pytest.mark.parametrize(
    "suffix", [".mkv", ".webm", ".avi", ".mov", ".mp4", ".flv", ".nut", ".ts", ".wmv", ".ogv", ".3gp", ".mxf"]
)
@pytest.mark.parametrize("pts", [EVEN, UNEVEN, [*EVEN[:20], EVEN[19] + 5 * 90000]], ids=["even", "uneven", "pause"])
def test_an_intact_file_is_complete_and_undamaged(tmp_path: Path, suffix: str, pts: list[int]) -> None:
    codec = {".webm": "libvpx", ".wmv": "msmpeg4", ".ogv": "libtheora", ".mxf": "mpeg2video", ".flv": "flv"}
    if suffix in (".avi", ".mxf", ".ogv") and pts is not EVEN:
        pytest.skip("has one frame rate")
    try:
        path = make_video(tmp_path / f"in{suffix}", pts, codec.get(suffix, "libx264"))
    except (ValueError, av.FFmpegError) as error:
        pytest.skip(f"this FFmpeg does not write it: {error}")
    with open_source(path) as source:
        found = len(list(source))
        assert (source.shortfall, source.damage) == (None, ())
        assert found == len(pts)


UNDER_A_LIMIT = """
import resource, sys
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from swiftvr_trt.errors import SwiftVRError
from swiftvr_trt.runtime.media import open_source
from swiftvr_trt.runtime.media.index import index_video
import av, av.video.frame

read = {
    "pictures": iter,
    "packets to copy": lambda source: source.copied_packets(),
    "index": lambda source: [index_video(source.info)],
}[sys.argv[4]]

with open_source(sys.argv[1]):  # everything that reading needs is loaded
    pass
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[3]),) * 2)
try:
    with open_source(sys.argv[2]) as source:
        print("read", sum(1 for _ in read(source)))
except SwiftVRError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of the address space needs Linux")
@pytest.mark.parametrize(
    ("room", "reading"),
    [(20 << 20, "pictures"), *((256 << 10, reading) for reading in ("pictures", "packets to copy", "index"))],
    ids=["for no frame", "for no packet", "for no packet to copy", "for no packet of the index"],
)
def test_short_memory_is_no_damage(tmp_path: Path, room: int, reading: str) -> None:
    small, large = make_video(tmp_path / "small.mkv", EVEN[:2]), tmp_path / "large.mkv"
    with av.open(str(large), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 8192, 4320, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame(8192, 4320, "yuvj420p")))
        container.mux(stream.encode(None))
    command = [sys.executable, "-c", UNDER_A_LIMIT, str(small), str(large), str(room), reading]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"MachineError not enough memory to read {large}")


@pytest.mark.parametrize("short", [True, False])
def test_a_packet_that_asks_for_an_absurd_size_is_damage_unless_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    make_video(tmp_path / "in.mkv", EVEN[:2])

    class Context:
        def decode(self, _packet: object) -> list[object]:
            raise av.error.MemoryError(12, "Cannot allocate memory")

        def flush_buffers(self) -> None: ...

    class Stream:
        index, codec_context, name = 0, Context(), "mjpeg"

    monkeypatch.setattr("swiftvr_trt.runtime.media.pyav.can_allocate", lambda _count: not short)
    reader = decoder.VideoDecoder(tmp_path / "in.mkv")
    whole, reader.stream = reader.stream, Stream()  # type: ignore[assignment]
    packet = next(reader.container.demux(whole))
    if short:
        with pytest.raises(MachineError, match="not enough memory"):
            reader._decode(packet)
    else:
        assert reader._decode(packet) == []
        assert reader.reading.troubled == 1
    reader.stream = whole
    reader.close()


def test_the_addresses_of_a_dvd_are_nothing_to_copy(tmp_path: Path) -> None:
    """The stream that says where in the old file something lies."""
    with av.open(str(tmp_path / "in.vob"), "w", format="dvd") as container:
        video: Any = container.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for packet in [*video.encode(av.VideoFrame(64, 48, "yuv420p")), *video.encode(None)]:
            container.mux(packet)
    with av.open(str(tmp_path / "in.vob")) as made:
        assert [stream.type for stream in made.streams] == ["data", "video"]
    with open_source(tmp_path / "in.vob") as source:
        assert source.info.copies == ()
