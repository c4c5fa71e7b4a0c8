"""What goes wrong is said in one line, and nothing half-written is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MediaError, MisuseError, OutputError
from swiftvr_trt.runtime.media import (
    Item,
    Picture,
    Sink,
    SinkOptions,
    Source,
    SourceInfo,
    Stamp,
    open_sink,
    open_source,
)
from swiftvr_trt.runtime.media.files import PartFile

ROOT = os.name == "posix" and os.geteuid() == 0


def noise(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 255, (height, width, 3), np.uint8)


def make(path: Path, count: int = 30, sizes: tuple[tuple[int, int], ...] = ((64, 48),), **options: str) -> Path:
    """`count` frames of noise, all of them key frames, split evenly among raw streams of `sizes`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "1", "preset": "ultrafast", **options})
        stream.width, stream.height, stream.pix_fmt = *sizes[0], "yuv420p"
        for index in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise(index, *sizes[0]), "rgb24")))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> tuple[list[Item], tuple[str, ...]]:
    with open_source(path) as source:
        return list(source), source.notes


def opened(path: Path, info: SourceInfo, options: SinkOptions | None = None) -> Sink:
    return open_sink(path, info, info.width, info.height, options)


def copy(before: Path, after: Path, options: SinkOptions | None = None) -> None:
    with open_source(before) as source, opened(after, source.info, options) as sink:
        for item in source:
            sink.write(item)
        sink.commit()


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


def one_line(error: pytest.ExceptionInfo[Exception]) -> bool:
    return "\n" not in str(error.value) and len(str(error.value)) > 20


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make(tmp_path / "in.mp4")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"this is no video at all\n" * 50, "cannot be read as a video"), (bytes(5000), "cannot be read")],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "in.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=said) as error:
        open_source(tmp_path / "in.mp4")
    assert one_line(error)


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no\.mp4 does not exist") as error:
        open_source(tmp_path / "no.mp4")
    assert one_line(error)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
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


def test_a_truncated_file_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    path = make(tmp_path / "in.mp4")
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


def test_a_file_without_one_good_picture_is_refused(clip: Path) -> None:
    data = bytearray(clip.read_bytes())
    begin, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[begin:end] = bytes(end - begin)
    clip.write_bytes(data)
    with pytest.raises(MediaError, match="could be decoded"):
        open_source(clip)


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
    assert any("1 damaged video packets" in note for note in notes)


def test_a_change_of_size_names_the_frame_and_both_sizes(tmp_path: Path) -> None:
    for index, size in enumerate([(64, 48), (96, 64)]):
        make(tmp_path / f"{index}.h264", 3, (size,))
    joined = (tmp_path / "0.h264").read_bytes() + (tmp_path / "1.h264").read_bytes()
    (tmp_path / "in.h264").write_bytes(joined)
    with pytest.raises(MediaError, match=r"frame 3 of .* is 96x64, expected 64x48") as error:
        read(tmp_path / "in.h264")
    assert one_line(error)


def test_a_video_has_its_own_rate(clip: Path) -> None:
    with pytest.raises(MisuseError, match="has its own rate"):
        open_source(clip, rate=Fraction(30))


def test_an_output_is_not_replaced_unless_asked(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises(MediaError, match="already exists"):
        copy(clip, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_text() == "precious"
    copy(clip, tmp_path / "out.mp4", SinkOptions(overwrite=True))
    assert len(read(tmp_path / "out.mp4")[0]) == 30
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


def test_an_output_that_appears_meanwhile_is_not_replaced(clip: Path, tmp_path: Path) -> None:
    with open_source(clip) as source, opened(tmp_path / "out.mp4", source.info) as sink:
        for item in source:
            sink.write(item)
        (tmp_path / "out.mp4").write_text("precious")
        with pytest.raises(MediaError, match="already exists"):
            sink.commit()
    assert (tmp_path / "out.mp4").read_text() == "precious"
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_an_output_that_is_a_link_stays_one(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "out.mp4"
    link.symlink_to(tmp_path / "disk" / "real.mp4")
    copy(clip, link)
    assert link.is_symlink()
    assert names(tmp_path / "disk") == ["real.mp4"]


def test_the_input_is_never_the_output(clip: Path, tmp_path: Path) -> None:
    before = clip.read_bytes()
    (tmp_path / "sub").mkdir()
    for path in (clip, tmp_path / "sub" / ".." / "in.mp4"):
        with pytest.raises(MediaError, match="is the input itself"):
            copy(clip, path, SinkOptions(overwrite=True))
    assert clip.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("out.zzz", {}, r"'\.zzz', which is not a video container, expected e\.g\. \.mp4"),
        ("out.m3u8", {}, "many files"),
        ("out.mp4", {"codec": "nope"}, "this FFmpeg has no encoder 'nope': use one of libx264"),
        ("out.mp4", {"codec": "aac"}, "encoder of audio"),
        ("out.webm", {"codec": "libx264"}, "webm file does not hold libx264 video: use one of .*libvpx-vp9"),
        ("out.mp4", {"crf": 60}, "crf is 60, expected 0 to 51"),
        ("out.mkv", {"codec": "ffv1", "crf": 18}, "no constant quality"),
        ("out.mp4", {"preset": "sluggish"}, "'sluggish', expected for libx264 one of ultrafast, .*, placebo"),
        ("out.mp4", {"pix_fmt": "yuv420p", "extra": (("profile", "no"),)}, "refuses 64x48"),
        ("out.wav", {}, "wav files hold no video"),
        ("out.mp3", {}, "mp3 files hold no video"),
        ("out.mp4", {"pix_fmt": "rgb24"}, "no pixel format 'rgb24', expected one of yuv420p"),
        ("out.mp4", {"extra": (("nonsense", "1"),)}, "no option nonsense"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(
    clip: Path, tmp_path: Path, name: str, options: dict[str, object], said: str
) -> None:
    with open_source(clip) as source, pytest.raises(MediaError, match=said) as error:
        open_sink(tmp_path / name, source.info, 64, 48, SinkOptions(**options))  # type: ignore[arg-type]
    assert one_line(error)
    assert names(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize("options", [{"crf": -1}, {"crf": 300}, {"codec": ""}, {"preset": ""}])
def test_options_are_checked_once(options: dict[str, object]) -> None:
    with pytest.raises(MisuseError):
        SinkOptions(**options)  # type: ignore[arg-type]


def test_a_missing_directory_is_an_output_error(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist") as error:
        copy(clip, tmp_path / "no" / "out.mp4")
    assert one_line(error)


def test_nothing_is_left_when_the_work_stops(clip: Path, tmp_path: Path) -> None:
    def interrupted(source: Source) -> None:
        with opened(tmp_path / "out.mp4", source.info) as sink:
            for item in source:
                sink.write(item)
            raise KeyboardInterrupt

    with open_source(clip) as source, pytest.raises(KeyboardInterrupt):
        interrupted(source)
    assert names(tmp_path) == ["in.mp4"]


def test_nothing_is_left_without_a_commit(clip: Path, tmp_path: Path) -> None:
    with open_source(clip) as source, open_sink(tmp_path / "out.mp4", source.info, 64, 48) as sink:
        sink.write(next(iter(source)))
        assert not (tmp_path / "out.mp4").exists()
    assert names(tmp_path) == ["in.mp4"]


def test_an_output_without_pictures_is_refused(clip: Path, tmp_path: Path) -> None:
    with (
        open_source(clip) as source,
        opened(tmp_path / "out.mp4", source.info) as sink,
        pytest.raises(MediaError, match="no frame was written"),
    ):
        sink.commit()
    assert names(tmp_path) == ["in.mp4"]


def test_a_picture_of_another_size_is_refused(clip: Path, tmp_path: Path) -> None:
    with open_source(clip) as source, open_sink(tmp_path / "out.mp4", source.info, 128, 96) as sink:
        picture = next(iter(source))
        with pytest.raises(MediaError, match=r"expected uint8 \[96, 128, 3\]"):
            sink.write(picture)
    assert names(tmp_path) == ["in.mp4"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 KB that is really full when it is full."""
    if not ROOT or sys.platform != "linux":
        pytest.skip("mounting a small file system needs root on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this machine does not let us mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def feed(info: SourceInfo, path: Path, count: int, size: tuple[int, int]) -> None:
    with open_sink(path, info, *size, SinkOptions(crf=0) if path.suffix else None) as sink:
        for index in range(count):
            sink.write(Picture(noise(index, *size), Stamp(index, 512 * index, 512, Fraction(1, 12800))))
        sink.commit()


FULL: list[tuple[str, int, int]] = [("out.mp4", 60, 128), ("out.mkv", 60, 128), ("out.mp4", 2, 320), ("frames", 9, 320)]


@pytest.mark.parametrize(("name", "count", "width"), FULL)
def test_a_full_disk_is_an_output_error_and_leaves_nothing(
    clip: Path, small_disk: Path, name: str, count: int, width: int
) -> None:
    with open_source(clip) as source, pytest.raises(OutputError, match="no space left on device") as error:
        feed(source.info, small_disk / name, count, (width, 240))
    assert one_line(error)
    assert names(small_disk) == []


@pytest.mark.parametrize("room", [0, 100, 3_000, 90_000])
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_a_write_that_fails_anywhere_is_an_output_error(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, room: int
) -> None:
    """As above for machines without a small disk, and at the header, within the packets and at the end."""
    monkeypatch.setattr("swiftvr_trt.runtime.media.files._BUFFER", 64)
    written = 0

    def counted(write: Callable[[PartFile, bytes], int]) -> Callable[[PartFile, bytes], int]:
        def limited(self: PartFile, data: bytes) -> int:
            nonlocal written
            written += len(data)
            if written > room:
                raise OSError(28, "No space left on device")
            return write(self, data)

        return limited

    monkeypatch.setattr(PartFile, "_store", counted(PartFile._store))
    with open_source(clip) as source, pytest.raises(OutputError, match="no space left on device"):
        feed(source.info, tmp_path / name, 20, (128, 96))
    assert names(tmp_path) == ["in.mp4"]


@pytest.mark.skipif(ROOT or os.name != "posix", reason="root may write everywhere")
def test_a_directory_without_permission_is_an_output_error(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(OutputError, match="permission denied"):
        copy(clip, tmp_path / "locked" / "out.mp4")


def test_the_package_is_light_until_a_file_is_opened() -> None:
    code = "import sys, swiftvr_trt.runtime.media; print(sorted({'av', 'torch', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
