"""Train the demonstration checkpoint on a CPU, resumably, in two stages.

    python -m benchmarks.demo.data  --photos /tmp/demo-data/photos --out /tmp/demo-data/clips
    python -m benchmarks.demo.train --clips /tmp/demo-data/clips --work /tmp/demo-data/run
    # interrupted? the same command goes on where the last save was (every --save-minutes)

First the outer levels alone (`outer.py`), where the picture is fine and a step is cheap; then the whole network, end to
end, with the autoencoder's state carried and the transformer seeing one or two chunks. `--work` holds `state.pt`
(weights, average, optimiser, step), a log per stage (`outer.csv`, `whole.csv`), and `checkpoint/` in the published
layout with the averaged weights in F16. The loss of a frame is what the yardstick measures, so that easy and hard
frames weigh the same:

    log(mean square error) / 2 + 0.1 * log(mean square error of the change from frame to frame) / 2

Convolutions run in BF16, the transformer and the loss in float32. Batch k and the initial weights depend on --seed
alone (the sums on the processor, too).
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from swiftvr_trt.export.reae import MemBlock

from . import batch as batched
from . import outer
from .batch import LAG
from .init import initialise
from .layout import frozen
from .model import Model
from .muon import Muon
from .sample import Batch, Sampler, Shape

_OUTER: Sequence[Shape] = ((4, 12, 96), (8, 12, 64), (3, 16, 96), (2, 16, 128))
_WHOLE: Sequence[Shape] = ((2, 16, 128), (3, 12, 128), (4, 12, 96))
_AVERAGE = 0.998
_SMALL = 0.05
_FIRST_CLIPS = 32
_WARMUP = 100
_COOL = 0.5
"""The share of a stage's steps over which the rate falls to zero, at the end."""
_BEST = 1e-4
"""Errors far below this mean square (40 dB) are not worth fighting for."""
_COLUMNS = ("step", "minutes", "rate", "loss", "gain", "psnr", "psnr_in")


def whole(model: Model, batch: Batch) -> Tensor:
    """The restored frames, LAG late: float32 [clips * T, 3, H, W], not clamped."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = batched.encode(model.reae, batch.damaged, batch.clips)
    restored = batched.restore(model.dit, latents.float(), model.get_buffer("prompt"), batch.clips, batch.cuts)
    with torch.autocast("cpu", torch.bfloat16):
        return batched.decode(model.reae, restored, batch.clips).float()


def losses(shown: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The loss and what the log shows of it: PSNR of result and input, and the mean of the clips' differences."""
    shown = shown.view(batch.clips, -1, *shown.shape[1:])[:, LAG:]
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
    """Model, running average, optimiser and step of one stage, saved together."""

    def __init__(self, work: Path, stage: str, sampler: Sampler, options: argparse.Namespace) -> None:
        self.work, self.stage, self.step, self.minutes = work, stage, 0, 0.0
        torch.manual_seed(options.seed)
        self.model, self.average = Model(), Model()
        saved = torch.load(work / "state.pt", weights_only=True) if (work / "state.pt").exists() else None
        if saved is None and options.start is None:
            first = sampler.draw(np.random.default_rng(options.seed), _FIRST_CLIPS, 16, 128)
            initialise(self.model.reae, self.model.dit, first.damaged, first.clean, first.clips)
        elif saved is None:
            self.model.load(options.start)
        else:
            self.model.load_state_dict(saved["average" if saved["stage"] != stage else "model"])
        self.average.load_state_dict(self.model.state_dict())
        self.masks = frozen(self.model.reae)
        self.optimiser = Optimiser(self.model)
        if saved is not None and saved["stage"] == stage:
            self.average.load_state_dict(saved["average"])
            self.step, self.minutes = saved["step"], saved["minutes"]
            self.optimiser.load_state_dict(saved["optimiser"])
        probe = sampler.draw(np.random.default_rng(options.seed), 8, 12, 96)
        self.centred = outer.Centred(self.model.reae, probe.damaged)
        self.through = outer.bottleneck(self.model.reae)
        self._fold(1)

    def _fold(self, sign: int) -> None:
        if self.stage == "whole":
            return
        for model in (self.model, self.average):
            self.centred.fold(model.reae, sign)

    def save(self) -> None:
        self._fold(-1)
        state = {
            "stage": self.stage,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "minutes": self.minutes,
        }
        torch.save(state, self.work / "state.part")
        (self.work / "state.part").replace(self.work / "state.pt")
        self.average.save(self.work / "checkpoint")
        self._fold(1)

    def forward(self, batch: Batch) -> Tensor:
        if self.stage == "whole":
            return whole(self.model, batch)
        with torch.autocast("cpu", torch.bfloat16):
            return outer.restore(self.model.reae, batch.damaged, batch.clips, self.centred, self.through).float()

    def advance(self, batch: Batch, rate: float) -> dict[str, float]:
        """One step; returns what the log shows."""
        loss, shown = losses(self.forward(batch), batch)
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter, mask in self.masks.items():
            if parameter.grad is not None:
                parameter.grad.mul_(mask)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step(rate)
        self.step += 1
        keep = min(_AVERAGE, self.step / (self.step + 4))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        return {"loss": float(loss.detach()), **shown}


class Optimiser:
    """Muon for the kernels of residual branches, AdamW for everything else.

    What a branch adds to the picture begins as nothing and has steps of a fixed size; the patterns it looks for have
    steps in proportion to themselves.
    """

    def __init__(self, model: Model) -> None:
        blocks = [m for m in model.modules() if isinstance(m, MemBlock)]
        adds = [block.conv[4].get_parameter("weight") for block in blocks]
        looks = [block.conv[k].get_parameter("weight") for block in blocks for k in (0, 2)]
        last = model.reae.decoder[-1].get_parameter("weight")  # right from the start
        done = {*adds, *looks, last}
        others = [p for p in model.parameters() if p not in done]
        self.parts = (
            Muon([{"params": looks, "scale": None}, {"params": adds, "scale": _SMALL}], lr=0.0),
            torch.optim.AdamW(
                [{"params": others, "factor": _SMALL}, {"params": [last], "factor": _SMALL / 5}],
                betas=(0.9, 0.99),
                weight_decay=0.0,
            ),
        )

    def step(self, rate: float) -> None:
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate * group.get("factor", 1.0)
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


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


def train(stage: str, steps: int, highest: float, sampler: Sampler, options: argparse.Namespace) -> None:
    run = Run(options.work, stage, sampler, options)
    log = Log(options.work / f"{stage}.csv", every=50)
    saved = begun = time.monotonic()
    before = run.minutes
    while run.step < steps:
        now = highest * rate(run.step, steps)
        row = run.advance(sampler.batch(run.step, _WHOLE if stage == "whole" else _OUTER), now)
        run.minutes = before + (time.monotonic() - begun) / 60
        log.add({"step": run.step, "minutes": run.minutes, "rate": now, **row})
        if not math.isfinite(row["loss"]):
            raise SystemExit(f"step {run.step}: the loss is no number")
        if time.monotonic() - saved > 60 * options.save_minutes:
            saved = time.monotonic()
            run.save()
    run.save()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="what benchmarks.demo.data wrote")
    parser.add_argument("--work", type=Path, required=True, help="state, log and checkpoint go here")
    parser.add_argument("--start", type=Path, help="go on from this checkpoint directory instead of a new start")
    parser.add_argument("--outer-steps", type=int, default=8000, help="steps of the first stage (default %(default)s)")
    parser.add_argument("--outer-rate", type=float, default=2e-3, help="its highest rate (default %(default)s)")
    parser.add_argument("--whole-steps", type=int, default=2000, help="steps of the second stage (default %(default)s)")
    parser.add_argument("--whole-rate", type=float, default=5e-4, help="its highest rate (default %(default)s)")
    parser.add_argument("--seed", type=int, default=20, help="(default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(default %(default)s)")
    parser.add_argument("--save-minutes", type=float, default=5, help="(default %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    sampler = Sampler(options.clips, options.seed)
    saved = options.work / "state.pt"
    if not saved.exists() or torch.load(saved, weights_only=True)["stage"] == "outer":
        train("outer", options.outer_steps, options.outer_rate, sampler, options)
    train("whole", options.whole_steps, options.whole_rate, sampler, options)


if __name__ == "__main__":
    main()
