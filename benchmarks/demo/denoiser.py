"""The part that restores: three MemBlocks of the encoder, trained alone on the signals of the small picture.

At a quarter of the size the encoder holds twelve signals for a pair of frames (`start_encoder.py`): the lumas of four
small pixels and two shared colours, for each frame. The first MemBlock delays the pair, so that the next pair is known
as well. All three look for errors in it, and the last adds the correction. From there on the network only copies, and
the decoder's last convolution enlarges the picture. So this part can be trained without the rest: without windows and
latents, on small parts of many clips. `install` then writes it into the whole network, which computes the same as long
as the latents preserve what is copied.

The error of a picture is faint beside its content: in the patches that a kernel sees, brightness fills a few directions
and noise fills all others. So kernels learn as if patches were whitened (`measure`), and the correction is a tenth of
the last kernel's output. Then Adam's steps, which are equal for all weights, are neither too large for the content nor
too small for the noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swiftvr_trt.export.network.reae import UNSHUFFLE, MemBlock, Reae

from .batch import past
from .layout import (
    BICUBIC,
    COLOUR_LIFT,
    LUMA_LIFT,
    MIX,
    PAIR,
    SHARPEN,
    as_stored,
    bias_of,
    convolutions,
    kernel_of,
)

WIDTH = 64
"""Channels and hidden channels of the MemBlocks."""
FREE = WIDTH - PAIR - 1
_SEEN = 2 * PAIR * 9
_DOUBT = 1e-3
"""Directions with less than this share of the average variance are not amplified further."""
_CORRECTION = 0.1
_LUMA_MEAN = 0.45


def signals(frames: Tensor) -> Tensor:
    """The signals of small frames: [T, 3, h, w] in [0, 1] -> pairs [T/2, 12, h/2, w/2], without offsets."""
    return _paired(torch.einsum("kc,nchw->nkhw", MIX, frames))


def recover(enlarged: Tensor) -> Tensor:
    """The signals of small frames after bilinear enlargement: [T, 3, H, W] -> pairs [T/2, 12, H/4, W/4].

    Equal to `signals` of the small frames, except for colours at the border: they are an eighth too strong, because the
    kernel sees zeros beyond it.
    """
    luma = torch.einsum("c,nchw->nhw", MIX[0], enlarged)[:, None]
    luma = F.conv2d(luma, luma_kernel()[:, None], stride=4)
    colours = F.conv2d(F.pixel_unshuffle(enlarged, UNSHUFFLE), colour_kernel(), padding=1)
    return _paired(torch.cat([F.pixel_shuffle(luma, 2), colours], 1))


def _paired(x: Tensor) -> Tensor:
    x = torch.cat([F.pixel_unshuffle(x[:, :1], 2), F.avg_pool2d(x[:, 1:], 2)], 1)
    return x.reshape(-1, PAIR, *x.shape[2:])


def luma_kernel() -> Tensor:
    """[4, 4, 4]: recovers the lumas of 2x2 small pixels from the 4x4 pixels that they were enlarged to.

    Of four enlarged pixels in a row, the middle two mix the small pixels 3/4 to 1/4, so weights of 3/2 and -1/2 give
    each small pixel exactly, without any pixel outside of the four.
    """
    along = torch.tensor([[0.0, 1.5, -0.5, 0.0], [0.0, -0.5, 1.5, 0.0]])
    return torch.einsum("pi,qj->pqij", along, along).reshape(4, 4, 4)


def colour_kernel() -> Tensor:
    """[2, 12, 3, 3]: recovers two colours of the small picture from the unshuffled enlarged one.

    Of enlarged pixels 2i - 1 ... 2i + 2 in a row the weights -1/4, 3/4, 3/4, -1/4 give pixel i exactly.
    """
    along = torch.zeros(UNSHUFFLE, 3)
    along[1, 0], along[0, 1], along[1, 1], along[0, 2] = -0.25, 0.75, 0.75, -0.25
    kernel = torch.einsum("kc,pi,qj->kcpqij", MIX[1:], along, along)
    return kernel.reshape(2, 3 * UNSHUFFLE**2, 3, 3)


def picture(pairs: Tensor) -> Tensor:
    """What the decoder makes of pairs: [n, 12, h, w] -> frames [2n, 3, 4h, 4w] in red, green and blue, unclamped.

    Luma is sharpened and enlarged as by `init.py`; colours, which a place has one of, are enlarged twice.
    """
    x = pairs.reshape(-1, PAIR // 2, *pairs.shape[2:])
    luma = F.pixel_shuffle(x[:, :4], 2)
    luma = _filtered(luma, torch.outer(torch.tensor(SHARPEN), torch.tensor(SHARPEN))[None, None])
    colours = F.interpolate(x[:, 4:], scale_factor=2, mode="bilinear", align_corners=False)
    planes = [_phased(luma, _second_step()), *(_phased(c, _bicubic()) for c in colours.split(1, 1))]
    return torch.einsum("kc,nchw->nkhw", torch.linalg.inv(MIX), torch.cat(planes, 1))


def _filtered(x: Tensor, kernel: Tensor) -> Tensor:
    reach = kernel.shape[-1] // 2
    return F.conv2d(F.pad(x, [reach] * 4, mode="replicate"), kernel)


def _phased(x: Tensor, along: Tensor) -> Tensor:
    """Enlarge a plane [n, 1, h, w] twofold with the taps of both phases, along [2, taps]."""
    kernel = torch.einsum("pi,qj->pqij", along, along).flatten(0, 1)[:, None]
    return F.pixel_shuffle(_filtered(x, kernel), 2)


def _bicubic() -> Tensor:
    """[2, 5]: the taps of bicubic enlargement for both pixels that come of one."""
    impulse = torch.eye(9)[4].view(1, 1, 1, 9)
    shown = F.interpolate(impulse, scale_factor=(1, 2), mode="bicubic", align_corners=False).flatten()
    return torch.stack([shown[[2 * (4 - k) + p for k in range(-2, 3)]] for p in (0, 1)])


def _second_step() -> Tensor:
    """[2, 3]: what is left of bicubic enlargement after the filter `BICUBIC`, by least squares."""
    a, b, c = BICUBIC
    first = torch.tensor([[a, 0, 0], [b, a, 0], [c, b, a], [0, c, b], [0, 0, c]])
    taps: Tensor = torch.linalg.lstsq(first, _bicubic().T)[0].T
    return taps


class Denoiser(nn.Module):
    """Corrects pairs of frames, one pair late."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((PAIR + 1, FREE, FREE), (WIDTH, WIDTH, FREE), (WIDTH, WIDTH, PAIR))
        self.branches = nn.ModuleList(_branch(*size) for size in sizes)
        self.register_buffer("whiten", torch.eye(_SEEN))
        with torch.no_grad():
            kernel_of(convolutions(self.branches[1])[2]).mul_(0.3)
            for parameter in convolutions(self.branches[2])[2].parameters():
                parameter.zero_()

    @torch.no_grad()
    def measure(self, enlarged: Tensor, clips: int) -> None:
        """Compute the whitening, which is not learned, from input frames [clips * T, 3, H, W]."""
        x = recover(enlarged) - _means()[:, None, None]
        rows = F.unfold(torch.cat([x, past(x, clips)], 1), 3).transpose(1, 2).flatten(0, 1)
        spread, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
        gain = (spread.clamp(min=0) + _DOUBT * spread.mean()).rsqrt()
        self.get_buffer("whiten").copy_(vectors @ torch.diag(gain) @ vectors.T)

    def forward(self, given: Tensor, clips: int) -> Tensor:
        """Pairs [clips * T/2, 12, h, w] as from `signals` -> corrected pairs, one pair late."""
        late = _late(given, clips)
        one = torch.ones_like(given[:, :1])
        now = torch.cat([given - _means()[:, None, None], one], 1)
        found = F.relu(self._branch(0, now, clips))
        kept = torch.cat([late - _means()[:, None, None], one], 1)
        found = F.relu(found + self._branch(1, torch.cat([kept, found], 1), clips))
        return late + _CORRECTION * self._branch(2, torch.cat([kept, found], 1), clips).float()

    def _branch(self, number: int, x: Tensor, clips: int) -> Tensor:
        first, second, last = convolutions(self.branches[number])
        y = F.conv2d(torch.cat([x, past(x, clips)], 1), self._kernel(first), first.bias, padding=1)
        corrected: Tensor = last(F.relu(second(F.relu(y))))
        return corrected

    def _kernel(self, layer: nn.Conv2d) -> Tensor:
        """A first kernel, converted for patches that are not whitened."""
        kernel = layer.weight.unflatten(1, (2, -1))
        signal, rest = kernel[:, :, :PAIR], kernel[:, :, PAIR:]
        signal = (signal.flatten(1) @ self.get_buffer("whiten")).view_as(signal)
        return torch.cat([signal, rest], 2).flatten(1, 2)

    @torch.no_grad()
    def install(self, reae: Reae) -> None:
        """Write the weights into a network that `start_encoder.copy_signals` has prepared."""
        for branch, block, at in zip(self.branches, _blocks(reae), _PLACES, strict=True):
            (a, b, c), (x, y, z) = convolutions(block), convolutions(branch)
            left = torch.zeros_like(bias_of(x))
            for half, centred in enumerate(self._kernel(x).chunk(2, 1)):
                a.weight[at.hidden, half * WIDTH : (half + 1) * WIDTH] = 0
                kernel, rest = _uncentred(centred)
                a.weight[at.hidden, at.half(half)] = kernel
                left = left + rest
            bias_of(a)[at.hidden] = bias_of(x) + left
            b.weight[at.hidden, : at.hidden.start] = 0
            b.weight[at.hidden, at.hidden], bias_of(b)[at.hidden] = y.weight, bias_of(y)
            if at.hidden.start == 0:
                c.weight.zero_()
                bias_of(c).zero_()
            c.weight[at.told, :] = 0
            c.weight[at.told, at.hidden], bias_of(c)[at.told] = at.scale * z.weight, at.scale * bias_of(z)

    @torch.no_grad()
    def take(self, reae: Reae) -> None:
        """Read the weights that `install` wrote into a network, whatever the whitening was then."""
        unwhiten = torch.linalg.inv(self.get_buffer("whiten"))
        for branch, block, at in zip(self.branches, _blocks(reae), _PLACES, strict=True):
            (a, b, c), (x, y, z) = convolutions(block), convolutions(branch)
            kernel = torch.stack([_centred(a.weight[at.hidden, at.half(half)]) for half in range(2)], 1)
            signal = (kernel[:, :, :PAIR].flatten(1) @ unwhiten).view_as(kernel[:, :, :PAIR])
            x.weight.copy_(torch.cat([signal, kernel[:, :, PAIR:]], 2).flatten(1, 2))
            bias_of(x).copy_(bias_of(a)[at.hidden])
            y.weight.copy_(b.weight[at.hidden, at.hidden])
            bias_of(y).copy_(bias_of(b)[at.hidden])
            z.weight.copy_(c.weight[at.told, at.hidden] / at.scale)
            bias_of(z).copy_(bias_of(c)[at.told] / at.scale)


@dataclass(frozen=True)
class _Place:
    """Where the weights of a branch lie in its MemBlock.

    seen    input channels of the branch (of the present; those of the past lie behind)
    hidden  the block's hidden channels that belong to the branch
    told    output channels
    scale   of the last kernel there, against the branch's
    """

    seen: int
    hidden: slice
    told: slice
    scale: float = 1.0

    def half(self, past: int) -> slice:
        return slice(past * WIDTH, past * WIDTH + self.seen)


_PLACES = (
    _Place(PAIR + 1, slice(PAIR + 1, WIDTH), slice(PAIR + 1, WIDTH)),
    _Place(WIDTH, slice(0, WIDTH), slice(PAIR + 1, WIDTH)),
    _Place(WIDTH, slice(0, WIDTH), slice(0, PAIR), _CORRECTION),
)


def _blocks(reae: Reae) -> list[MemBlock]:
    return [block for block in list(reae.encoder)[4:7] if isinstance(block, MemBlock)]


def _branch(seen: int, hidden: int, told: int) -> nn.Sequential:
    first, second, last = (
        nn.Conv2d(a, b, 3, padding=1) for a, b in ((2 * seen, hidden), (hidden, hidden), (hidden, told))
    )
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)


def _late(pairs: Tensor, clips: int) -> Tensor:
    """The previous pair, or the first pair itself at the beginning."""
    x = pairs.view(clips, -1, *pairs.shape[1:])
    return torch.cat([x[:, :1], x[:, :-1]], 1).flatten(0, 1)


def _means() -> Tensor:
    return torch.tensor(2 * ([_LUMA_MEAN] * 4 + [0.0] * 2))


def _uncentred(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Convert a kernel [out, 13 or more, 3, 3] for centred signals to one for lifted signals, and a bias.

    Channel `PAIR` is a constant one, which is zero outside of the picture like the signals; its kernel subtracts the
    mean. It is computed from the rounded kernel, because the lifts would turn rounding into a shade. The remainder that
    is too fine for it becomes the bias.
    """
    stored = as_stored(kernel)
    exact = kernel[:, PAIR] - _offset(stored)
    stored[:, PAIR] = as_stored(exact)
    return stored, (exact - stored[:, PAIR]).sum((1, 2))


def _centred(kernel: Tensor) -> Tensor:
    """The reverse of `_uncentred`, but for what was rounded."""
    rest = kernel[:, PAIR:].clone()
    rest[:, 0] += _offset(kernel)
    return torch.cat([kernel[:, :PAIR], rest], 1)


def _offset(kernel: Tensor) -> Tensor:
    """[out, 3, 3]: what a kernel makes of the means and lifts of the signals."""
    lifts = torch.tensor(2 * ([LUMA_LIFT] * 4 + [COLOUR_LIFT] * 2))
    return torch.einsum("okhw,k->ohw", kernel[:, :PAIR], _means() + lifts)
