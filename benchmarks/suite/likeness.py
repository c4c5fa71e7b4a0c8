"""How close frames are to others of the same size, frame by frame: uint8 [H, W, 3] in RGB.

All that is compared in this repository is compared here. PSNR is arithmetic. SSIM comes from FFmpeg's filter, and VMAF
from `libvmaf`, where an FFmpeg on this machine has it.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from ... import leaving
from ...errors import MachineError
from ...runtime.media.colour import converted
from ...runtime.stream.session import Frame
from ...text import last_line
from .clips import write_lossless

MOST_DB = 100.0
"""What equal frames count as."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_WHITE = 255.0
_FFMPEG_S = 600.0


def squared_errors(ours: Sequence[Frame], theirs: Sequence[Frame]) -> list[float]:
    """The mean squared difference of each frame, over its three channels."""
    return [float(np.square(a.astype(np.float32) - b).mean()) for a, b in zip(ours, theirs, strict=True)]


def frame_psnrs(ours: Sequence[Frame], theirs: Sequence[Frame]) -> list[float]:
    """dB against white of each frame; `MOST_DB` if they are equal."""
    return [min(_decibels(error), MOST_DB) for error in squared_errors(ours, theirs)]


def psnr(ours: Sequence[Frame], theirs: Sequence[Frame]) -> float:
    """Of all frames together, against white, in dB; infinity if they are equal."""
    return _decibels(float(np.mean(squared_errors(ours, theirs))))


def _decibels(error: float) -> float:
    return 10 * math.log10(_WHITE**2 / error) if error else math.inf


def frame_ssims(ours: Sequence[Frame], theirs: Sequence[Frame]) -> list[float]:
    """SSIM of the luma, as FFmpeg computes it."""
    import av
    import av.filter

    height, width = ours[0].shape[:2]
    graph = av.filter.Graph()
    form = av.VideoFormat("yuv444p")
    sources = [graph.add_buffer(width=width, height=height, format=form, time_base=Fraction(1)) for _ in "ab"]
    compare, sink = graph.add("ssim"), graph.add("buffersink")
    for number, source in enumerate(sources):
        source.link_to(compare, 0, number)
    compare.link_to(sink)
    graph.configure()
    found: list[float] = []
    for number, pair in enumerate(zip(ours, theirs, strict=True)):
        for source, pixels in zip(sources, pair, strict=True):
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = converted(rgb, format="yuv444p")
            frame.pts = number
            source.push(frame)
        found += _ready(sink)
    for source in sources:
        source.push(None)
    return [*found, *_ready(sink)]


def _ready(sink: object) -> Iterator[float]:
    import av

    while True:
        try:
            frame = sink.pull()  # type: ignore[attr-defined]
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield float(frame.metadata["lavfi.ssim.Y"])


def temporal_errors(ours: Sequence[Frame], theirs: Sequence[Frame]) -> list[float]:
    """Between each frame and the next: how much the change differs from theirs, in 8-bit levels of luma; 0 is best.

    Flicker, swimming and lag raise it.
    """
    off = [a.astype(np.float32) @ LUMA - b.astype(np.float32) @ LUMA for a, b in zip(ours, theirs, strict=True)]
    return [float(np.abs(after - before).mean()) for before, after in pairwise(off)]


def frame_vmafs(ours: Sequence[Frame], theirs: Sequence[Frame]) -> list[float]:
    """VMAF, 0 to 100. Raises `MachineError` if there is no FFmpeg that has libvmaf, and if it fails."""
    program = _program_with_vmaf()
    with tempfile.TemporaryDirectory(prefix="swiftvr-vmaf-") as folder, ExitStack() as held:
        held.callback(leaving.hold_path(Path(folder)))
        place = Path(folder)
        write_lossless(place / "ours.mkv", ours)
        write_lossless(place / "theirs.mkv", theirs)
        command = [program, "-nostdin", "-loglevel", "error", "-i", "ours.mkv", "-i", "theirs.mkv"]
        command += ["-lavfi", "libvmaf=log_fmt=json:log_path=log.json", "-f", "null", "-"]
        _output_of(command, place)
        log = json.loads((place / "log.json").read_text(encoding="utf-8"))
    return [float(frame["metrics"]["vmaf"]) for frame in log["frames"]]


def _program_with_vmaf() -> str:
    """The ffmpeg on the path, or that of the package imageio-ffmpeg, whichever has libvmaf."""
    found = [program for program in (shutil.which("ffmpeg"), _packaged()) if program]
    for program in found:
        if b" libvmaf " in _output_of([program, "-hide_banner", "-filters"], Path()):
            return program
    looked = (
        f"{' and '.join(found)} {'have' if len(found) > 1 else 'has'} no libvmaf" if found else "there is no ffmpeg"
    )
    raise MachineError(f"{looked}; pip install imageio-ffmpeg, which brings one that has it")


def _packaged() -> str | None:
    with suppress(Exception):  # it is not installed, or has no program for this system
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    return None


def _output_of(command: list[str], place: Path) -> bytes:
    """What a program prints. It does not outlive this one. Raises `MachineError` if it fails or takes too long."""
    with leaving.starting():
        process = subprocess.Popen(
            command, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        release = leaving.hold(f"process {process.pid}", process.kill, leaving.Turn.PROCESSES)
    try:
        with process:
            try:
                said, errors = process.communicate(timeout=_FFMPEG_S)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise MachineError(f"ffmpeg took more than {_FFMPEG_S:.0f} s") from error
    finally:
        release()
    if process.returncode:
        raise MachineError(f"ffmpeg failed: {last_line(errors.decode(errors='replace')) or 'it printed nothing'}")
    return said
