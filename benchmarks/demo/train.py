"""Train the demonstration checkpoint on a CPU, resumably, in two stages.

    python -m benchmarks.demo.data  --photos PHOTOS --videos VIDEOS --out CLIPS
    python -m benchmarks.demo.train --clips CLIPS --work RUN
    # after an interruption, the same command resumes from the last save (every --save-minutes)

1. `denoiser`: the part that restores (`denoiser.py`), alone. It learns to remove noise from the small picture, at first
   from clips that are noisy but not compressed.
2. `transformer`: the denoiser is put into a network that otherwise passes the picture through (`init.py`). There the
   transformer is trained on the decoder's output. The autoencoder carries its state; the transformer sees one or two
   chunks.

`--work` holds a state per stage (weights, average, optimiser, step), a log per stage (`denoiser.csv`, ...), and
`checkpoint/`: the averaged weights, F16, published layout. The loss takes the logarithm of a frame's error, as PSNR
does, so easy and hard frames weigh the same:

    log(mean square error) / 2 + 0.2 * log(mean square error of the change from frame to frame) / 2
                               + 0.1 * log(mean square error of the slopes) / 2            (of the large picture)

The denoiser's convolutions run in BF16, everything else in float32. Batches and initial weights depend on `SEED` only;
sums also depend on the processor.
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from . import batch as batched
from . import denoiser
from .batch import LAG
from .denoiser import Denoiser
from .init import initialise
from .model import Model
from .sample import Batch, Sampler, Shape

M = TypeVar("M", bound=nn.Module)

SEED = 20
_DENOISER_ROUNDS, _TRANSFORMER_ROUNDS = ((16000, 1e-3), (6000, 5e-4)), ((1500, 3e-4),)
"""Steps and highest learning rate of each round. In a round the rate rises, stays and falls to zero."""
_AVERAGE = 0.998
_FIRST_CLIPS = 40
_FIRST_SHAPE = (16, 128)
_WARMUP = 100
_COOL = 0.5
"""The last part of a round, in which the rate falls to zero."""
_NOISE_STEPS = 1500
"""The denoiser's first steps are on noise that was not compressed. Compressed noise is faint, and a network that begins
with it learns about colours only: it gained 0.16 dB of luma in 4 800 steps, against 0.29 dB in 800 steps of plain noise
and 800 of the rest."""
_SHAPES = ((6, 12, 96), (8, 8, 96), (4, 16, 96))
_WINDOW_SHAPES = ((1, 16, 192), (2, 16, 128), (1, 12, 224))
"""One window, or several, some of them shifted. A window is 128 pixels wide."""
_SLOW = 0.04
"""Share of the rate for the transformer's last projection: at the full rate, the errors of its 64 inputs add up."""
_COLUMNS = ("step", "minutes", "rate", "loss", "gain", "psnr", "psnr_in")


@dataclass(frozen=True)
class Stage(Generic[M]):
    """What is trained (the parameters that require a gradient) and how.

    begin     prepares a new run; a resumed one skips it
    loss      of a batch, and the values for the log
    rounds    steps and highest rate of each round
    slow      parameters that learn at `_SLOW` times the rate
    noise     for how many steps the clips are noisy but not compressed
    """

    name: str
    module: M
    begin: Callable[[], None]
    loss: Callable[[Batch], tuple[Tensor, dict[str, float]]]
    shapes: Sequence[Shape]
    rounds: Sequence[tuple[int, float]]
    slow: Sequence[nn.Parameter] = ()
    noise: int = 0


def denoiser_stage(seed: int, sampler: Sampler) -> Stage[Denoiser]:
    torch.manual_seed(seed)
    module = Denoiser()

    def begin() -> None:
        first = sampler.draw(np.random.default_rng(seed), _FIRST_CLIPS, *_FIRST_SHAPE, photos=True)
        module.measure(first.damaged, first.clips)

    def loss(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        given = denoiser.recover(batch.damaged)
        with torch.autocast("cpu", torch.bfloat16):
            found = module(given, batch.clips)
        wanted = denoiser.signals(batch.halved)
        found = batched.part(found, batch.clips, slice(1, None))  # the denoiser is one pair late
        given, wanted = (batched.part(x, batch.clips, slice(-1)) for x in (given, wanted))
        return losses(denoiser.error(found, wanted), denoiser.error(given, wanted), batch.clips, floor=1e-5)

    return Stage("denoiser", module, begin, loss, _SHAPES, _DENOISER_ROUNDS, noise=_NOISE_STEPS)


def transformer_stage(seed: int, sampler: Sampler, restores: Denoiser) -> Stage[Model]:
    torch.manual_seed(seed)
    module = Model()
    module.reae.requires_grad_(False)

    slow = [*module.dit.proj_out.parameters()]

    def begin() -> None:
        first = sampler.draw(np.random.default_rng([seed, 1]), _FIRST_CLIPS, *_FIRST_SHAPE)
        initialise(module.reae, module.dit, restores, first.damaged, first.clean, first.clips)

    def loss(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        shown = batched.part(whole(module, batch), batch.clips, slice(LAG, None))
        clean, damaged = (batched.part(x, batch.clips, slice(-LAG)) for x in (batch.clean, batch.damaged))
        return losses(shown - clean, damaged - clean, batch.clips, floor=1e-5, slopes=True)

    return Stage("transformer", module, begin, loss, _WINDOW_SHAPES, _TRANSFORMER_ROUNDS, slow=slow)


def whole(model: Model, batch: Batch) -> Tensor:
    """Restore a batch: frames [clips * T, 3, H, W], not clamped, `LAG` frames late.

    In float32: the decoder subtracts large offsets that were added before, which leaves a tint in BF16.
    """
    latents = batched.encode(model.reae, batch.damaged, batch.clips)
    restored = batched.restore(model.dit, latents, model.get_buffer("prompt"), batch.clips, batch.cuts)
    return batched.decode(model.reae, restored, batch.clips)


def losses(
    error: Tensor, before: Tensor, clips: int, floor: float, slopes: bool = False
) -> tuple[Tensor, dict[str, float]]:
    """The loss, and gain and PSNR in dB for the log.

    error, before: of the result and of the input, [clips * T, C, H, W]. Mean squares far below `floor` do not count.
    """
    error, before = (x.view(clips, -1, *x.shape[1:]) for x in (error, before))
    square, square_before = (x.square().mean((2, 3, 4)) for x in (error, before))
    loss = 0.5 * torch.log(square + floor).mean() + 0.1 * _logarithm(error.diff(dim=1), floor)
    if slopes:
        loss = loss + 0.025 * sum(_logarithm(error.diff(dim=axis), floor) for axis in (3, 4))
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


class Run(Generic[M]):
    """A stage in progress: module, running average, optimiser and step, which are saved together."""

    def __init__(self, stage: Stage[M], work: Path) -> None:
        self.stage, self.file, self.step, self.minutes = stage, work / f"{stage.name}.pt", 0, 0.0
        if not self.file.exists():
            stage.begin()
        self.average = copy.deepcopy(stage.module)
        self._trained = [p for p in stage.module.parameters() if p.requires_grad]
        slow = {id(p) for p in stage.slow}
        groups = [
            {"params": [p for p in self._trained if id(p) not in slow], "share": 1.0},
            {"params": [*stage.slow], "share": _SLOW},
        ]
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)
        if self.file.exists():
            saved: dict[str, Any] = torch.load(self.file, weights_only=True)
            self.stage.module.load_state_dict(saved["module"])
            self.average.load_state_dict(saved["average"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.step, self.minutes = saved["step"], saved["minutes"]

    def save(self) -> None:
        state = {
            "module": self.stage.module.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "minutes": self.minutes,
        }
        torch.save(state, self.file.with_suffix(".part"))
        self.file.with_suffix(".part").replace(self.file)

    def advance(self, batch: Batch, rate: float) -> dict[str, float]:
        """Make one step. Returns the values for the log."""
        loss, shown = self.stage.loss(batch)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._trained, 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self.optimiser.step()
        self.step += 1
        keep = min(_AVERAGE, self.step / (self.step + 4))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.stage.module.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        return {"loss": float(loss.detach()), **shown}


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


def train(stage: Stage[M], sampler: Sampler, options: argparse.Namespace) -> M:
    """Train or resume a stage. Returns the averaged module."""
    run = Run(stage, options.work)
    log = Log(options.work / f"{stage.name}.csv", every=50)
    saved = begun = time.monotonic()
    before = run.minutes
    while run.step < sum(steps for steps, _ in stage.rounds):
        now = rate(run.step, stage.rounds)
        row = run.advance(sampler.batch(run.step, stage.shapes, noise=run.step < stage.noise), now)
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
    parser.add_argument("--threads", type=int, default=2, help="(default %(default)s)")
    parser.add_argument("--save-minutes", type=float, default=5, help="(default %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    sampler = Sampler(options.clips, SEED)
    restores = train(denoiser_stage(SEED, sampler), sampler, options)
    model = train(transformer_stage(SEED, sampler, restores), sampler, options)
    model.save(options.work / "checkpoint")


if __name__ == "__main__":
    main()
