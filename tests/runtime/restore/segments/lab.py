"""A short video with sound, and its restoration in pieces of a few frames."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from swiftvr_trt import Bundle, Restorer
from swiftvr_trt.runtime.media.base import SinkOptions
from swiftvr_trt.runtime.media.probe import open_video
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.media.video_in import VideoSource
from swiftvr_trt.runtime.restore.pipeline import Progress
from swiftvr_trt.runtime.restore.segments.resumable import Joined, restore_in_pieces
from swiftvr_trt.runtime.restore.segments.task import PiecesTask

SINK = SinkOptions(crf=20, preset="ultrafast")


class Interruption(Exception):  # noqa: N818 (it is no error)
    """Somebody pressed a key."""


def interrupt_after(frames: int) -> Callable[[Progress], None]:
    def on_progress(now: Progress) -> None:
        if now.written >= frames:
            raise Interruption

    return on_progress


def write_clip(path: Path, frames: int = 100, *, sound: bool = True, options: dict[str, str] | None = None) -> Path:
    """A moving picture of 32x24 at 25 fps, encoded with B frames and a key frame every 12, with a tone."""
    scene = np.random.default_rng(5).integers(0, 256, (24, 32, 3), np.uint8)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options=options or {"bf": "2", "g": "12"})
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        audio: Any = container.add_stream("aac", rate=48000) if sound else None
        container.start_encoding()
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(np.roll(scene, 2 * number, axis=1), format="rgb24")
            container.mux(video.encode(picture))
            if audio:
                wave = np.sin(np.arange(1920 * number, 1920 * (number + 1)) * 0.05).astype(np.float32)
                tone = av.AudioFrame.from_ndarray(np.stack([wave, wave]) * 0.3, format="fltp", layout="stereo")
                tone.sample_rate, tone.pts = 48000, 1920 * number
                container.mux(audio.encode(tone))
        for stream in (video, audio) if audio else (video,):
            container.mux(stream.encode(None))
    return path


def restore(  # many parameters: as many as a run has
    source: Path,
    output: Path,
    bundle: Bundle,
    *,
    chunks: int = 2,
    say: Callable[[str], None] = lambda _line: None,
    on_progress: Callable[[Progress], None] = lambda _now: None,
    sink: SinkOptions = SINK,
    resume: bool = True,
    keep_going: bool = False,
    reading: SourceOptions | None = None,
) -> Joined:
    """Restore `source` in pieces of so many chunks."""
    size = bundle.manifest.recipe
    seconds = float(Fraction(chunks * size.clip_len, 25))
    task = PiecesTask(source, output, size.width, size.height, sink, seconds=seconds)
    task = replace(task, resume=resume, keep_going=keep_going)
    opening = open_video(source, options=replace(reading or SourceOptions(), planes=True))
    with Restorer.open(bundle, threads=1) as restorer, VideoSource(opening) as opened:
        task = replace(task, reading=opened.info.reading)
        return restore_in_pieces(task, opened, restorer.manifest, restorer.session, on_progress, say)


def content(path: Path) -> dict[str, list[Any]]:
    """Decoded pictures and packets to copy, each with its time: what two equal outputs share."""
    with av.open(str(path)) as container:
        pictures = [
            (frame.pts * frame.time_base, hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest())
            for frame in container.decode(container.streams.video[0])
            if frame.pts is not None and frame.time_base is not None
        ]
    with av.open(str(path)) as container:
        sound = [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(container.streams.audio)
            if packet.pts is not None and packet.size
        ]
    return {"pictures": pictures, "sound": sound}


def without(source: Path, packets: range, path: Path) -> Path:
    """A copy of a video with zeros for some packets, in the order of the file. Its index promises them all."""
    with av.open(str(source)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(source.read_bytes())
    for position, size in places[packets.start : packets.stop]:
        assert position is not None
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    return path
