"""Videos whose content is known, and what can be found in a video. For the tests of media."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.media import Item, Picture, Sink, SinkOptions, SourceInfo, open_sink, open_source
from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.media.images_out import encode_image
from tests.clips import seconds

CLIP = Path(__file__).resolve().parents[4] / "shared" / "media" / "bigbuckbunny_720p.mp4"
needs_clip = pytest.mark.skipif(not CLIP.exists(), reason=f"{CLIP} is not here")

CLOCK = Fraction(1, 90000)
"""Seconds per tick of the videos below."""
STEP = 3600
"""Ticks from one frame to the next at 25 frames per second."""
EVEN = [STEP * i for i in range(30)]
UNEVEN = [900 + STEP * i + (i % 3) * 77 for i in range(30)]


def still(index: int, width: int, height: int) -> np.ndarray:
    """A picture whose brightness tells its index, with a bright top left corner."""
    pixels = np.full((height, width, 3), 40 + 5 * (index % 40), np.uint8)
    pixels[: height // 2, : width // 2] = 220
    return pixels


def noise(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 255, (height, width, 3), np.uint8)


Prepare = Callable[[Any, Any], None]


def as_is(*_: Any) -> None:
    """Changes nothing."""


def frames_of(width: int = 64, height: int = 48, pix_fmt: str = "yuv420p") -> Prepare:
    """Sets the size and the pixel format of a video."""

    def prepare(_: Any, stream: Any) -> None:
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt

    return prepare


def make_video(
    path: Path,
    pts: list[int],
    codec: str = "libx264",
    prepare: Prepare = as_is,
    extra: Callable[[Any], None] = as_is,
    **options: str,
) -> Path:
    """A video of stills with these time stamps in `CLOCK`. options: of the encoder.

    prepare: sees the container and the video stream before the header. extra: sees the container after it.
    """
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, time_base=CLOCK, options=options)
        frames_of()(container, stream)
        prepare(container, stream)
        container.start_encoding()
        extra(container)
        for index, moment in enumerate(pts):
            frame = converted(
                av.VideoFrame.from_ndarray(still(index, stream.width, stream.height), "rgb24"), format=stream.pix_fmt
            )
            frame.pts, frame.time_base, frame.duration = moment, CLOCK, STEP
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_noise(path: Path, count: int = 30, size: tuple[int, int] = (64, 48), **options: str) -> Path:
    """A video of `count` frames of noise, all of them key frames. size: width and height. options: of the encoder."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "1", "preset": "ultrafast", **options})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(count):
            frame = converted(av.VideoFrame.from_ndarray(noise(index, *size), "rgb24"), format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_checked(path: Path, pts: list[int], damaged: Iterable[int]) -> Path:
    """A video of stills with a checksum for every slice, and a wrong bit in the middle of some of its packets.

    Whatever machine wrote it, the decoder finds each of them, conceals it and marks the frame.
    """
    make_video(path, pts, "ffv1", slicecrc="1", level="3")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        for packet in map(packets.__getitem__, damaged):
            data[data.index(bytes(packet)) + packet.size // 2] ^= 1
    path.write_bytes(data)
    return path


def make_unreadable(path: Path, count: int, number: int) -> Path:
    """A video of `count` frames of noise at 25 a second, of which nobody can decode the one with this number."""
    make_noise(path, count)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [bytes(packet) for packet in container.demux(video=0) if packet.size][number]
    begin = data.index(packet)
    data[begin + 4 : begin + len(packet)] = b"\xff" * (len(packet) - 4)
    path.write_bytes(data)
    return path


def make_holed(path: Path) -> Path:
    """A video of 75 frames at 25 a second; a part of the data in its middle is zeros."""
    whole = make_video(path.with_name("whole.nut"), list(range(0, 75 * STEP, STEP)), g="5", bf="0")
    remux(whole, path, cluster_time_limit="200")
    data = bytearray(path.read_bytes())
    begin = len(data) * 4 // 10
    data[begin : begin + len(data) // 5] = bytes(len(data) // 5)
    path.write_bytes(data)
    return path


def remux(before: Path, after: Path, **options: str) -> Path:
    """The same packets in another file. options: of the muxer."""
    with av.open(str(before)) as source, av.open(str(after), "w", container_options=options) as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    return after


def add_tone(container: Any, codec: str = "aac") -> Any:
    stream = container.add_stream(codec, rate=48000)
    stream.metadata.update({"language": "deu", "title": "Ton"})
    return stream


def mux_tone(container: Any, seconds: float = 1.2) -> None:
    stream = container.streams.audio[0]
    for start in range(0, int(48000 * seconds), 1024):
        wave = (np.sin(np.arange(start, start + 1024) * 0.05) * 0.3).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48000, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


@functools.cache
def cover_picture() -> bytes:
    return encode_image(still(3, 128, 128), ".jpg")


def add_cover(container: Any, _: Any) -> None:
    cover = container.add_stream("mjpeg", rate=1)
    cover.width, cover.height, cover.pix_fmt = 128, 128, "yuvj420p"
    cover.disposition = Disposition.attached_pic


def mux_cover(container: Any) -> None:
    packet = av.Packet(cover_picture())
    packet.pts = packet.dts = 0
    packet.time_base, packet.stream = Fraction(1, 25), container.streams[1]
    container.mux(packet)


def transcode(
    before: Path,
    after: Path,
    scale: int = 1,
    options: SinkOptions | None = None,
    late: int = 0,
) -> tuple[SourceInfo, tuple[str, ...]]:
    """From a source to a sink. What the source is, and the notes of both.

    Pictures grow `scale` times, and come out `late` pictures late, as they do in a pipeline.
    """
    with open_source(before) as source:
        info = source.info
        with open_sink(after, info, info.width * scale, info.height * scale, options) as sink:
            waiting: list[Item] = []
            for item in source:
                waiting.append(item)
                while sum(isinstance(i, Picture) for i in waiting) > late:
                    sink.write(enlarged(waiting.pop(0), scale))
            for item in waiting:
                sink.write(enlarged(item, scale))
            sink.commit()
            return info, source.notes + sink.notes


def enlarged(item: Item, scale: int) -> Item:
    return item.with_pixels(item.pixels.repeat(scale, 0).repeat(scale, 1)) if isinstance(item, Picture) else item


def sink_of_same_size(path: Path, info: SourceInfo, options: SinkOptions | None = None) -> Sink:
    return open_sink(path, info, info.width, info.height, options)


def assert_refused(before: Path, after: Path, said: str, options: SinkOptions | None = None) -> None:
    """The output cannot be opened: a `MediaError` says so in one line, and nothing is left behind."""
    existing = names(after.parent)
    with open_source(before) as source, pytest.raises(MediaError, match=said) as error:
        sink_of_same_size(after, source.info, options)
    assert one_line(error)
    assert names(after.parent) == existing


def read(path: Path) -> tuple[list[Item], tuple[str, ...]]:
    """All items of a source, and its notes."""
    with open_source(path) as source:
        return list(source), source.notes


def decoded(path: Path, gpu: int | None = None) -> list[np.ndarray]:
    """The pixels of all pictures."""
    with open_source(path, gpu=gpu) as source:
        return [item.pixels for item in source if isinstance(item, Picture)]


def times(path: Path) -> list[Fraction]:
    """When the frames are shown, in seconds."""
    with av.open(str(path)) as container:
        return [seconds(frame) for frame in container.decode(video=0)]


def packets(path: Path, kind: str) -> list[tuple[bytes, Fraction]]:
    """The packets of the first stream of this kind, and their times in seconds."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [(bytes(p), seconds(p)) for p in container.demux(stream) if p.size]


def names(path: Path) -> list[str]:
    """The names of the files in a folder."""
    return sorted(file.name for file in path.iterdir())


def one_line(error: pytest.ExceptionInfo[Exception]) -> bool:
    return "\n" not in str(error.value) and len(str(error.value)) > 20
