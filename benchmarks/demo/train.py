"""Train the demonstration checkpoint on a CPU, resumably.

    python -m benchmarks.demo.data  --photos PHOTOS --videos VIDEOS --out CLIPS
    python -m benchmarks.demo.train --clips CLIPS --work RUN [--start CHECKPOINT]
    # after an interruption, the same command resumes from the last save (every --save-minutes)

The part that restores (`denoiser.py`) is trained alone, on what the decoder makes of its result. It starts from random
weights, or from the denoiser of another checkpoint of this recipe. Then it is put into a network that otherwise passes
the picture through (`init.py`).

`--work` holds the state (weights, average, optimiser, step), a log (`denoiser.csv`), and `checkpoint/`: the averaged
weights, F16, published layout. The loss takes the logarithm of a frame's error, as PSNR does, so easy and hard frames
weigh the same:

    log(mean square error) / 2 + 0.2 * log(mean square error of the change from frame to frame) / 2

The denoiser's convolutions run in BF16, everything else in float32. Batches and initial weights depend on `SEED` only;
sums also depend on the processor.
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from swiftvr_trt.export.network.checkpoint import load_checkpoint

from . import batch as batched
from . import denoiser
from .denoiser import Denoiser
from .init import initialise
from .model import Model
from .sample import Batch, Sampler

SEED = 20
_ROUNDS = ((1800, 1e-3), (800, 6e-4))
"""Steps and highest learning rate of each round. In a round the rate rises, stays and falls to zero."""
PARTS = 2
"""Batches in a step, each on a thread of its own. Threads that meet once a step train faster on busy processors than
threads that meet in every operation."""
_AVERAGE = 0.998
_FIRST_CLIPS = 40
_FIRST_SHAPE = (16, 128)
_WARMUP = 100
_COOL = 0.45
"""The last part of a round, in which the rate falls to zero."""
_SHAPES = ((3, 12, 96), (4, 8, 96), (2, 16, 96))
_COLUMNS = ("step", "minutes", "rate", "loss", "gain", "psnr", "psnr_in")


def begin(module: Denoiser, sampler: Sampler, start: Path | None) -> None:
    """Prepare a new run. start: a checkpoint folder whose denoiser the training starts from."""
    first = sampler.draw(np.random.default_rng(SEED), _FIRST_CLIPS, *_FIRST_SHAPE, photos=True)
    module.measure(first.damaged, first.clips)
    if start is not None:
        module.take(load_checkpoint(start).reae)


def loss_of(module: Denoiser, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch, and the values for the log."""
    given = denoiser.recover(batch.damaged).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(given, batch.clips)
    shown = denoiser.picture(batched.part(found, batch.clips, slice(1, None)))  # the denoiser is one pair late
    clean, damaged = (batched.part(x, batch.clips, slice(-2)) for x in (batch.clean, batch.damaged))
    return losses(shown - clean, damaged - clean, batch.clips, floor=1e-5)


def assembled(restores: Denoiser, sampler: Sampler) -> Model:
    """The whole network, with a trained denoiser."""
    torch.manual_seed(SEED)
    model = Model()
    first = sampler.draw(np.random.default_rng([SEED, 1]), _FIRST_CLIPS, *_FIRST_SHAPE)
    initialise(model.reae, model.dit, restores, first.damaged, first.clean, first.clips)
    return model


def losses(error: Tensor, before: Tensor, clips: int, floor: float) -> tuple[Tensor, dict[str, float]]:
    """The loss, and gain and PSNR in dB for the log.

    error, before: of the result and of the input, [clips * T, C, H, W]. Mean squares far below `floor` do not count.
    """
    error, before = (x.view(clips, -1, *x.shape[1:]) for x in (error, before))
    square, square_before = (x.square().mean((2, 3, 4)) for x in (error, before))
    loss = 0.5 * torch.log(square + floor).mean() + 0.1 * _logarithm(error.diff(dim=1), floor)
    after, start = (-10 * float(torch.log10(x.detach() + floor).mean()) for x in (square, square_before))
    return loss, {"gain": after - start, "psnr": after, "psnr_in": start}


def _logarithm(x: Tensor, floor: float) -> Tensor:
    """The mean over frames of the logarithm of a frame's mean square; x [clips, T, C, H, W]."""
    return torch.log(x.square().mean((2, 3, 4)) + floor).mean()


def rate(step: int, rounds: Sequence[tuple[int, float]]) -> float:
    """The learning rate: in each round it rises, stays and falls linearly to zero. rounds: steps and highest rate."""
    for steps, highest in rounds:
        if step < steps:
            return highest * min(1.0, (step + 1) / _WARMUP, (steps - step) / (_COOL * steps))
        step -= steps
    return 0.0


class Run:
    """A training in progress: module, running average, optimiser and step, which are saved together."""

    def __init__(self, sampler: Sampler, work: Path, start: Path | None) -> None:
        torch.manual_seed(SEED)
        self.module = Denoiser()
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sampler, self.file, self.step, self.minutes = sampler, work / "denoiser.pt", 0, 0.0
        if not self.file.exists():
            begin(self.module, sampler, start)
        self.average: Denoiser = copy.deepcopy(self.module)
        self._threads = ThreadPoolExecutor(PARTS)
        self.optimiser = torch.optim.AdamW(self.module.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
        if self.file.exists():
            saved: dict[str, Any] = torch.load(self.file, weights_only=True)
            self.module.load_state_dict(saved["module"])
            self.average.load_state_dict(saved["average"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.step, self.minutes = saved["step"], saved["minutes"]

    def save(self) -> None:
        state = {
            "module": self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "minutes": self.minutes,
        }
        torch.save(state, self.file.with_suffix(".part"))
        self.file.with_suffix(".part").replace(self.file)

    def advance(self, rate: float) -> dict[str, float]:
        """Make one step. Returns the values for the log."""
        shape, trained = _SHAPES[self.step % len(_SHAPES)], [*self.module.parameters()]

        def part(number: int) -> tuple[Sequence[Tensor], dict[str, float]]:
            loss, shown = loss_of(self.module, self.sampler.batch(PARTS * self.step + number, shape))
            return torch.autograd.grad(loss, trained), {"loss": float(loss.detach()), **shown}

        parts, rows = zip(*self._threads.map(part, range(PARTS)), strict=True)
        for parameter, *gradients in zip(trained, *parts, strict=True):
            parameter.grad = torch.stack(gradients).mean(0)
        nn.utils.clip_grad_norm_(trained, 1.0)
        self.optimiser.param_groups[0]["lr"] = rate
        self.optimiser.step()
        self.step += 1
        keep = min(_AVERAGE, self.step / (self.step + 4))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.module.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        return {key: sum(row[key] for row in rows) / PARTS for key in rows[0]}


class Log:
    """Means over `every` steps, appended to a CSV file and printed."""

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every, self._rows = path, every, []  # type: tuple[Path, int, list[dict[str, float]]]
        if not path.exists():
            path.write_text(",".join(_COLUMNS) + "\n", encoding="utf-8")

    def add(self, row: dict[str, float]) -> None:
        self._rows.append(row)
        if len(self._rows) < self.every:
            return
        mean = {key: sum(r[key] for r in self._rows) / len(self._rows) for key in _COLUMNS}
        mean.update(step=row["step"], minutes=row["minutes"])
        self._rows = []
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow([f"{mean[key]:.6g}" for key in _COLUMNS])
        print(" ".join(f"{key} {mean[key]:.5g}" for key in _COLUMNS), flush=True)


def train(sampler: Sampler, options: argparse.Namespace) -> Denoiser:
    """Train or resume. Returns the averaged denoiser."""
    run = Run(sampler, options.work, options.start)
    log = Log(options.work / "denoiser.csv", every=50)
    saved = begun = time.monotonic()
    before = run.minutes
    while run.step < sum(steps for steps, _ in _ROUNDS):
        now = rate(run.step, _ROUNDS)
        row = run.advance(now)
        run.minutes = before + (time.monotonic() - begun) / 60
        log.add({"step": run.step, "minutes": run.minutes, "rate": now, **row})
        if not math.isfinite(row["loss"]):
            raise SystemExit(f"step {run.step}: the loss is not finite: start again with an empty --work")
        if time.monotonic() - saved > 60 * options.save_minutes:
            saved = time.monotonic()
            run.save()
    run.save()
    return run.average


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="the clips that benchmarks.demo.data wrote")
    parser.add_argument("--work", type=Path, required=True, help="folder for states, logs and the checkpoint")
    parser.add_argument("--start", type=Path, help="checkpoint folder whose denoiser the training starts from")
    parser.add_argument("--save-minutes", type=float, default=5, help="(default %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    sampler = Sampler(options.clips, SEED)
    assembled(train(sampler, options), sampler).save(options.work / "checkpoint")


if __name__ == "__main__":
    main()
