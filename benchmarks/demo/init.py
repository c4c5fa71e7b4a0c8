"""Initial weights that pass the picture through: copies and gates instead of noise, so training starts at bicubic.

Signals. The input is an enlarged picture, so the first convolution recovers the small one: luma and two colour
differences per pixel. 2x2 pixels become one place with 4 lumas and 2 colours per frame (video has colour at half the
size anyway), twelve signals per pair of frames. 4x4 pixels become 16 lumas and 6 colours, 88 signals for four frames,
and the main components of these go into the latents.

The lag. The decoder's output runs three frames behind. The encoder compensates: its first block delays by a pair (two
frames), its fourth block delays the fourth frame of each four, so a latent holds the frames that the decoder shows. A
constant channel says whether there was a frame before; if not, the present frame stays.

Pixels from places. The decoder enlarges by repeating pixels and a 3x3 convolution, which turns uniform latents into
uniform pictures only. So the transformer, whose output is a patch of 2x2 latents, adds a chequered carrier on two
channels, and each level derives the parity of rows and columns from it. Four groups of channels are each open at their
own pixel only: exact depth-to-space. After the last enlargement there is only a ReLU; there the carrier and its
differences separate sixteen pixels (four places, each with four pixels of the small picture).

Features are positive (blocks end in a ReLU), so signals that may be negative get an offset, a *lift*, from the observed
range plus a margin. The restoring weights come from `denoiser.py`; all other residual branches add zero. The last
convolution interpolates.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swiftvr_trt.export.network.dit import Dit
from swiftvr_trt.export.network.reae import UNSHUFFLE, MemBlock, Reae

from . import batch as batched
from .denoiser import Denoiser, signals
from .layout import (
    AXES,
    BICUBIC,
    BORDER,
    COLOUR_LIFT,
    FRAME,
    KEPT,
    LARGE_FRAME,
    LUMA_LIFT,
    OVERSHOOT,
    PAIR,
    PIXELS,
    SHARPEN,
    SHOWN,
    SIDES,
    SLOPES,
    STRONGEST,
    as_stored,
    bias_of,
    convolutions,
    kernel_of,
    least_squares,
    rows_of,
)
from .start_encoder import components, copy_signals

_LATENT = 1 / 16
"""Scale of the strongest component in the latents, small because tanh bends large values. A power of two is exact."""
_CARRIER = 0.5
_SHUT = 3.0
"""What a closed gate subtracts: more than any signal there."""


def initialise(reae: Reae, dit: Dit, restores: Denoiser, damaged: Tensor, clean: Tensor, clips: int) -> None:
    """Set all weights, with the trained denoiser `restores` in the encoder.

    damaged, clean: frames [clips * T, 3, H, W] in [0, 1] to measure on. Random numbers come from torch's global state.
    """
    with torch.no_grad():
        for layer in (*reae.encoder, *reae.decoder):
            _draw(layer)
        _draw_dit(dit)
        encoder, decoder = list(reae.encoder), list(reae.decoder)
        small = F.avg_pool2d(clean, 2)
        enlarged = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        copy_signals(encoder)
        restores.install(reae)
        basis, mean, lift = components(encoder, damaged, enlarged, clips)
        _latents(encoder[17], decoder[1], lift)
        _watch(dit.patch_embedding, batched.encode(reae, damaged, clips))
        _places(decoder, basis, mean, lift)
        _pixels(decoder[19], decoder[20])
        _interpolate(decoder[22], small[::4])


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
    carrier = dit.proj_out.bias.view(2, 2, -1)[:, :, -len(AXES) :]
    for axis in AXES:
        carrier.select(axis, 0)[:, axis] = -_CARRIER
        carrier.select(axis, 1)[:, axis] = _CARRIER
    dit.condition_embedder.time_proj.weight.mul_(0.1)


def _watch(embedding: nn.Conv3d, latents: Tensor) -> None:
    """Set the patch embedding: tokens are the main principal components of patches, equally strong, plus constants.

    The constants keep the norm that follows nearly linear in what varies.
    """
    rows = F.unfold(latents, embedding.stride[1:], stride=embedding.stride[1:]).transpose(1, 2).flatten(0, 1)
    variance, vectors = torch.linalg.eigh(torch.cov(rows.T).double())
    variance, vectors = variance[-embedding.out_channels :], vectors[:, -embedding.out_channels :]
    seen = (vectors * (variance + 1e-4 * variance[-1]).rsqrt()).T.float()
    kernel_of(embedding).copy_(seen.view_as(kernel_of(embedding)))
    nn.init.normal_(bias_of(embedding))
    bias_of(embedding).sub_(seen @ rows.mean(0))


def _latents(last: nn.Module, first: nn.Module, lift: Tensor) -> None:
    """Set the encoder's last convolution, which removes the lifts, and the decoder's first, which adds them again."""
    n = 4 * KEPT
    small = _LATENT / STRONGEST
    kernel_of(last).mul_(0.02)
    kernel_of(last)[:n] = 0
    kernel_of(last)[-len(AXES) :] = 0
    kernel_of(first).mul_(0.3)
    kernel_of(first)[:n] = 0
    for k in range(n):
        kernel_of(last)[k, k, 1, 1] = small
        kernel_of(first)[k, k, 1, 1] = 1 / small
    bias_of(last)[:n] = -small * as_stored(lift.repeat(4))
    bias_of(first)[:n] = as_stored(lift.repeat(4))
    for axis in AXES:  # carriers of 1 and 0
        k = axis - len(AXES)
        kernel_of(first)[k] = 0
        kernel_of(first)[k, k, 1, 1] = 0.5 / (3 * torch.tanh(torch.tensor(_CARRIER / 3)))
        bias_of(first)[k] = 0.5


def _sharpen(block: nn.Module) -> None:
    """Round the carriers x to 0 and 1 whatever the transformer adds: x + clamp(4 x - 1.5, 0, 1) - x."""
    first, second, last = convolutions(block)
    for axis in AXES:
        h, k = 3 * axis, len(kernel_of(last)) + axis - len(AXES)
        kernel_of(first)[h : h + 3] = 0
        kernel_of(first)[h : h + 3, k, 1, 1] = torch.tensor([4.0, 4.0, 1.0])
        bias_of(first)[h : h + 2] = torch.tensor([-1.5, -2.5])
        kernel_of(second)[h : h + 3] = 0
        kernel_of(second)[h, h : h + 2, 1, 1] = torch.tensor([1.0, -1.0])
        kernel_of(second)[h + 2, h + 2, 1, 1] = 1
        kernel_of(last)[k, h, 1, 1], kernel_of(last)[k, h + 2, 1, 1] = 1, -1


def _places(layers: list[nn.Module], basis: Tensor, mean: Tensor, lift: Tensor) -> None:
    """Set the decoder from a sixteenth of the size to a quarter: components, then signals of pairs, at their places."""
    n, width = 4 * KEPT, len(kernel_of(layers[8]))
    _sharpen(layers[3])
    nn.init.dirac_(layers[7].get_parameter("proj.weight"))
    carriers = len(kernel_of(layers[1])) - len(AXES)
    one = _enlarge(layers[8], layers[9:11], KEPT, [carriers, carriers + 1], enough=2.2 * lift.repeat(4) + 1)
    assert one < width
    grow = layers[13].get_parameter("conv3d.weight")
    grow.mul_(0.3)
    grow[: 4 * PAIR + 3] = 0
    for pair, tap in enumerate((2, 0)):
        for p in range(4):
            for j in range(PAIR):
                kernel, offset = _signal(basis, mean, lift, 2 * pair + j // FRAME, p, j % FRAME)
                row = p * PAIR + j
                grow[row, :n, tap, 0, 0] = kernel.repeat(4)
                grow[row, one, tap, 0, 0] = as_stored(offset)
                grow[row, one + 1, tap, 0, 0] = offset - as_stored(offset)
        for axis in AXES:
            grow[4 * PAIR + axis, n + 2 * axis : n + 2 * axis + 2, tap, 0, 0] = 1
        grow[4 * PAIR + 2, one, tap, 0, 0] = 1
    grow[: 4 * PAIR + 3, :, 1] = 0
    one = _enlarge(layers[14], layers[15:17], PAIR, [4 * PAIR, 4 * PAIR + 1], torch.full((4 * PAIR,), _SHUT))
    kernel_of(layers[14])[one + 1 :] = 0


def _signal(basis: Tensor, mean: Tensor, lift: Tensor, shown: int, p: int, j: int) -> tuple[Tensor, Tensor]:
    """Rounded weights and the offset that make a signal from the lifted components.

    shown: the frame, 0 to 3 in output order. p: the neighbour. j: the signal, of 4 lumas and 2 colours.
    """
    at = (3, 0, 1, 2)[shown] * LARGE_FRAME  # the delayed frame took the place of the last and is the earliest
    if j < 4:
        weights, middle = basis[at + 4 * p + j], mean[at + 4 * p + j]
    else:
        first = at + 16 + 3 * (j - 4)
        signs = 4 * SLOPES[:, p]
        lifted = torch.tensor([0.0, COLOUR_LIFT, COLOUR_LIFT])
        weights, middle = signs @ basis[first : first + 3], signs @ (mean[first : first + 3] - lifted)
    weights = as_stored(weights)
    return weights, middle - weights @ lift


def _enlarge(layer: nn.Module, blocks: list[nn.Module], count: int, carriers: list[int], enough: Tensor) -> int:
    """Set an enlarging convolution and two MemBlocks that put four groups of `count` channels at four pixels.

    After the groups come rising and falling edges of both carriers, which the first block's ReLU turns into parity (at
    the first row and column a carrier is 1, as if the picture went on), then two constant ones. Returns the first of
    these. enough: what a closed gate subtracts from each channel.
    """
    n = 4 * count
    one = n + 2 * len(AXES)
    kernel_of(layer).mul_(0.3)
    kernel_of(layer)[: one + 2] = 0
    for k in range(n):
        kernel_of(layer)[k, k, 1, 1] = 1
    for axis, carrier in zip(AXES, carriers, strict=True):
        before = (0, 1) if axis == 0 else (1, 0)
        for sign, row in ((1, n + 2 * axis), (-1, n + 2 * axis + 1)):
            kernel_of(layer)[row, carrier, 1, 1] = sign
            kernel_of(layer)[row, carrier, before[0], before[1]] = -sign
    bias_of(convolutions(blocks[0])[2])[one : one + 2] = 1
    first, second, last = convolutions(blocks[1])
    for p in range(4):  # hidden channel p counts the parities that differ from group p's
        kernel_of(first)[p] = 0
        for axis, odd in zip(AXES, (p // 2, p % 2), strict=True):
            at = n + 2 * axis
            kernel_of(first)[p, at : at + 2, 1, 1] = 1 if odd else -1
            bias_of(first)[p] += 0 if odd else 1
        kernel_of(second)[p] = 0
        kernel_of(second)[p, p, 1, 1] = 1
        kernel_of(last)[p * count : (p + 1) * count, p, 1, 1] = -enough[p * count : (p + 1) * count]
    return one


def _pixels(grow: nn.Module, layer: nn.Module) -> None:
    """Set the last enlargement: channels of a frame, then sixteen gates for lumas."""
    groups = 4 * PAIR
    one = groups + 2 * len(AXES)
    weight = grow.get_parameter("conv3d.weight")
    weight.mul_(0.3)
    rows = FRAME + len(AXES) + 1
    weight[:rows] = 0
    weight[rows:, :, 1] = 0
    for frame, tap in enumerate((2, 0)):
        for j in range(FRAME):
            weight[j, frame * FRAME + j : groups : PAIR, tap, 0, 0] = 1
        for axis in AXES:
            weight[FRAME + axis, groups + 2 * axis : groups + 2 * axis + 2, tap, 0, 0] = 1
        weight[FRAME + 2, one, tap, 0, 0] = 1
    kernel_of(layer).mul_(0.2)
    kernel_of(layer)[:SHOWN] = 0
    row = 0
    for places in range(4):
        for q in range(4):
            kernel_of(layer)[row, :4] = _luma_taps(q, (0, 1))
            kernel_of(layer)[row, FRAME + 2, 1, 1] = OVERSHOOT
            for axis, odd, right in zip(AXES, (places // 2, places % 2), (q // 2, q % 2), strict=True):
                _gate(kernel_of(layer)[row], FRAME + axis, FRAME + 2, axis, odd, right)
            row += 1
    smooth = _smooth()
    for colour in range(2):  # repeating and smoothing is linear interpolation; beyond the border there is grey
        kernel_of(layer)[row + colour, 4 + colour] = smooth
        kernel_of(layer)[row + colour, FRAME + 2] = -COLOUR_LIFT * smooth
        kernel_of(layer)[row + colour, FRAME + 2, 1, 1] += COLOUR_LIFT
    kernel_of(layer)[row + 2, FRAME + 2, 1, 1] = 1
    for side in range(len(SIDES)):
        _border(kernel_of(layer), side)


def _luma_taps(q: int, axes: tuple[int, ...]) -> Tensor:
    """[4, 3, 3]: makes small pixel q of four, sharpened along `axes`, from the lumas of places repeated 2x2."""
    taps = torch.zeros(4, 3, 3)
    rows, columns = (SHARPEN if axis in axes else (0.0, 1.0, 0.0) for axis in (0, 1))
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            taps[2 * ((q // 2 + i - 1) % 2) + (q % 2 + j - 1) % 2, i, j] += y * x
    return taps


def _border(weight: Tensor, side: int) -> None:
    """Set the channels that a missing neighbour opens: lumas (sharpened along the border only), colours and a one.

    weight: [out, in, 3, 3].
    """
    axis, far = SIDES[side]
    shut = (1, 2 * far) if axis else (2 * far, 1)
    ends = [p for p in range(4) if (p % 2 if axis else p // 2) == far]
    sources = [*(4 * places + q for places in ends for q in ends), *range(16, PIXELS)]
    first = PIXELS + side * BORDER
    for row, source in enumerate(sources, first):
        weight[row] = weight[source]
        weight[row, FRAME + 2, shut[0], shut[1]] -= _SHUT
        if source < 16:
            weight[row, :4] = _luma_taps(source % 4, (1 - axis,))
            weight[row, FRAME + 2, 1, 1] -= OVERSHOOT


def _interpolate(layer: nn.Module, small: Tensor) -> None:
    """Set the last convolution to the nearest fit to bicubic enlargement, by least squares on pictures [T, 3, h, w].

    A fit to the clean large picture itself is 0.2 dB worse on real video: it suits only the lenses and the halving of
    the clips that it was fitted to.
    """
    bicubic = F.interpolate(small, scale_factor=2, mode="bicubic", align_corners=False)
    wanted = rows_of(F.pixel_unshuffle(bicubic, UNSHUFFLE)[:, :, 1:-1, 1:-1])
    patches = F.unfold(_seen_last(small), 3).transpose(1, 2).flatten(0, 1)
    kernel = least_squares(patches, wanted, 1e-7).T.reshape(12, 3, 3, 3)
    lifts = torch.tensor([LUMA_LIFT + OVERSHOOT, COLOUR_LIFT, COLOUR_LIFT])
    kernel = as_stored(kernel)
    kernel = torch.cat([kernel, -torch.einsum("k,okhw->ohw", lifts, kernel)[:, None]], 1)
    bias_of(layer).copy_((kernel[:, 3] - as_stored(kernel[:, 3])).sum((1, 2)))
    kernel_of(layer).zero_()
    kernel_of(layer)[:, :16] = kernel[:, :1]
    kernel_of(layer)[:, 16:PIXELS] = kernel[:, 1:]
    for side, (axis, far) in enumerate(SIDES):  # beyond the border, repeat the border
        beyond = torch.zeros_like(kernel)
        beyond.select(2 + axis, 1).copy_(kernel.select(2 + axis, 2 * far))
        luma, colour = PIXELS + side * BORDER, PIXELS + side * BORDER + 4
        kernel_of(layer)[:, luma:colour] = (
            beyond[:, :1] + SHARPEN[0] * kernel[:, :1]
        )  # what the sharpening missed there
        kernel_of(layer)[:, colour : colour + 2] = (
            kernel[:, 1:3] / 3 + beyond[:, 1:3] * 4 / 3
        )  # smoothing took a quarter
        grey = -COLOUR_LIFT / 3 * (kernel[:, 1:3] + beyond[:, 1:3]).sum(1)
        kernel_of(layer)[:, colour + 2] = beyond[:, 3] + OVERSHOOT * beyond[:, 0] + grey


def _seen_last(small: Tensor) -> Tensor:
    """The input of the last convolution for a small picture [T, 3, h, w], without lifts, all lumas in one plane."""
    x = signals(small).reshape(-1, FRAME, small.shape[2] // 2, small.shape[3] // 2)
    luma = F.pixel_shuffle(x[:, :4], 2)
    along = torch.tensor(BICUBIC)
    luma = F.conv2d(F.pad(luma, (1, 1, 1, 1), mode="replicate"), torch.outer(along, along)[None, None])
    colours = F.interpolate(x[:, 4:], scale_factor=2, mode="nearest").flatten(0, 1)[:, None]
    colours = F.conv2d(F.pad(colours, (1, 1, 1, 1), mode="replicate"), _smooth()[None, None])
    return torch.cat([luma, colours.view(-1, 2, *luma.shape[2:])], 1)


def _smooth() -> Tensor:
    """[3, 3]: turns repeated pixels into linear interpolation."""
    return torch.outer(*[torch.tensor([0.25, 0.5, 0.25])] * 2)


def _gate(kernel: Tensor, carrier: int, one: int, axis: int, odd: int, right: int) -> None:
    """Make a gate: add 0 at one pixel of four in a row and -_SHUT or less at the others; kernel [in, 3, 3].

    The carrier a is 1, 1, 0, 0 along the row (even place, odd place) and its edge d is 1, 0, -1, 0.
    """
    a, d, top = {(0, 0): (0, 1, 1), (0, 1): (2, -1, 2), (1, 0): (0, -1, 1), (1, 1): (-2, 1, 0)}[odd, right]
    before = (0, 1) if axis == 0 else (1, 0)
    kernel[carrier, 1, 1] += _SHUT * (a + d)
    kernel[carrier, before[0], before[1]] -= _SHUT * d
    kernel[one, 1, 1] -= _SHUT * top
