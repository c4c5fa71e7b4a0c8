"""Speed of whole files, with decoding and encoding; the output is decoded again and its frames are counted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...errors import MachineError
from ...runtime.media import Item, Picture, Source, SourceView, open_sink, open_source
from ...runtime.media.source_options import SourceOptions
from ...runtime.restore.pipeline import restore_media
from .clips import count_frames, describe_clip
from .metrics import figure, sampled
from .record import Figure, How
from .sensors import Sensors
from .subjects import OpenBundle, TorchNetwork, open_subject
from .work import CaseOrder, Findings

SUFFIX = ".mp4"


class FirstFrames(SourceView):
    """The first `count` pictures of a source."""

    def __init__(self, source: Source, count: int) -> None:
        super().__init__(source)
        self._count = count

    def __iter__(self) -> Iterator[Item]:
        left = self._count
        for item in self.source:
            yield item
            left -= isinstance(item, Picture)
            if not left:
                return


def measure_file(order: CaseOrder) -> Findings:
    """Restore the clip as often as the protocol says; the first time does not count if there are several."""
    protocol, out = order.protocol, Path(order.folder) / f"out{SUFFIX}"
    with open_subject(order) as subject, Sensors(subject.nvml, subject.how, protocol.name) as sensors:
        seconds, busy = [], []
        for _ in range(protocol.requests):
            began, worked = time.perf_counter(), time.process_time()
            _restore(subject, order, out)
            seconds.append(time.perf_counter() - began)
            busy.append(time.process_time() - worked)
    figures = [*file_figures(order, seconds[1:] or seconds, out, subject.how)]
    frames = next(figure.value for figure in figures if figure.name == "frames_out")
    per_frame = [1e3 * taken / max(frames, 1) for taken in busy[1:] or busy]
    figures.append(sampled("file_cpu_per_frame", per_frame, subject.how, protocol.name))
    figures += [*sensors.memory(), *sensors.conditions()]
    return Findings(subject.device, tuple(figures), (*sensors.notes(), *frame_notes(figures)))


def frame_notes(figures: Iterable[Figure]) -> tuple[str, ...]:
    """A line if not as many frames came out as went in."""
    counts = {figure.name: round(figure.value) for figure in figures if figure.name in ("frames_in", "frames_out")}
    if counts["frames_in"] == counts["frames_out"]:
        return ()
    return (f"{counts['frames_in']} frames went in, and {counts['frames_out']} came out",)


def file_figures(order: CaseOrder, seconds: list[float], out: Path, how: How) -> Iterator[Figure]:
    """What whole files took, and how many frames came out."""
    name = order.protocol.name
    taken = describe_clip(Path(order.clip), order.protocol.frames)
    made = count_frames(out)
    yield sampled("file_s", seconds, how, name)
    yield sampled("file_fps", [made / one for one in seconds], how, name)
    if taken.frame_rate:
        yield sampled("real_time", [made / taken.frame_rate / one for one in seconds], how, name)
    yield figure("frames_in", taken.frames, how, name)
    yield figure("frames_out", made, how, name)


def _restore(subject: OpenBundle | TorchNetwork, order: CaseOrder, out: Path) -> None:
    """One whole file, overwriting the last one."""
    size, planes = (order.subject.width, order.subject.height), isinstance(subject, OpenBundle)
    out.unlink(missing_ok=True)
    with (
        open_source(order.clip, options=SourceOptions(planes=planes)) as video,
        FirstFrames(video, order.protocol.frames) as source,
        open_sink(out, source.info, *size) as sink,
    ):
        if isinstance(subject, TorchNetwork):
            _restore_with_torch(subject, source, sink)
        else:
            with subject.restorer.session() as session:
                restore_media(session, source, sink)
    if not out.exists():
        raise MachineError(f"{out}: the output is missing after the run; free some space and try again")


def _restore_with_torch(network: TorchNetwork, source: Source, sink: Any) -> None:
    """Frames one after another, as the published code does."""
    stamps: deque[Picture] = deque()

    def frames() -> Iterator[Any]:
        for item in source:
            if isinstance(item, Picture):
                stamps.append(item)
                yield item.pixels

    for pixels in network.stream(frames()):
        sink.write(stamps.popleft().with_pixels(pixels))
    sink.commit()
