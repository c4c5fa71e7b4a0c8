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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swiftvr_trt.export.network.reae import UNSHUFFLE, MemBlock, Reae

from .batch import past
from .layout import COLOUR_LIFT, COLOUR_WEIGHT, LUMA_LIFT, MIX, PAIR, as_stored, bias_of, convolutions, kernel_of

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


def error(found: Tensor, wanted: Tensor) -> Tensor:
    """The error of pairs, frame by frame: [n, 12, h, w] -> [2n, 6, h, w].

    Colours are weighted by their share in red, green and blue.
    """
    share = torch.tensor([1.0] * 4 + [COLOUR_WEIGHT**0.5] * 2)[:, None, None]
    return share * (found - wanted).view(-1, PAIR // 2, *found.shape[2:])


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
        blocks = [block for block in list(reae.encoder)[4:7] if isinstance(block, MemBlock)]
        seen = ([*range(PAIR + 1)], [*range(WIDTH)], [*range(WIDTH)])
        told = (slice(PAIR + 1, None), slice(PAIR + 1, None), slice(PAIR))
        for number, block in enumerate(blocks):
            branch, first = self.branches[number], PAIR + 1 if number == 0 else 0
            hidden = slice(first, None)
            (a, b, c), (x, y, z) = convolutions(block), convolutions(branch)
            left = torch.zeros_like(bias_of(x))
            for half, centred in enumerate(self._kernel(x).chunk(2, 1)):
                at = [half * WIDTH + k for k in seen[number]]
                a.weight[hidden, half * WIDTH : (half + 1) * WIDTH] = 0
                kernel, rest = _uncentred(centred)
                a.weight[hidden, at] = kernel
                left = left + rest
            bias_of(a)[hidden] = bias_of(x) + left
            b.weight[hidden, :first] = 0
            b.weight[hidden, hidden], bias_of(b)[hidden] = y.weight, bias_of(y)
            scale = _CORRECTION if number == 2 else 1.0
            if number:
                c.weight.zero_()
                bias_of(c).zero_()
            c.weight[told[number], :] = 0
            c.weight[told[number], hidden], bias_of(c)[told[number]] = scale * z.weight, scale * bias_of(z)


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
    lifts = torch.tensor(2 * ([LUMA_LIFT] * 4 + [COLOUR_LIFT] * 2))
    stored = as_stored(kernel)
    exact = kernel[:, PAIR] - torch.einsum("okhw,k->ohw", stored[:, :PAIR], _means() + lifts)
    stored[:, PAIR] = as_stored(exact)
    return stored, (exact - stored[:, PAIR]).sum((1, 2))
