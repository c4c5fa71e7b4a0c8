"""Speed of the core, from memory to memory: chunks, the stages of a chunk, and how long a frame waits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path

from ...engines.bundle.geometry import FRAMES_PER_LATENT
from ...runtime.stream.buffers import BufferKind, paired, plan_buffers
from ...runtime.stream.chunks import LEAD, next_chunk
from ...runtime.stream.device import Recording
from ...runtime.stream.program import Beside, Download, Phase, Run, Step, Upload, chunk_program
from ...runtime.stream.session import Frame
from .clips import read_frames
from .metrics import sampled
from .protocols import Protocol
from .record import Figure
from .roof import roofline_of
from .sensors import Sensors
from .subjects import STAGES, OpenBundle, TorchNetwork, open_subject
from .work import CaseOrder, Findings

LEAST_CHUNKS = 3
_CAPTURING = 6
"""Of a stream on a GPU: the first chunk, then for each of two sides one that enqueues and one that captures, and one
until the device is as busy as from then on."""
_RECORDING = 2
"""Replays of one recording: the first one enqueues, the second one captures."""


def measure_core(order: CaseOrder) -> Findings:
    """Chunks of a stream that is fed from memory, and the stages of one chunk."""
    protocol, frames = order.protocol, frames_of(order)
    with open_subject(order) as subject, Sensors(subject.nvml, subject.how, order.protocol.name) as sensors:
        if isinstance(subject, TorchNetwork):
            subject.watch_stages()
        warm_up = chunks_before(order)
        times, busy = time_chunks(subject.chunks(frames), protocol, warm_up)
        if isinstance(subject, TorchNetwork):
            stages = {stage: found[warm_up + 1 :] for stage, found in subject.stage_times().items()}
        else:
            stages = time_stages(subject, frames, min(protocol.chunks, 10))
        figures = [
            sampled("chunk", [1e3 * taken for taken in times], subject.how, protocol.name),
            sampled("core_fps", [protocol.clip_len / taken for taken in times], subject.how, protocol.name),
            sampled("cpu_per_frame", [1e3 * taken / protocol.clip_len for taken in busy], subject.how, protocol.name),
            *(sampled(f"stage.{stage}", found, subject.how, protocol.name) for stage, found in stages.items() if found),
        ]
        roofline, projected = (
            roofline_of(subject.bundle, subject.device) if isinstance(subject, OpenBundle) else (None, [])
        )
    figures += [*sensors.conditions(), *projected]
    return Findings(subject.device, tuple(figures), sensors.notes(), roofline=roofline)


def frames_of(order: CaseOrder) -> list[Frame]:
    """The frames of one chunk or more, from the clip."""
    return read_frames(Path(order.clip), order.subject.clip_len + FRAMES_PER_LATENT)


def chunks_before(order: CaseOrder) -> int:
    """The chunks at the beginning of a stream that do not count. On a GPU, the first ones record and capture."""
    on_gpu = order.subject.side == "bundle" and order.subject.device != "cpu"
    return max(order.protocol.warm_up, _CAPTURING) if on_gpu else order.protocol.warm_up


def time_chunks(stream: Iterator[None], protocol: Protocol, warm_up: int) -> tuple[list[float], list[float]]:
    """Seconds of each chunk but the first ones, and the processor's seconds, of all threads of this process."""
    for _ in islice(stream, warm_up):
        pass
    times: list[float] = []
    busy: list[float] = []
    while len(times) < LEAST_CHUNKS or (len(times) < protocol.chunks and sum(times) < protocol.seconds):
        began, worked = time.perf_counter(), time.process_time()
        next(stream)
        times.append(time.perf_counter() - began)
        busy.append(time.process_time() - worked)
    return times, busy


def time_stages(subject: OpenBundle, frames: Sequence[Frame], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each stage in a chunk in the middle of a stream, the pixel stages included.

    Each stage runs by itself, on real data, and the clock is read once the device has finished. `encode` and `decode`
    include the stages that convert pixels.
    """
    manifest, (height, width) = subject.bundle.manifest, frames[0].shape[:2]
    clip_len = manifest.recipe.clip_len
    chunk = next_chunk(clip_len, first=False, waiting=clip_len, owed=clip_len + LEAD, ended=False)
    if chunk is None:
        raise ValueError(f"no chunk of {clip_len} frames")
    overlap = subject.opened.overlap
    steps, _ = chunk_program(manifest, chunk, Phase(), first=False, overlap=overlap)
    workspace = subject.opened.workspace(plan_buffers(manifest, height, width, overlap=overlap))
    try:
        slots = workspace.host(paired(BufferKind.FRAMES_IN, 0))
        for slot, frame in zip(slots, cycle(frames), strict=False):
            slot[...] = frame.reshape(slot.shape)
        workspace.record([step for step in steps if isinstance(step, Upload)], once=True).replay()
        recordings = {stage: workspace.record(part) for stage, part in _by_stage(steps).items()}
        return time_recordings(recordings, repeats)
    finally:
        workspace.close()


def time_recordings(recordings: Mapping[str, Recording], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each recording, in turns, but for the turns in which they are recorded and captured."""
    times: dict[str, list[float]] = {stage: [] for stage in recordings}
    for turn in range(repeats + _RECORDING):
        for stage, recording in recordings.items():
            began = time.perf_counter()
            recording.replay()
            if turn >= _RECORDING:
                times[stage].append(1e3 * (time.perf_counter() - began))
    return times


def _by_stage(steps: Sequence[Step]) -> dict[str, list[Step]]:
    """The steps on the device, up to the transformer, of it, and after it."""
    runs: list[Step] = [step for step in steps if not isinstance(step, Upload | Download | Beside)]
    at = next(k for k, step in enumerate(runs) if isinstance(step, Run) and step.stage.startswith("dit"))
    return dict(zip(STAGES, (runs[:at], runs[at : at + 1], runs[at + 1 :]), strict=True))


def measure_latency(order: CaseOrder) -> Findings:
    """How long after the first frame of a stream the first one comes out, and how long a full chunk takes from then on.

    Every chunk is waited for, so none runs while the next one is fed.
    """
    protocol, frames = order.protocol, frames_of(order)
    with open_subject(order) as subject:
        warm_up = chunks_before(order)
        count = 1 + warm_up + max(LEAST_CHUNKS, min(protocol.chunks, 20))
        first, *others = (1e3 * seconds for seconds in islice(subject.delays(frames), count))
        figures: list[Figure] = [
            sampled(
                "first_frame", [first], subject.how, protocol.name, "from the first frame of a stream, fed at once"
            ),
            sampled("chunk_latency", others[warm_up:], subject.how, protocol.name, "from the last frame of a chunk"),
        ]
        return Findings(subject.device, tuple(figures))
