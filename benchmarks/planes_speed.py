"""What planes save on the CPU: `python -m benchmarks.planes_speed BUNDLE CLIP`.

Restores the same frames twice per round: converted to RGB and back by this process, as versions before planes did it,
and as planes, which the bundle converts. ONNX Runtime gets one thread, so that its CPU time is that of the thread that
calls it, and all other CPU time of the process is decoding, conversion, copying and encoding. An encoder's own time is
the same on both sides and would hide the difference, so the default is `rawvideo`. What the codecs take by themselves
is measured, too. Both sides run in turn in one process; the medians of all rounds are printed as JSON.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import click

from swiftvr_trt.benchmarks.suite.whole_files import FirstFrames
from swiftvr_trt.runtime.devices import cpu
from swiftvr_trt.runtime.media import SinkOptions, open_sink, open_source
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.restore.pipeline import restore_media
from swiftvr_trt.runtime.restore.restorer import Restorer
from swiftvr_trt.runtime.stream.frames import RGB
from swiftvr_trt.runtime.stream.session import Session

SIDES = ("rgb", "planes")


@dataclass(frozen=True)
class Run:
    """One run. wall, cpu, runtime: seconds: by the clock, of the process, and in ONNX Runtime; frames: restored."""

    frames: int
    wall: float
    cpu: float
    runtime: float

    @property
    def outside_ms(self) -> float:
        """CPU time per frame outside ONNX Runtime, in milliseconds."""
        return 1e3 * (self.cpu - self.runtime) / self.frames


@contextmanager
def measured_runtime() -> Iterator[list[float]]:
    """The CPU seconds of every stage that runs in the block."""
    spent: list[float] = []
    call = cpu._StageCall.__call__

    def timed(stage: cpu._StageCall) -> None:
        began = time.thread_time()
        call(stage)
        spent.append(time.thread_time() - began)

    with patch.object(cpu._StageCall, "__call__", timed):
        yield spent


class Side:
    """One way to restore, with a session that keeps its buffers from run to run."""

    def __init__(self, restorer: Restorer, name: str) -> None:
        self._restorer, self._options = restorer, SourceOptions(planes=name == "planes")
        self._session: Session | None = None

    def run(self, clip: Path, frames: int, sink_options: SinkOptions) -> Run:
        """Restore the first frames of a clip into a file that is removed."""
        size = self._restorer.manifest.recipe.resolution
        with tempfile.TemporaryDirectory() as folder, measured_runtime() as spent:
            wall, began = time.perf_counter(), time.process_time()
            with (
                open_source(clip, options=self._options) as source,
                open_sink(Path(folder) / "out.mkv", source.info, size.width, size.height, sink_options) as sink,
            ):
                if self._session is None:
                    self._session = self._restorer.session(sink.frames if self._options.planes else RGB)
                done = restore_media(self._session, FirstFrames(source, frames), sink)
            return Run(done.written, time.perf_counter() - wall, time.process_time() - began, sum(spent))


def codec_ms(clip: Path, frames: int, width: int, height: int, codec: str) -> float:
    """CPU milliseconds per frame that decoding the clip and encoding frames of the output take by themselves."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        with av.open(str(clip)) as source, av.open(str(Path(folder) / "out.mkv"), "w") as target:
            source.streams.video[0].codec_context.thread_count = 1
            stream: Any = target.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for _ in islice(source.decode(video=0), frames):
                frame = av.VideoFrame(width, height, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes(plane.buffer_size))
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
        return 1e3 * (time.process_time() - began) / frames


@click.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.argument("clip", type=click.Path(exists=True, path_type=Path))
@click.option("--frames", default=52, show_default=True, help="How many frames of the clip to restore.")
@click.option("--rounds", default=3, show_default=True, help="How often each side runs, after one round to warm up.")
@click.option("--codec", default="rawvideo", show_default=True, help="Encoder; its own time counts, too.")
def main(bundle: Path, clip: Path, frames: int, rounds: int, codec: str) -> None:
    """Measure what planes save outside ONNX Runtime."""
    runs: dict[str, list[Run]] = {side: [] for side in SIDES}
    codecs = []
    with Restorer.open(bundle, device="cpu", threads=1) as restorer:
        sides = {name: Side(restorer, name) for name in SIDES}
        size = restorer.manifest.recipe.resolution
        for turn in range(rounds + 1):
            codecs.append(codec_ms(clip, frames, size.width, size.height, codec))
            for name in SIDES if turn % 2 else SIDES[::-1]:
                made = sides[name].run(clip, frames, SinkOptions(codec=codec))
                runs[name] += [made] if turn else []
    outside = {side: statistics.median(each.outside_ms for each in made) for side, made in runs.items()}
    wall = {side: statistics.median(each.wall for each in made) for side, made in runs.items()}
    alone = statistics.median(codecs[1:])
    ratios = {
        "outside_ratio": outside["planes"] / outside["rgb"],
        "outside_ratio_without_codecs": (outside["planes"] - alone) / (outside["rgb"] - alone),
        "wall_ratio": wall["planes"] / wall["rgb"],
    }
    found = {"outside_ms_per_frame": outside, "codecs_ms_per_frame": alone, "wall_s": wall, **ratios}
    click.echo(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
