"""A start that passes the picture through: copies and gates instead of noise, so that training begins at bicubic.

What is copied. The input is an enlarged picture, so the first convolution finds the small one again: luma and two
colour differences a pixel. Two by two pixels become one place with 4 lumas and 2 colours a frame (video carries colour
at half the size anyhow), twelve signals a pair of frames; four by four become 16 lumas and 6 colours, 88 signals for
four frames, of which the strongest principal components go into the latents.

The lag. The decoder's output runs three frames behind. The encoder hides it: its first block shows the pair before
(two frames), its fourth the fourth frame of the four before, so a latent holds the very frames that the decoder shows.
A channel that is one everywhere says whether there was a frame before; where there was none the present one stays.

Pixels from places. The decoder enlarges by repeating and a 3x3 convolution, which on latents that are the same
everywhere can only draw what is the same everywhere. So the transformer, whose output is a patch of 2x2 latents, adds
a chequered carrier on two channels, and every level makes the parity of rows and columns of it. Each of four groups
of channels is shut but at its own pixel: exact depth-to-space. The last enlargement has no block behind it, only a
ReLU; there the carrier and its differences tell sixteen pixels apart (four places, each with four pixels).

Features are positive (blocks end in a ReLU), so what may be negative is lifted by what was seen, with a margin. The
last convolution is the least-squares answer to "what is the clean picture?" plus three fine details a small pixel,
which the decoder's last blocks can write and which start silent, like every other residual branch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swiftvr_trt.export.dit import Dit, unpatch
from swiftvr_trt.export.reae import UNSHUFFLE, MemBlock, Reae, TGrow

from . import batch as batched

KEPT = 60
"""Components kept of the 88 signals of a place at an eighth of the size."""
_LUMA_LIFT = 0.25
_COLOUR_LIFT = 0.75
_FRAME = 6
"""Signals of a frame at a quarter of the size: 4 lumas, 2 colours."""
_PAIR = 2 * _FRAME
_LARGE_FRAME = 22
"""The same at an eighth: 16 lumas, then of each colour the mean and two slopes."""
_COLOUR_WEIGHT = 4.3
"""A colour signal at an eighth counts for 16 small pixels, and 1.17 times as much in red, green and blue as luma."""
_ROOM = 3.0
"""Added inside a delaying branch so that its ReLU cuts nothing."""
_STRONGEST = 0.5
"""Deviation of the strongest component among the features at a sixteenth."""
_LATENT = 0.07
"""The same in the latents, where tanh bends what is large."""
_CARRIER = 0.5
_DEVIATION = 0.5
_SHUT = 2.0
"""What a closed gate takes away; more than any signal there."""
_DETAIL = 0.5
_AXES = (0, 1)
_SLOPES = torch.tensor([[0.25] * 4, [0.25, -0.25, 0.25, -0.25], [0.25, 0.25, -0.25, -0.25]])
"""[3, 4]: mean and slopes of four neighbours (row by row)."""


def initialise(reae: Reae, dit: Dit, damaged: Tensor, clean: Tensor, clips: int) -> None:
    """Frames [clips * T, 3, H, W] in [0, 1] to measure on. Random numbers come from torch's global state."""
    with torch.no_grad():
        for layer in (*reae.encoder, *reae.decoder):
            _draw(layer)
        _draw_dit(dit)
        encoder, decoder = list(reae.encoder), list(reae.decoder)
        small = F.avg_pool2d(clean, 2)
        enlarged = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        _copy_signals(encoder, _small_picture_kernel(small, enlarged))
        _begin_learning(encoder[:12], F.pixel_unshuffle(damaged, UNSHUFFLE), clips)
        basis, mean, lift = _components(encoder, damaged, enlarged, clips)
        _latents(encoder[17], decoder[1], lift)
        _places(decoder, basis, mean, lift)
        _pixels(decoder[19], decoder[20])
        x = batched.encode(reae, damaged, clips)
        x = x - unpatch(dit.proj_out.bias.expand(len(x), x.shape[2] * x.shape[3] // 4, -1), x, dit.config.patch)
        _answer(decoder, x, clean, clips)


def frozen(reae: Reae) -> dict[nn.Parameter, Tensor]:
    """What training leaves as it is: 0 for entries that copy, delay or gate, 1 for those that learn.

    Kernels that pass the picture on are right from the start and delicate; a learner has enough room beside them, in
    the residual branches and in channels left over.
    """
    encoder, decoder = list(reae.encoder), list(reae.decoder)
    components, carriers = 4 * KEPT, len(_AXES)
    groups = 4 * _PAIR
    place, pair = components + 2 * carriers + 1, groups + 2 * carriers + 1
    kept: dict[nn.Parameter, Tensor] = {}
    for layer, rows in (
        (encoder[0], 4),
        (encoder[2], 7),
        (encoder[3], _PAIR + 1),
        (encoder[7], 2 * _PAIR + 1),
        (encoder[8], 4 * _LARGE_FRAME + 1),
        (encoder[12], None),
        (encoder[13], components + 1),
        (encoder[17], components),
        (decoder[1], components),
        (decoder[7], None),
        (decoder[8], place),
        (decoder[13], groups + carriers + 1),
        (decoder[14], None),
        (decoder[19], _FRAME + carriers + 1 + _DETAILS),
        (decoder[20], 16 * 4 + 3),
    ):
        for parameter in layer.parameters():
            kept[parameter] = torch.ones_like(parameter)
            kept[parameter][:rows] = 0
    for layer in (encoder[17], decoder[1]):
        for parameter in layer.parameters():
            kept[parameter][-carriers:] = 0
    for blocks, hidden, silent in (
        (encoder[4:7], {0: _PAIR + 1}, slice(_PAIR, _PAIR + 1)),
        (encoder[9:12], {0: _LARGE_FRAME + 1}, slice(4 * _LARGE_FRAME, 4 * _LARGE_FRAME + 1)),
        (encoder[14:17], {}, slice(components, components + 1)),
        (decoder[3:6], {0: 3 * carriers}, slice(-carriers, None)),
        (decoder[9:12], {1: 4}, slice(components, place)),
        (decoder[15:18], {1: 4}, slice(groups, pair)),
    ):
        for number, block in enumerate(blocks):
            used = hidden.get(number, 0)
            for place_of, layer in enumerate((block.conv[0], block.conv[2], block.conv[4])):
                for parameter in layer.parameters():
                    kept[parameter] = torch.ones_like(parameter)
                    kept[parameter][silent if place_of == 2 else slice(used)] = 0
            kept[block.conv[4].weight][:, :used] = 0
    return kept


def _copy_signals(layers: list[nn.Module], kernel: Tensor) -> None:
    """Everything up to an eighth of the size: 88 signals of four frames, then a one."""
    first, pool, half = layers[0], layers[2], layers[3]
    first.weight.mul_(0.3)
    first.weight[:3], first.weight[3] = kernel, 0
    first.bias[:4] = torch.tensor([_LUMA_LIFT, _COLOUR_LIFT, _COLOUR_LIFT, 1.0])
    _stack(pool.conv.weight, 3, one=3)
    half.weight[: _PAIR + 1] = 0
    for frame in range(2):
        for p in range(4):
            half.weight[frame * _FRAME + p, 3 * frame, 1 + p // 2, 1 + p % 2] = 1
            for colour in range(2):
                half.weight[frame * _FRAME + 4 + colour, 3 * frame + 1 + colour, 1 + p // 2, 1 + p % 2] = 0.25
    half.weight[_PAIR, 6, 1, 1] = 1
    _delay(layers[4], list(range(_PAIR)), one=_PAIR)
    pool, eighth, ones = layers[7], layers[8], 2 * _PAIR
    _stack(pool.conv.weight, _PAIR, one=_PAIR)
    eighth.weight[: 4 * _LARGE_FRAME + 1] = 0
    for frame in range(4):
        of, to = frame * _FRAME, frame * _LARGE_FRAME
        for p in range(4):
            for q in range(4):
                eighth.weight[to + 4 * p + q, of + q, 1 + p // 2, 1 + p % 2] = 1
            for colour in range(2):
                for s in range(3):
                    eighth.weight[to + 16 + 3 * colour + s, of + 4 + colour, 1 + p // 2, 1 + p % 2] = _SLOPES[s, p]
        for s in (17, 18, 20, 21):
            eighth.weight[to + s, ones, 1, 1] = _COLOUR_LIFT
    eighth.weight[4 * _LARGE_FRAME, ones, 1, 1] = 1
    _delay(layers[9], list(range(3 * _LARGE_FRAME, 4 * _LARGE_FRAME)), one=4 * _LARGE_FRAME)
    nn.init.dirac_(layers[12].conv.weight)


def _stack(weight: Tensor, signals: int, one: int) -> None:
    """Pooling two frames: the signals of either, then the one (its channel is `one`)."""
    n = weight.shape[0]
    weight[: 2 * signals + 1] = 0
    for frame in range(2):
        for k in range(signals):
            weight[frame * signals + k, frame * n + k] = 1
    weight[2 * signals, one] = 1


def _delay(block: MemBlock, channels: list[int], one: int) -> None:
    """Show `channels` as they were a frame before, x + (past - x), or as they are if there was no frame before."""
    first, second, last = block.conv[0], block.conv[2], block.conv[4]
    witness, n = len(channels), block.channels
    for h in range(witness + 1):
        first.weight[h] = 0
        second.weight[h] = 0
        second.weight[h, h, 1, 1] = 1
    first.weight[witness, n + one, 1, 1] = 1
    for h, channel in enumerate(channels):
        first.weight[h, channel, 1, 1] = -1
        first.weight[h, n + channel, 1, 1] = 1
        first.weight[h, n + one, 1, 1] = _ROOM
        last.weight[channel] = 0
        last.weight[channel, h, 1, 1] = 1
        last.weight[channel, witness, 1, 1] = -_ROOM


def _begin_learning(layers: list[nn.Module], x: Tensor, clips: int) -> Tensor:
    """Give free hidden channels something to listen to; returns what comes out behind the layers."""
    for layer in layers:
        if isinstance(layer, MemBlock):
            _listen(layer, x, clips)
            x = batched.memory(layer, x, clips)
        else:
            x = layer(x)
    return x


def _listen(block: MemBlock, x: Tensor, clips: int) -> None:
    """Free hidden channels: random patterns of patches without their mean, each about half open."""
    used = int((block.conv[4].weight.abs().amax((0, 2, 3)) > 0).sum())  # the others are still silent
    y = torch.cat([x, _past(x, clips)], 1)
    for layer in (block.conv[0], block.conv[2]):
        free = layer.weight[used:]
        nn.init.orthogonal_(free.flatten(1))
        found = F.conv2d(y, free, padding=1)
        free.mul_((_DEVIATION / found.std((0, 2, 3)))[:, None, None, None])
        layer.weight[used:] = free
        layer.bias[used:] = -F.conv2d(y, free, padding=1).mean((0, 2, 3))
        y = F.relu(layer(y))


def _past(x: Tensor, clips: int) -> Tensor:
    return F.pad(x.view(clips, -1, *x.shape[1:])[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0)).flatten(0, 1)


def _components(
    layers: list[nn.Module], damaged: Tensor, enlarged: Tensor, clips: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Fill the stride-2 kernel to a sixteenth: of each of four neighbours the components in which clean pictures vary.

    Returns the basis [88, KEPT] (signals - mean = basis @ components), the mean [88] and the components' lifts [KEPT].
    """
    signals = 4 * _LARGE_FRAME
    x, y = (_features(layers[:13], frames, clips)[:, :signals] for frames in (damaged, enlarged))
    mean = x.mean((0, 2, 3))
    weight = torch.tensor(([1.0] * 16 + [_COLOUR_WEIGHT] * 6) * 4)
    spreads = [torch.cov(_rows(clip).T) for clip in (y * weight[:, None, None]).chunk(clips)]
    spread = sum(c / c.diagonal().sum().sqrt() for c in spreads) / clips  # calm and wild clips count alike
    assert isinstance(spread, Tensor)
    vectors = torch.linalg.eigh(spread.double())[1].flip(1).float()[:, :KEPT]
    deviation = ((_rows(x) - mean) * weight @ vectors).std(0)
    gain = _STRONGEST / (deviation[0] * deviation).sqrt()  # half-way to equally strong ones
    turn = vectors.T * gain[:, None] * weight
    found = (_rows(x) - mean) @ turn.T
    lift = 1.3 * (-found).amax(0) + 0.05
    kernel = layers[13].weight
    kernel[: 4 * KEPT + 1] = 0
    for p in range(4):
        to = slice(p * KEPT, (p + 1) * KEPT)
        kernel[to, :signals, 1 + p // 2, 1 + p % 2] = turn
        kernel[to, signals, 1 + p // 2, 1 + p % 2] = lift - turn @ mean
    kernel[4 * KEPT, signals, 1, 1] = 1
    return vectors / gain / weight[:, None], mean, lift


def _features(layers: list[nn.Module], frames: Tensor, clips: int) -> Tensor:
    """What the encoder's layers make of frames."""
    x = F.pixel_unshuffle(frames, UNSHUFFLE)
    for layer in layers:
        x = batched.memory(layer, x, clips) if isinstance(layer, MemBlock) else layer(x)
    return x


def _latents(last: nn.Conv2d, first: nn.Conv2d, lift: Tensor) -> None:
    """The encoder's last convolution and the decoder's first: components without and again with their lifts."""
    n = 4 * KEPT
    small = _LATENT / _STRONGEST
    last.weight.mul_(0.02)
    last.weight[:n] = 0
    last.weight[-len(_AXES) :] = 0
    first.weight.mul_(0.3)
    first.weight[:n] = 0
    for k in range(n):
        last.weight[k, k, 1, 1] = small
        first.weight[k, k, 1, 1] = 1 / small
    last.bias[:n] = -small * lift.repeat(4)
    first.bias[:n] = lift.repeat(4)
    for axis in _AXES:  # carriers of 1 and 0
        k = axis - len(_AXES)
        first.weight[k] = 0
        first.weight[k, k, 1, 1] = 0.5 / (3 * torch.tanh(torch.tensor(_CARRIER / 3)))
        first.bias[k] = 0.5


def _sharpen(block: MemBlock) -> None:
    """Round the carriers x to 0 and 1, whatever the transformer wrote: x + clamp(4 x - 1.5, 0, 1) - x."""
    first, second, last = (block.conv[k] for k in (0, 2, 4))
    for axis in _AXES:
        h, k = 3 * axis, block.channels + axis - len(_AXES)
        first.weight[h : h + 3] = 0
        first.weight[h : h + 3, k, 1, 1] = torch.tensor([4.0, 4.0, 1.0])
        first.bias[h : h + 2] = torch.tensor([-1.5, -2.5])
        second.weight[h : h + 3] = 0
        second.weight[h, h : h + 2, 1, 1] = torch.tensor([1.0, -1.0])
        second.weight[h + 2, h + 2, 1, 1] = 1
        last.weight[k, h, 1, 1], last.weight[k, h + 2, 1, 1] = 1, -1


def _places(layers: list[nn.Module], basis: Tensor, mean: Tensor, lift: Tensor) -> None:
    """From a sixteenth of the size to a quarter: components, then the signals of pairs, at their places."""
    n, width = 4 * KEPT, layers[8].weight.shape[0]
    _sharpen(layers[3])
    nn.init.dirac_(layers[7].proj.weight)
    carriers = layers[1].weight.shape[0] - len(_AXES)
    one = _enlarge(layers[8], layers[9:11], KEPT, [carriers, carriers + 1], enough=2.2 * lift.repeat(4) + 1)
    assert one < width
    grow = layers[13].conv3d.weight
    grow.mul_(0.3)
    grow[: 4 * _PAIR + 3] = 0
    constant = mean - basis @ lift
    for pair, tap in enumerate((2, 0)):
        for p in range(4):
            for j in range(_PAIR):
                kernel, offset = _signal(basis, constant, 2 * pair + j // _FRAME, p, j % _FRAME)
                row = p * _PAIR + j
                grow[row, :n, tap, 0, 0] = kernel.repeat(4)
                grow[row, one, tap, 0, 0] = offset
        for axis in _AXES:
            grow[4 * _PAIR + axis, n + 2 * axis : n + 2 * axis + 2, tap, 0, 0] = 1
        grow[4 * _PAIR + 2, one, tap, 0, 0] = 1
    grow[: 4 * _PAIR + 3, :, 1] = 0
    one = _enlarge(layers[14], layers[15:17], _PAIR, [4 * _PAIR, 4 * _PAIR + 1], torch.full((4 * _PAIR,), _SHUT))
    details = slice(one + 1, one + 1 + 2 * _DETAILS)
    layers[14].weight[one + 1 :] = 0
    layers[15].conv[4].bias[details] = _DETAIL


def _signal(basis: Tensor, constant: Tensor, shown: int, p: int, j: int) -> tuple[Tensor, Tensor]:
    """How the components give signal j (4 lumas, 2 colours) of neighbour p in the frame shown as number 0 to 3."""
    at = (3, 0, 1, 2)[shown] * _LARGE_FRAME  # the delayed frame took the place of the last and is the earliest
    if j < 4:
        return basis[at + 4 * p + j], constant[at + 4 * p + j]
    first = at + 16 + 3 * (j - 4)
    signs = 4 * _SLOPES[:, p]
    lifted = torch.tensor([0.0, _COLOUR_LIFT, _COLOUR_LIFT])
    return signs @ basis[first : first + 3], signs @ (constant[first : first + 3] - lifted)


def _enlarge(layer: nn.Conv2d, blocks: list[nn.Module], count: int, carriers: list[int], enough: Tensor) -> int:
    """An enlarging convolution and two MemBlocks that put four groups of `count` channels at four pixels.

    Behind the groups come rising and falling edges of both carriers (the first block's ReLU makes parity of them; at
    its first row and column a carrier is 1, as if the picture went on), then a channel of ones. Returns its number.
    """
    n = 4 * count
    one = n + 2 * len(_AXES)
    layer.weight.mul_(0.3)
    layer.weight[: one + 1] = 0
    for k in range(n):
        layer.weight[k, k, 1, 1] = 1
    for axis, carrier in zip(_AXES, carriers, strict=True):
        before = (0, 1) if axis == 0 else (1, 0)
        for sign, row in ((1, n + 2 * axis), (-1, n + 2 * axis + 1)):
            layer.weight[row, carrier, 1, 1] = sign
            layer.weight[row, carrier, before[0], before[1]] = -sign
    blocks[0].conv[4].bias[one] = 1
    first, second, last = (blocks[1].conv[k] for k in (0, 2, 4))
    for p in range(4):  # hidden channel p counts the parities that are not group p's
        first.weight[p] = 0
        for axis, odd in zip(_AXES, (p // 2, p % 2), strict=True):
            at = n + 2 * axis
            first.weight[p, at : at + 2, 1, 1] = 1 if odd else -1
            first.bias[p] += 0 if odd else 1
        second.weight[p] = 0
        second.weight[p, p, 1, 1] = 1
        last.weight[p * count : (p + 1) * count, p, 1, 1] = -enough[p * count : (p + 1) * count]
    return one


_DETAILS = 12
"""Details of a frame at a quarter of the size: three at each of four small pixels."""


def _pixels(grow: TGrow, layer: nn.Conv2d) -> None:
    """The last enlargement: channels of a frame, then sixteen gates for lumas and details."""
    groups = 4 * _PAIR
    one = groups + 2 * len(_AXES)
    weight = grow.conv3d.weight
    weight.mul_(0.3)
    rows = _FRAME + len(_AXES) + 1 + _DETAILS
    weight[:rows] = 0
    weight[rows:, :, 1] = 0
    for frame, tap in enumerate((2, 0)):
        for j in range(_FRAME):
            weight[j, frame * _FRAME + j : groups : _PAIR, tap, 0, 0] = 1
        for axis in _AXES:
            weight[_FRAME + axis, groups + 2 * axis : groups + 2 * axis + 2, tap, 0, 0] = 1
        weight[_FRAME + 2, one, tap, 0, 0] = 1
        for d in range(_DETAILS):
            weight[_FRAME + 3 + d, one + 1 + frame * _DETAILS + d, tap, 0, 0] = 1
    layer.weight.mul_(0.2)
    layer.weight[: 16 * 4 + 3] = 0
    row = 0
    for places in range(4):
        for q in range(4):
            for value in (q, *(_FRAME + 3 + 3 * q + d for d in range(3))):
                layer.weight[row, value, 1, 1] = 1
                for axis, odd, right in zip(_AXES, (places // 2, places % 2), (q // 2, q % 2), strict=True):
                    _gate(layer.weight[row], _FRAME + axis, _FRAME + 2, axis, odd, right)
                row += 1
    smooth = torch.outer(*[torch.tensor([0.25, 0.5, 0.25])] * 2)
    for colour in range(2):  # repeated, then smoothed: linear interpolation; beyond the border there is grey
        layer.weight[row + colour, 4 + colour] = smooth
        layer.weight[row + colour, _FRAME + 2] = -_COLOUR_LIFT * smooth
        layer.weight[row + colour, _FRAME + 2, 1, 1] += _COLOUR_LIFT
    layer.weight[row + 2, _FRAME + 2, 1, 1] = 1


def _gate(kernel: Tensor, carrier: int, one: int, axis: int, odd: int, right: int) -> None:
    """Add 0 at the one pixel of four in a row that is meant, and -_SHUT or less at the others; kernel [in, 3, 3].

    The carrier a is 1, 1, 0, 0 along the row (even place, odd place) and its edge d is 1, 0, -1, 0.
    """
    a, d, top = {(0, 0): (0, 1, 1), (0, 1): (2, -1, 2), (1, 0): (0, -1, 1), (1, 1): (-2, 1, 0)}[odd, right]
    before = (0, 1) if axis == 0 else (1, 0)
    kernel[carrier, 1, 1] += _SHUT * (a + d)
    kernel[carrier, before[0], before[1]] -= _SHUT * d
    kernel[one, 1, 1] -= _SHUT * top


def _answer(layers: list[nn.Module], latents: Tensor, clean: Tensor, clips: int) -> None:
    """The last convolution, from what the layers before it show of damaged clips; details start at zero."""
    x = _until_last(layers, latents, clips)
    wanted = F.pixel_unshuffle(clean, UNSHUFFLE).view(clips, -1, 12, *x.shape[2:])[:, :-3]
    x = x.view(clips, -1, *x.shape[1:])[:, 3:]
    pick = torch.randperm(clips * x.shape[1])[:160]
    x, wanted = x.flatten(0, 1)[pick], wanted.flatten(0, 1)[pick].flatten(2).transpose(1, 2)
    plain = torch.cat([x[:, 0:64:4].sum(1, keepdim=True), x[:, 64:67]], 1)
    patches = F.unfold(plain, 3, padding=1).transpose(1, 2)
    error = patches.new_zeros(len(pick))
    for _ in range(2):  # easy and hard frames shall gain alike, but for what is better than 30 dB anyhow
        weight = (error + 1e-3).rsqrt()[:, None, None]
        kernel = _least_squares((weight * patches).flatten(0, 1), (weight * wanted).flatten(0, 1), 1e-4)
        error = (patches @ kernel - wanted).square().mean((1, 2))
    kernel = kernel.T.reshape(12, 4, 3, 3)
    last = layers[22]
    last.weight.mul_(0.02)
    last.weight[:, :67] = 0
    last.weight[:, 0:64:4] = kernel[:, :1]
    last.weight[:, 64:67] = kernel[:, 1:]
    for colour in range(3):
        for pixel in range(4):
            down, right = 1 - 2 * (pixel // 2), 1 - 2 * (pixel % 2)
            for d, sign in enumerate((right, down, right * down)):
                last.weight[4 * colour + pixel, 1 + d : 64 : 4, 1, 1] = sign
                last.weight[4 * colour + pixel, 66, 1, 1] -= sign * _DETAIL


def _until_last(layers: list[nn.Module], latents: Tensor, clips: int) -> Tensor:
    """The decoder without its last convolution; the last level's free channels get something to listen to."""
    x, rest = latents, list(layers[:22])
    while rest:
        layer = rest.pop(0)
        if isinstance(layer, MemBlock):
            if len(rest) < 8:
                _listen(layer, x, clips)
            x = batched.memory(layer, x, clips)
        elif isinstance(layer, nn.Upsample):
            grow, convolution = rest.pop(0), rest.pop(0)
            x = batched.enlarge(x, grow, convolution.weight)
        else:
            x = layer(x)
    return x


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _small_picture_kernel(small: Tensor, enlarged: Tensor) -> Tensor:
    """[3, 12, 3, 3]: luma and two colour differences of the picture that was enlarged twofold bilinearly.

    Fitted with the frames' borders among the rest, outside of which there are zeros: an exact inverse leans on its
    neighbours and draws a dark line there.
    """
    pick = torch.arange(0, len(small), 8)
    mix = torch.tensor([[0.299, 0.587, 0.114], [-0.25, -0.25, 0.5], [0.5, -0.4, -0.1]])
    wanted = _rows(torch.einsum("kc,nchw->nkhw", mix, small[pick]))
    rows = F.unfold(F.pixel_unshuffle(enlarged[pick], UNSHUFFLE), 3, padding=1).transpose(1, 2).flatten(0, 1)
    return _least_squares(rows, wanted, 1e-3).T.reshape(3, 12, 3, 3)


def _least_squares(rows: Tensor, wanted: Tensor, doubt: float) -> Tensor:
    """[n, a], [n, b] -> [a, b], as if the rows were noisy by `doubt` of their variance."""
    spread = doubt * len(rows) * rows.var(0).mean()
    gram = (rows.T @ rows).double() + spread.double() * torch.eye(rows.shape[1], dtype=torch.float64)
    return torch.linalg.solve(gram, (rows.T @ wanted).double()).float()


def _draw(layer: nn.Module) -> None:
    for name, parameter in layer.named_parameters():
        if name.endswith("bias") or name.startswith("conv.4"):
            nn.init.zeros_(parameter)
        else:
            flat = torch.empty(parameter.shape[0], parameter[0].numel())
            nn.init.orthogonal_(flat, 2**0.5 if isinstance(layer, MemBlock) else 1.0)
            parameter.copy_(flat.view_as(parameter))


def _draw_dit(dit: Dit) -> None:
    for name, parameter in dit.named_parameters():
        if name.endswith("scale_shift_table"):
            parameter.normal_(0, 0.02)
            if parameter.shape[1] == 6:
                parameter[:, (2, 5)] += 0.5
        elif "norm" in name:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            nn.init.normal_(parameter.view(parameter.shape[0], -1), 0, parameter[0].numel() ** -0.5)
    dit.proj_out.weight.zero_()
    carrier = dit.proj_out.bias.view(2, 2, -1)[:, :, -len(_AXES) :]
    for axis in _AXES:
        carrier.select(axis, 0)[:, axis] = -_CARRIER
        carrier.select(axis, 1)[:, axis] = _CARRIER
    dit.condition_embedder.time_proj.weight.mul_(0.1)
