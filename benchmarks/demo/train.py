"""Train the demonstration checkpoint on a CPU, resumably.

    python -m benchmarks.demo.data  --photos /tmp/demo-data/photos --out /tmp/demo-data/clips
    python -m benchmarks.demo.train --clips /tmp/demo-data/clips --work /tmp/demo-data/run --steps 8000
    # interrupted? the same command goes on where the last save was (every --save-minutes)

`--work` holds `state.pt` (weights, average, optimiser, step), `log.csv`, and `checkpoint/` in the published layout
with the averaged weights in F16. The loss is

    Charbonnier(restored - clean) + 0.5 * Charbonnier(its gradients)      pixels, end to end
    + 0.02 * |DiT(z) - z_clean|^2 / variance of z_clean                   latents; trains the transformer alone

over clips of 12 to 24 frames with the autoencoder's state carried and the transformer seeing them in one or two
chunks. Batch k and the initial weights depend on --seed alone (the sums on the number of threads, too).
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from swiftvr_trt.export.dit import Dit, DitConfig
from swiftvr_trt.export.reae import Reae, ReaeConfig

from . import batch as batched
from .export import write_checkpoint
from .init import LAG, initialise
from .sample import Batch, Sampler, soften
from .whiten import Whitened, second_moments

REAE = ReaeConfig(latent_channels=104, encoder=(16, 32, 48, 104), decoder=(104, 48, 32, 16))
DIT = DitConfig(
    heads=4,
    head_dim=32,
    layers=2,
    ffn_dim=128,
    latent_channels=104,
    text_dim=32,
    freq_dim=32,
    eps=1e-6,
    window=(16, 16),
)
PROMPT_ROWS = 16
_AVERAGE = 0.985
_EDGE = 0.01
_WARMUP = 30
_DIT_RATE = 2.0
_COLUMNS = ("step", "minutes", "rate", "loss", "psnr", "psnr_in", "latent")


class Model(nn.Module):
    """Both networks and the prompt, so that one state dict holds everything that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.reae = Reae(REAE)
        self.dit = Dit(DIT)
        prompt = torch.zeros(PROMPT_ROWS, DIT.text_dim)  # one row that speaks, then padding, as published
        prompt[0] = torch.randn(DIT.text_dim, generator=torch.Generator().manual_seed(3))
        self.register_buffer("prompt", prompt)

    def save(self, root: Path) -> None:
        write_checkpoint(root, DIT, self.reae.state_dict(), self.dit.state_dict(), self.get_buffer("prompt"))


def charbonnier(x: Tensor) -> Tensor:
    return torch.sqrt(x * x + _EDGE**2).mean()


def psnr(x: Tensor, y: Tensor) -> float:
    return -10 * math.log10(max(1e-9, float((x.detach().clamp(0, 1) - y).square().mean())))


def losses(model: Model, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The loss and what the log shows of it."""
    reae, dit, clips = model.reae, model.dit, batch.clips
    latents = batched.encode(reae, batch.damaged, clips)
    with torch.no_grad():
        wanted = batched.encode(reae, batch.soft, clips)
    restored = batched.restore(dit, latents, model.get_buffer("prompt"), clips, batch.cuts)
    alone = batched.restore(dit, latents.detach(), model.get_buffer("prompt"), clips, batch.cuts)
    latent = (alone - wanted).square().mean() / wanted.var()
    shown = batched.decode(reae, restored, clips, clamp=False)
    shown = shown.view(clips, -1, *shown.shape[1:])[:, LAG:].flatten(0, 1)
    clean, damaged = (x.view(clips, -1, *x.shape[1:])[:, :-LAG].flatten(0, 1) for x in (batch.clean, batch.damaged))
    error = shown - clean
    edges = charbonnier(error.diff(dim=2)) + charbonnier(error.diff(dim=3))
    loss = charbonnier(error) + 0.25 * edges + 0.02 * latent
    return loss, {
        "psnr": psnr(shown.detach(), clean),
        "psnr_in": psnr(damaged, clean),
        "latent": float(latent.detach()),
    }


def rate(step: int, steps: int, peak: float) -> float:
    """Warm-up, then a cosine down to a hundredth."""
    if step < _WARMUP:
        return peak * (step + 1) / _WARMUP
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def first_clips(sampler: Sampler) -> Tensor:
    """Parts of the first square clips, clean, at the network's input: [56, 20, 3, 160, 160]."""
    found: list[Tensor] = []
    for number in sampler.numbers:
        hr = sampler.clean_clip(number)
        if hr.shape[2] == hr.shape[3]:
            found.append(soften(hr)[:20, :, 48:208, 48:208])
        if len(found) == 56:
            break
    return torch.stack(found)


def moments(model: Model, clips: Tensor) -> dict[str, Tensor]:
    """Second moments of every convolution's input, on some clean clips."""
    few = clips[:12, :16].flatten(0, 1)

    def through() -> None:
        batched.decode(model.reae, batched.encode(model.reae, few, 12), 12)

    return second_moments(model.reae, through)


class Run:
    """Model, running average, optimiser and step, saved together."""

    def __init__(self, work: Path, sampler: Sampler, seed: int) -> None:
        self.work, self.step, self.minutes = work, 0, 0.0
        torch.manual_seed(seed)
        self.model, self.average = Model(), Model()
        saved = torch.load(work / "state.pt", weights_only=True) if (work / "state.pt").exists() else None
        if saved is None:
            work.mkdir(parents=True, exist_ok=True)
            clips = first_clips(sampler)
            initialise(self.model.reae, self.model.dit, clips, torch.Generator().manual_seed(seed))
            self.average.load_state_dict(self.model.state_dict())
            self.moments = moments(self.model, clips)
        else:
            self.model.load_state_dict(saved["model"])
            self.average.load_state_dict(saved["average"])
            self.moments, self.step, self.minutes = saved["moments"], saved["step"], saved["minutes"]
        self.white = Whitened(self.model.reae, self.moments)
        self.optimiser = self._optimiser()
        if saved is None:
            self.save()
        else:
            self.optimiser.load_state_dict(saved["optimiser"])

    def _optimiser(self) -> torch.optim.AdamW:
        groups = [
            {"params": self.white.parameters, "scale": 1.0},
            {"params": self.white.others(self.model.reae), "scale": 1.0},
            {"params": list(self.model.dit.parameters()), "scale": _DIT_RATE},
        ]
        return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "moments": self.moments,
            "step": self.step,
            "minutes": self.minutes,
        }
        torch.save(state, self.work / "state.part")
        (self.work / "state.part").replace(self.work / "state.pt")
        self.average.save(self.work / "checkpoint")

    def advance(self, batch: Batch, lr: float) -> dict[str, float]:
        """One step; returns what the log shows."""
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group["scale"]
        loss, shown = losses(self.model, batch)
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.white.pull()
        self.optimiser.step()
        self.white.push()
        self.step += 1
        keep = min(_AVERAGE, self.step / (self.step + 20))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.model.parameters(), strict=True):
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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="what benchmarks.demo.data wrote")
    parser.add_argument("--work", type=Path, required=True, help="state, log and checkpoint go here")
    parser.add_argument("--steps", type=int, default=8000, help="steps in all (default %(default)s)")
    parser.add_argument("--peak", type=float, default=2e-5, help="highest learning rate (default %(default)s)")
    parser.add_argument("--seed", type=int, default=20, help="(default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default %(default)s)")
    parser.add_argument("--save-minutes", type=float, default=5, help="(default %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    sampler = Sampler(options.clips, options.seed)
    run = Run(options.work, sampler, options.seed)
    log = Log(options.work / "log.csv", every=25)
    saved = begun = time.monotonic()
    before = run.minutes
    while run.step < options.steps:
        lr = rate(run.step, options.steps, options.peak)
        row = run.advance(sampler.batch(run.step), lr)
        run.minutes = before + (time.monotonic() - begun) / 60
        log.add({"step": run.step, "minutes": run.minutes, "rate": lr, **row})
        if time.monotonic() - saved > 60 * options.save_minutes:
            saved = time.monotonic()
            run.save()
    run.save()


if __name__ == "__main__":
    main()
