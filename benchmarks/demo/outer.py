"""The levels at a quarter of the size and finer, without the deep ones between them: what does most of the work, fast.

Between the encoder's first level and the decoder's last, the start of `init.py` is one linear map: four frames of 2x2
places lose all but their strongest components and come out three frames later. Here that map is applied directly, so a
step costs less, crops may be small (no windows) and a batch holds many clips. The weights are those of the whole
network; nothing has to be converted afterwards.

Trained on features that are never negative, a kernel's mean would follow every clip's brightness. So while it trains,
the first kernel of every MemBlock sees its input without the mean (`Centred`); its bias makes up for it afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from swiftvr_trt.export.reae import UNSHUFFLE, MemBlock, Reae, TGrow

from . import batch as batched
from .layout import FRAME, KEPT, LARGE_FRAME, PAIR
from .means import input_means

_FRAMES = 4
_SLOTS = (3, 0, 1, 2)
"""Where the encoder keeps the four frames, in order of time."""


@dataclass(frozen=True)
class Bottleneck:
    """v -> matrix @ v + offset for v [4 frames * 6 signals * 4 places]."""

    matrix: Tensor
    offset: Tensor


def bottleneck(reae: Reae) -> Bottleneck:
    """Read off the kernels that `init.py` wrote."""
    down, pick = (reae.encoder[k].get_parameter("weight") for k in (8, 13))
    grow = reae.decoder[13].get_parameter("conv3d.weight")
    signals, kept, pair = _FRAMES * LARGE_FRAME, KEPT, PAIR
    order = [slot * FRAME + j for slot in _SLOTS for j in range(FRAME)]
    collect = down[:signals, order][:, :, 1:, 1:].flatten(1)  # [88, (frame, signal, place)]
    lifted = down[:signals, 24, 1, 1]
    turn, lift = pick[:kept, :signals, 1, 1], pick[:kept, signals, 1, 1]
    rows = [
        (tap, place * pair + frame * FRAME + j)
        for tap in (2, 0)
        for frame in range(2)
        for j in range(FRAME)
        for place in range(4)
    ]
    back = torch.stack([grow[row, :kept, tap, 0, 0] for tap, row in rows])
    one = torch.stack([grow[row, 4 * kept + 4, tap, 0, 0] for tap, row in rows])
    return Bottleneck((back @ turn @ collect).detach(), (back @ (turn @ lifted + lift) + one).detach())


def squeeze(through: Bottleneck, signals: Tensor, batch: int) -> Tensor:
    """Pairs [B * T/2, 12, h, w] as the encoder's first level gives them -> as the decoder's last level gets them."""
    h, w = signals.shape[2:]
    frames = signals.reshape(batch, -1, 6, h, w)
    frames = torch.cat([frames[:, 3:4], frames[:, :-1]], 1)  # where nothing came before, the block keeps what it has
    x = F.pixel_unshuffle(frames.reshape(-1, _FRAMES * 6, h, w), 2)  # [B * T/4, (frame, signal, place), h/2, w/2]
    x = F.conv2d(x, through.matrix[:, :, None, None], through.offset)
    return F.pixel_shuffle(x, 2).reshape(-1, 12, h, w)


def places(pairs: Tensor, width: int) -> Tensor:
    """Pairs [N, 12, h, w] -> what the last level's first block sees [N, width, h, w]: four groups and edges."""
    n, _, h, w = pairs.shape
    groups = F.pixel_unshuffle(pairs, 2).view(n, 12, 4, h // 2, w // 2).transpose(1, 2).flatten(1, 2)
    x = F.interpolate(groups, scale_factor=2, mode="nearest")
    edge = torch.tensor([1.0, 0.0, -1.0, 0.0])
    rows, columns = (edge.repeat(-(-side // 4))[:side] for side in (h, w))
    edges = torch.stack([e for line in (rows[:, None].expand(h, w), columns.expand(h, w)) for e in (line, -line)])
    rest = x.new_zeros(n, width - x.shape[1] - 4, h, w)
    return torch.cat([x, edges.expand(n, -1, -1, -1).to(x), rest], 1)


class Centred:
    """Means of what the first kernels of the outer MemBlocks see; biases are kept as if those were subtracted."""

    def __init__(self, reae: Reae, frames: Tensor) -> None:
        means = input_means(reae, frames)
        self._means = [means[block] for block in _blocks(reae)]

    def shifts(self, reae: Reae) -> list[Tensor]:
        """What the means add before the ReLU, block by block [hidden]."""
        pairs = zip(_blocks(reae), self._means, strict=True)
        return [block.conv[0].weight.sum((2, 3)) @ mean for block, mean in pairs]

    def biases(self, reae: Reae) -> list[Tensor]:
        """The real biases while those that are kept are unfolded."""
        return [block.conv[0].bias - shift for block, shift in zip(_blocks(reae), self.shifts(reae), strict=True)]

    @torch.no_grad()
    def fold(self, reae: Reae, sign: int) -> None:
        """-1: from what is kept while training to real biases. 1: back."""
        for block, shift in zip(_blocks(reae), self.shifts(reae), strict=True):
            block.conv[0].bias.add_(shift, alpha=sign)


def _blocks(reae: Reae) -> list[MemBlock]:
    return [block for block in (*list(reae.encoder)[4:7], *list(reae.decoder)[15:18]) if isinstance(block, MemBlock)]


def restore(reae: Reae, damaged: Tensor, batch: int, centred: Centred, through: Bottleneck) -> Tensor:
    """frames [B * T, 3, H, W] -> frames of the same shape, three frames late, not clamped."""
    with torch.autocast("cpu", enabled=False):
        biases = iter(centred.biases(reae))
    x = F.pixel_unshuffle(damaged, UNSHUFFLE).contiguous(memory_format=torch.channels_last)
    for layer in list(reae.encoder)[:7]:
        x = batched.memory(layer, x, batch, next(biases)) if isinstance(layer, MemBlock) else layer(x)
    with torch.autocast("cpu", enabled=False):
        x = places(squeeze(through, x[:, :12].float(), batch), reae.config.decoder[2])
    x = x.contiguous(memory_format=torch.channels_last)
    for block in _blocks(reae)[3:]:
        x = batched.memory(block, x, batch, next(biases))
    grow, convolution = reae.decoder[19], reae.decoder[20]
    assert isinstance(grow, TGrow)
    x = batched.enlarge(x, grow, convolution.get_parameter("weight"))
    return F.pixel_shuffle(reae.decoder[22](F.relu(x)), UNSHUFFLE)
