"""Train the demonstration checkpoint on a CPU, resumably.

    python -m benchmarks.demo.data  --photos /tmp/demo-data/photos --out /tmp/demo-data/clips
    python -m benchmarks.demo.train --clips /tmp/demo-data/clips --work /tmp/demo-data/run --steps 8000
    # interrupted? the same command goes on where the last save was (every --save-minutes)

`--work` holds `state.pt` (weights, average, optimisers, step), `log.csv`, and `checkpoint/` in the published layout
with the averaged weights in F16. The loss of a frame is what the yardstick measures, so that easy and hard frames weigh
the same:

    log(mean square error) / 2 + 0.1 * log(mean square error of the change from frame to frame) / 2

over clips of 16 or 24 frames, end to end, with the autoencoder's state carried and the transformer seeing them in one
or two chunks. Convolutions run in BF16, the transformer and the loss in float32. Batch k and the initial weights depend
on --seed alone (the sums on the processor, too).
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from . import batch as batched
from .init import initialise
from .means import input_means
from .model import Model
from .muon import Muon
from .sample import Batch, Sampler

LAG = 3
"""The decoder's output frame j shows input frame j - LAG."""
_AVERAGE = 0.998
_LAST_SCALE = 0.2
_MEANS_EVERY = 50
_FIRST_CLIPS = 32
_WARMUP = 100
_COOL = 0.6
"""The share of the steps over which the rate falls to zero, at the end."""
_BEST = 3e-4
"""Errors far below this mean square (35 dB) are not worth fighting for."""
_COLUMNS = ("step", "minutes", "rate", "loss", "gain", "psnr", "psnr_in")


def forward(model: Model, batch: Batch) -> Tensor:
    """The restored frames that there is a clean frame for: float32 [clips, T - LAG, 3, H, W], not clamped."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = batched.encode(model.reae, batch.damaged, batch.clips)
    restored = batched.restore(model.dit, latents.float(), model.get_buffer("prompt"), batch.clips, batch.cuts)
    with torch.autocast("cpu", torch.bfloat16):
        shown = batched.decode(model.reae, restored, batch.clips)
    return shown.float().view(batch.clips, -1, *shown.shape[1:])[:, LAG:]


def losses(model: Model, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The loss and what the log shows of it: PSNR of result and input, and the mean of the clips' differences."""
    shown = forward(model, batch)
    clean, damaged = (x.view(batch.clips, -1, *x.shape[1:])[:, :-LAG] for x in (batch.clean, batch.damaged))
    error = shown - clean
    mean_square = error.square().mean((2, 3, 4))
    flicker = error.diff(dim=1).square().mean((2, 3, 4))
    loss = 0.5 * torch.log(mean_square + _BEST).mean() + 0.05 * torch.log(flicker + _BEST).mean()
    decibels, before = (_psnr(x.detach().clamp(0, 1) - clean) for x in (shown, damaged))
    return loss, {
        "gain": float((decibels - before).mean()),
        "psnr": float(decibels.mean()),
        "psnr_in": float(before.mean()),
    }


def _psnr(error: Tensor) -> Tensor:
    """[clips, frames]."""
    return -10 * torch.log10(error.square().mean((2, 3, 4)) + 1e-6)


def rate(step: int, steps: int) -> float:
    """Warm-up, level, then straight down to zero: a factor."""
    return min(1.0, (step + 1) / _WARMUP, max(0.0, (steps - step) / (_COOL * steps)))


class Run:
    """Model, running average, optimisers and step, saved together."""

    def __init__(self, work: Path, sampler: Sampler, options: argparse.Namespace) -> None:
        self.work, self.step, self.minutes = work, 0, 0.0
        torch.manual_seed(options.seed)
        self.model, self.average = Model(), Model()
        saved = torch.load(work / "state.pt", weights_only=True) if (work / "state.pt").exists() else None
        if saved is None:
            work.mkdir(parents=True, exist_ok=True)
            if options.start is None:
                first = sampler.draw(np.random.default_rng(options.seed), _FIRST_CLIPS, 16, 128)
                initialise(self.model.reae, self.model.dit, first.damaged, first.clean, first.clips)
            else:
                self.model.load(options.start)
            self.average.load_state_dict(self.model.state_dict())
        self.muon, self.adam = self.optimisers = optimisers(self.model, options.muon, options.adam)
        if saved is not None:
            self.model.load_state_dict(saved["model"])
            self.average.load_state_dict(saved["average"])
            self.step, self.minutes = saved["step"], saved["minutes"]
            for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
                optimiser.load_state_dict(state)

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "minutes": self.minutes,
        }
        torch.save(state, self.work / "state.part")
        (self.work / "state.part").replace(self.work / "state.pt")
        self.average.save(self.work / "checkpoint")

    def advance(self, batch: Batch, rates: tuple[float, float]) -> dict[str, float]:
        """One step; returns what the log shows."""
        for optimiser, lr in zip(self.optimisers, rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = lr
        if not self.muon.means or self.step % _MEANS_EVERY == 0:
            one = batch.damaged[: len(batch.damaged) // batch.clips]
            self.muon.means = input_means(self.model.reae, one)
        loss, shown = losses(self.model, batch)
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        keep = min(_AVERAGE, self.step / (self.step + 4))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        return {"loss": float(loss.detach()), **shown}


def optimisers(model: Model, muon: float, adam: float) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for kernels and the transformer's inner matrices, AdamW for everything else."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inner = name.startswith("reae") or name.startswith("dit.blocks")
        (matrices if inner and parameter.ndim > 1 and "table" not in name else others).append(parameter)
    last = model.reae.decoder[-1].get_parameter("weight")  # its output is pixels, not features of deviation 1/2
    groups = [{"params": [p for p in matrices if p is not last]}, {"params": [last], "scale": _LAST_SCALE}]
    return Muon(groups, lr=muon), torch.optim.AdamW(others, lr=adam, betas=(0.9, 0.98), weight_decay=0.0)


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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="what benchmarks.demo.data wrote")
    parser.add_argument("--work", type=Path, required=True, help="state, log and checkpoint go here")
    parser.add_argument("--start", type=Path, help="go on from this checkpoint directory instead of a new start")
    parser.add_argument("--steps", type=int, default=8000, help="steps in all (default %(default)s)")
    parser.add_argument("--muon", type=float, default=0.0001, help="highest rate of Muon (default %(default)s)")
    parser.add_argument("--adam", type=float, default=0.0001, help="highest rate of AdamW (default %(default)s)")
    parser.add_argument("--seed", type=int, default=20, help="(default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default %(default)s)")
    parser.add_argument("--save-minutes", type=float, default=5, help="(default %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    sampler = Sampler(options.clips, options.seed)
    run = Run(options.work, sampler, options)
    log = Log(options.work / "log.csv", every=25)
    saved = begun = time.monotonic()
    before = run.minutes
    while run.step < options.steps:
        factor = rate(run.step, options.steps)
        row = run.advance(sampler.batch(run.step), (options.muon * factor, options.adam * factor))
        run.minutes = before + (time.monotonic() - begun) / 60
        log.add({"step": run.step, "minutes": run.minutes, "rate": options.muon * factor, **row})
        if not math.isfinite(row["loss"]):
            raise SystemExit(f"step {run.step}: the loss is no number")
        if time.monotonic() - saved > 60 * options.save_minutes:
            saved = time.monotonic()
            run.save()
    run.save()


if __name__ == "__main__":
    main()
