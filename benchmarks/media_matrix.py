"""Videos of many kinds, restored: nothing is lost, shifted or changed unsaid.

    python -m benchmarks.media_matrix                 all of them
    python -m benchmarks.media_matrix --every 10

Combines containers, codecs, pixel formats, sizes, clocks, rotation and sound, and restores each video into its own
container and into Matroska, with the bundle of `doctor --try`. Both files are then read by FFmpeg alone: frames, their
times, the packets of copied sound, its place beside the picture, colour tags, the shape of the picture and its depth.
It prints a line per fault and a summary, and exits with 1 if there was a fault.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import click
import numpy as np
from av import logging as log
from av.video.reformatter import Colorspace

from swiftvr_trt import SwiftVRError, restore_file
from swiftvr_trt.cli.trial import BUNDLE
from swiftvr_trt.runtime.media.colour import converted

VIDEOS = {
    ".mp4": ("libx264 yuv420p", "libx264 yuv444p", "libx265 yuv420p10le", "mpeg4 yuv420p"),
    ".mkv": (
        *("ffv1 gray", "ffv1 yuv422p10le", "ffv1 yuv444p", "ffv1 bgr0", "libvpx-vp9 yuv420p"),
        *("libsvtav1 yuv420p10le", "mjpeg yuvj420p", "libx264 yuv420p"),
    ),
    ".mov": ("prores_ks yuv422p10le", "qtrle rgb24", "png rgb24", "libx264 yuv420p"),
    ".avi": ("mpeg4 yuv420p", "ffv1 yuv420p", "rawvideo pal8", "huffyuv rgb24"),
    ".ts": ("libx264 yuv420p", "mpeg2video yuv420p"),
    ".webm": ("libvpx-vp9 yuv420p", "libvpx yuv420p"),
    ".gif": ("gif pal8",),
    ".mpg": ("mpeg1video yuv420p", "mpeg2video yuv420p"),
    ".y4m": ("wrapped_avframe yuv420p", "wrapped_avframe yuv444p", "wrapped_avframe yuv420p10le"),
    ".dv": ("dvvideo yuv420p",),
}
"""Suffix -> encoder and pixel format."""

SOUNDS = {
    ".mp4": ("", "aac", "ac3", "aac aac"),
    ".mkv": ("", "aac", "pcm_s16le", "ac3", "aac flac"),
    ".mov": ("", "aac", "pcm_s16le"),
    ".avi": ("", "pcm_s16le", "ac3", "libmp3lame"),
    ".ts": ("", "aac", "ac3", "aac mp2"),
    ".webm": ("", "libopus"),
    ".mpg": ("", "mp2", "ac3"),
}
"""Suffix -> encoders of its tracks."""

_CLOCKED = (".mp4", ".mkv", ".mov", ".webm", ".ts")
"""Containers in which frames may be unevenly long."""
_TURNED = (".mp4", ".mov")
_TICK = Fraction(1, 90000)
_UNEVEN = (0, 3600, 7200, 9000, 18000, 21600, 25201, 28800, 36000, 39600, 43200, 46800)
_EVEN = tuple(3600 * number for number in range(12))
_BT709 = 1


@dataclass(frozen=True)
class Case:
    """A video to make. size: width and height; turned: shown upright after a quarter turn."""

    suffix: str
    video: str
    sound: str
    size: tuple[int, int]
    uneven: bool
    turned: bool
    output: str

    def __str__(self) -> str:
        words = [f"{self.suffix} {self.video} {self.size[0]}x{self.size[1]}", self.sound or "silent"]
        words += ["uneven"] * self.uneven + ["turned"] * self.turned
        return f"{', '.join(words)} -> {self.output}"


def cases() -> list[Case]:
    """Every combination that its container can hold."""
    found = []
    for suffix, videos in VIDEOS.items():
        outputs = (".mkv",) if suffix in (".mkv", ".y4m", ".dv", ".gif") else (suffix, ".mkv")
        sizes = ((720, 576),) if suffix == ".dv" else ((64, 48), (63, 47))
        for video, sound, size, uneven, turned, output in itertools.product(
            videos, SOUNDS.get(suffix, ("",)), sizes, (False, True), (False, True), outputs
        ):
            possible = (not uneven or (suffix in _CLOCKED and "mpeg" not in video)) and (
                not turned or suffix in _TURNED
            )
            if possible and (size[0] % 2 == 0 or "420" not in video):
                found.append(Case(suffix, video, sound, size, uneven, turned, output))
    return found


def write_video(case: Case, path: Path) -> None:
    """Twelve frames, and as much sound. Raises what PyAV raises if FFmpeg cannot make it."""
    encoder, pix_fmt = case.video.split()
    unofficial = {"strict": "-1"} if case.suffix == ".y4m" else {}
    with av.open(str(path), "w", options=unofficial) as container:
        stream: Any = container.add_stream(encoder, rate=25, options=_options(encoder))
        stream.width, stream.height, stream.pix_fmt = *case.size, pix_fmt
        stream.codec_context.time_base = _TICK if case.uneven else Fraction(1, 25)
        if pix_fmt.startswith("yuv") and encoder != "wrapped_avframe":
            context = stream.codec_context
            context.color_primaries = context.color_trc = context.colorspace = _BT709
        if case.turned:
            stream.set_display_rotation(90)
        tracks = [_add_sound(container, codec) for codec in case.sound.split()]
        container.start_encoding()
        for frame in _pictures(case, pix_fmt):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for track, frequency in zip(tracks, (440, 880), strict=False):
            for sound in _tone(track, frequency):
                container.mux(track.encode(sound))
            container.mux(track.encode(None))


def _options(encoder: str) -> dict[str, str]:
    return {
        "libx264": {"preset": "ultrafast"},
        "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    }.get(encoder, {})


def _add_sound(container: Any, codec: str) -> Any:
    layout = "5.1" if codec == "ac3" else "stereo"
    return container.add_stream(codec, rate=48000, layout=layout)


def _pictures(case: Case, pix_fmt: str) -> Iterator[av.VideoFrame]:
    width, height = case.size
    y, x = np.mgrid[:height, :width]
    for number, pts in enumerate(_UNEVEN if case.uneven else _EVEN):
        pixels = np.stack([(x * 3 + number * 9) % 220, (y * 4) % 220, (x + y + number * 5) % 220], -1).astype(np.uint8)
        if pix_fmt == "pal8":
            palette = np.arange(256, dtype=np.uint8)[:, None].repeat(4, 1)
            palette[:, 0] = 255  # opaque
            given: Any = (pixels[..., 0], palette)
            frame = av.VideoFrame.from_ndarray(given, format="pal8")
        else:
            rgb = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame = converted(rgb, format=pix_fmt, dst_colorspace=Colorspace.ITU709)
        frame.time_base = _TICK if case.uneven else Fraction(1, 25)
        frame.pts = pts if case.uneven else number
        yield frame


def _tone(track: Any, frequency: int) -> Iterator[av.AudioFrame]:
    channels = track.codec_context.layout.nb_channels
    size = track.codec_context.frame_size or 1024
    for begin in range(0, 24000, size):
        wave = np.sin(np.arange(begin, begin + size) * (2 * np.pi * frequency / 48000)).astype(np.float32) * 0.3
        frame = av.AudioFrame.from_ndarray(
            np.stack([wave] * channels), format="fltp", layout=track.codec_context.layout.name
        )
        frame.sample_rate, frame.pts, frame.time_base = 48000, begin, Fraction(1, 48000)
        yield frame


@dataclass(frozen=True)
class Seen:
    """What FFmpeg finds in a file. times: of frames, in order; sound: per track its codec, first time and packets."""

    times: tuple[Fraction, ...]
    sound: tuple[tuple[str, Fraction, tuple[str, ...]], ...]
    tags: tuple[int, ...]
    shape: Fraction
    bits: int
    tick: Fraction


def look(path: Path) -> Seen:
    """Read a file with FFmpeg alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(frame.pts, frame) for frame in container.decode(stream)]
        first, tick = frames[0][1], Fraction(stream.time_base or 1)
        times = tuple(pts * tick for pts, _ in frames if pts is not None)
        if container.format.name == "avi":  # holds no other times, and FFmpeg guesses
            container.seek(0)
            times = tuple(
                packet.dts * tick for packet in container.demux(stream) if packet.size and packet.dts is not None
            )
        aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
        shape = Fraction(first.width, first.height) * aspect
        tags = (int(first.color_primaries), int(first.color_trc), int(first.colorspace))
        turned = abs(first.rotation) == 90
        bits = first.format.components[0].bits
    with av.open(str(path)) as container:
        packets: dict[int, list[Any]] = {stream.index: [] for stream in container.streams.audio}
        for packet in container.demux(list(container.streams.audio)) if packets else ():
            if packet.size and packet.pts is not None:
                begin = packet.pts * Fraction(packet.time_base or 1)
                packets[packet.stream_index].append((begin, _digest(bytes(packet))))
        sound = tuple(
            (stream.codec_context.codec.canonical_name, found[0][0], tuple(digest for _, digest in found))
            for stream in container.streams.audio
            if (found := packets[stream.index])
        )
    return Seen(times, sound, tags, 1 / shape if turned else shape, bits, tick)


def _digest(data: bytes) -> str:
    """Of a packet, without the header that AAC has in transport streams only."""
    has_header = len(data) > 7 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0
    return hashlib.sha256(data[7 if data[1] & 1 else 9 :] if has_header else data).hexdigest()[:16]


def differences(before: Seen, after: Seen, notes: Sequence[str]) -> Iterator[str]:
    """What is not as in the input, though no note says so."""
    said = " ".join(notes)
    if len(before.times) != len(after.times):
        yield f"{len(before.times)} frames became {len(after.times)}"
        return
    moved = max(
        abs((one - before.times[0]) - (other - after.times[0]))
        for one, other in zip(before.times, after.times, strict=True)
    )
    tolerance = max(after.tick, before.tick, Fraction(1, 1000))
    if moved > tolerance and "time" not in said:
        yield f"frames moved by up to {float(moved):.4f} s"
    if len(before.sound) != len(after.sound) and "audio" not in said:
        yield f"{len(before.sound)} tracks of sound became {len(after.sound)}"
    for (codec, begin, packets), (other, start, others) in zip(before.sound, after.sound, strict=False):
        if codec != other:
            if codec not in said:
                yield f"{codec} became {other}"
        elif packets != others and not codec.startswith("pcm"):
            yield f"packets of {codec} changed: {len(packets)}, {len(others)}"
        if abs((begin - before.times[0]) - (start - after.times[0])) > Fraction(1, 40):
            yield f"sound moved by {float((start - after.times[0]) - (begin - before.times[0])):.4f} s"
    if before.tags[0] == _BT709 and after.tags != before.tags and "colour tags" not in said:
        yield f"colour tags {before.tags} became {after.tags}"
    if abs(after.shape / before.shape - 1) > Fraction(1, 100) and "players show" not in said:
        yield f"a picture of {float(before.shape):.3f} became {float(after.shape):.3f} wide"
    if after.bits < min(before.bits, 10) and "8 bits" not in said:
        yield f"{before.bits} bits became {after.bits}"


def run_case(case: Case, place: Path) -> tuple[str, list[str]]:
    """Make and restore one video in an empty folder. Returns what came of it in a word, and the faults."""
    source, output = place / f"in{case.suffix}", place / f"out{case.output}"
    try:
        write_video(case, source)
        before = look(source)
    except (av.FFmpegError, ValueError, IndexError) as error:
        return f"not made: {error}", []
    try:
        restored = restore_file(source, output, bundle=BUNDLE, device="cpu", threads=1)
    except SwiftVRError as error:
        return "refused", [str(error)]
    notes = (*restored.notes, *restored.lost)
    faults = list(differences(before, look(output), notes))
    faults += [f"{path.name} is left" for path in place.iterdir() if path not in (source, output)]
    return "restored", [f"{fault} ({'; '.join(notes) or 'nothing was said'})" for fault in faults]


@click.command(help=__doc__)
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Only every so many of the cases.")
@click.option("--only", default="", help="Only cases whose description contains this.")
def main(every: int, only: str) -> None:
    """Restore all videos, and compare."""
    log.set_level(log.PANIC)
    chosen = [case for case in cases() if only in str(case)][::every]
    made = faulty = 0
    for case in chosen:
        with tempfile.TemporaryDirectory(prefix="swiftvr-") as folder:
            word, faults = run_case(case, Path(folder))
        made += not word.startswith("not made")
        faulty += bool(faults)
        if faults or word.startswith("not made"):
            click.echo(f"{case}: {word}{''.join(f'{chr(10)}    FAULT {fault}' for fault in faults)}")
    click.echo(f"{len(chosen)} videos, {made} made, {faulty} with faults")
    sys.exit(faulty > 0)


if __name__ == "__main__":
    main()
