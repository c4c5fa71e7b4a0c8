"""The frames of a clip from the plain torch network in float32 on the CPU: what a bundle's precision is judged by.

It runs on any machine that has torch: checkpoints are mapped into memory, and a block of the transformer is widened
when its turn comes. It takes as long as it takes, so a large network restores no more than one chunk, and gives up as
soon as its first block shows that it would take too long.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...engines.bundle.pipeline_memory import count_parameters
from ...errors import MachineError
from ...machine import available_memory
from ...runtime.stream.session import Frame
from ...text import format_bytes
from .subjects import load_reference
from .work import CaseOrder

MOST_PARAMETERS = 100_000_000
"""Of a network that restores the whole clip; a larger one takes minutes to hours, and restores one chunk."""
SHARE = 0.5
"""Of the time that a case may take."""
_FLOAT = 4
_TENSORS_OF_A_BLOCK, _TENSORS_OF_A_LEVEL = 12, 6
"""Of the width of the transformer, and of the finest level of the autoencoder, that are alive at once."""


def comparable(order: CaseOrder, frames: Sequence[Frame]) -> Sequence[Frame]:
    """The frames that both the bundle and float32 restore, as a stream of their own. Raises `MachineError`."""
    if not order.checkpoint:
        raise MachineError("no --checkpoint was named")
    few = count_parameters(Path(order.checkpoint)) > MOST_PARAMETERS
    return frames[: order.subject.clip_len + 1] if few else frames


def in_float32(order: CaseOrder, frames: Sequence[Frame]) -> Sequence[Frame]:
    """What float32 makes of these frames. Kept in the order's folder, for other precisions and turns.

    Raises `MachineError` if the machine lacks the memory or the time, and what `load_reference` raises.
    """
    kept = _place_of(order, len(frames))
    if kept.exists():
        return list(np.load(kept, mmap_mode="r"))
    reference = load_reference(order, frugal=True)
    _check_memory(reference)
    chunks = max(round(len(frames) / order.subject.clip_len), 1)
    _watch(reference.checkpoint.dit.blocks, chunks, SHARE * order.limit_s, time.monotonic)
    found = list(reference.restore(frames))
    _keep(found, kept)
    return found


def _keep(frames: Sequence[Frame], place: Path) -> None:
    """Best effort: if the disk is full, the next one restores them again."""
    partial = place.with_suffix(".part.npy")
    try:
        np.save(partial, np.stack(frames))
        partial.replace(place)
    except OSError:
        partial.unlink(missing_ok=True)


def _place_of(order: CaseOrder, count: int) -> Path:
    one = order.subject
    what = (order.checkpoint, order.clip, one.size, one.clip_len, count)
    return Path(order.folder) / f"float32-{hashlib.sha256(repr(what).encode()).hexdigest()[:12]}.npy"


def _check_memory(reference: Any) -> None:
    """The mapped checkpoint does not count: it is read again if memory is short."""
    config, size = reference.checkpoint.dit.config, reference.resolution
    frames = reference.clip_len + 4
    tokens = frames // 4 * size.token_rows * size.token_columns
    transformer = tokens * (2 * config.ffn_dim + _TENSORS_OF_A_BLOCK * config.dim)
    widened = sum(parameter.numel() for parameter in reference.checkpoint.dit.blocks[0].parameters())
    pixels = size.padded_width * size.padded_height
    autoencoder = pixels * _TENSORS_OF_A_LEVEL * max(reference.checkpoint.reae.config.decoder[-1], 3)
    needed = _FLOAT * (max(transformer + widened, autoencoder) + 2 * frames * 3 * pixels)
    free = available_memory()
    if free is not None and needed > free:
        raise MachineError(f"it takes about {format_bytes(needed)} of memory, and {format_bytes(free)} are free")


def _watch(blocks: Any, chunks: int, allowed_s: float, clock: Callable[[], float]) -> None:
    """Raise from within the network once its first chunk shows that all chunks will take longer than allowed."""
    began = clock()
    starts: list[float] = []

    def check(number: int) -> None:
        if len(starts) == len(blocks):  # the first chunk was quick enough
            return
        starts.append(clock())
        rest = (starts[-1] - starts[0]) / max(number, 1) * (len(blocks) - number)
        needed = chunks * (starts[-1] - began + rest)
        if number and needed > allowed_s:
            raise MachineError(
                f"it would take about {_minutes(needed)} on this CPU, and {_minutes(allowed_s)} are allowed, a part of "
                "--limit"
            )

    for number, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda *_, number=number: check(number))


def _minutes(seconds: float) -> str:
    return f"{math.ceil(seconds / 60)} min"
