"""The autoencoder's parts, by answers known in advance, and what its state carries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from swiftvr_trt.export.network.reae import (
    Decoder,
    Encoder,
    MemBlock,
    Reae,
    ReaeConfig,
    State,
    TGrow,
    TPool,
    decoded_pixels,
    walk,
)
from tests.export.small import REAE, assert_same


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.manual_seed(3)
    with torch.no_grad():
        yield


def ramp(frames: int, channels: int = 2) -> Tensor:
    """Frames of one value each, 1, 2, 4, ...: sums tell which frames went in."""
    return (2.0 ** torch.arange(frames)).view(-1, 1, 1, 1).expand(-1, channels, 3, 3).clone()


def remembering_block() -> MemBlock:
    """A MemBlock whose convolutions pass on the previous frame: relu(past + x)."""
    block = MemBlock(2)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    first, second, third = (layer for layer in block.conv if isinstance(layer, nn.Conv2d))
    for channel in range(2):
        first.weight[channel, 2 + channel, 1, 1] = 1  # the past comes after the present
        second.weight[channel, channel, 1, 1] = 1
        third.weight[channel, channel, 1, 1] = 1
    return block


def test_a_memblock_sees_the_frame_before() -> None:
    y, past = remembering_block()(ramp(4), torch.zeros(1, 2, 3, 3))
    assert y[:, 0, 0, 0].tolist() == [1, 2 + 1, 4 + 2, 8 + 4]
    assert torch.equal(past, ramp(4)[-1:])


def test_a_memblock_sees_the_last_frame_of_the_call_before() -> None:
    block = remembering_block()
    first, past = block(ramp(4)[:1], torch.zeros(1, 2, 3, 3))
    rest, _ = block(ramp(4)[1:], past)
    assert torch.cat([first, rest])[:, 0, 0, 0].tolist() == [1, 2 + 1, 4 + 2, 8 + 4]


def test_pooling_mixes_neighbouring_frames() -> None:
    pool = TPool(2, 2)
    nn.init.zeros_(pool.conv.weight)
    for channel in range(2):
        pool.conv.weight[channel, channel] = 10  # the first frame of a pair
        pool.conv.weight[channel, 2 + channel] = 1  # the second
    assert pool(ramp(4))[:, 0, 0, 0].tolist() == [10 + 2, 40 + 8]


def test_growth_weighs_the_stored_taps_as_published() -> None:
    """The first of two frames is (w1 + w2) x, the second (w0 + w1) x."""
    grow = TGrow(1, 2)
    grow.conv3d.weight[...] = torch.tensor([1.0, 10.0, 100.0]).view(1, 1, 3, 1, 1)
    assert grow(ramp(2, channels=1))[:, 0, 0, 0].tolist() == [110, 11, 220, 22]


def test_growth_is_the_stored_convolution_over_a_repeated_frame() -> None:
    grow, x = TGrow(4, 2).double(), torch.randn(3, 4, 2, 5, dtype=torch.float64)
    repeated = x.unsqueeze(2).repeat(1, 1, 2, 1, 1)  # each frame twice in time
    published = nn.functional.conv3d(repeated, grow.conv3d.weight, padding=(1, 0, 0))
    assert_same(grow(x), published.transpose(1, 2).flatten(0, 1))


def test_growth_of_stride_one_is_a_plain_convolution() -> None:
    grow, x = TGrow(4, 1).double(), torch.randn(3, 4, 2, 5, dtype=torch.float64)
    assert_same(grow(x), grow.proj(x))


def test_channels_become_pixels_of_a_colour_and_are_clamped() -> None:
    """Channel 4 * colour + 2 * row + column is the pixel at that row and column of a 2x2 square."""
    x = torch.arange(12.0).view(1, 12, 1, 1) / 10
    frame = decoded_pixels(x)
    assert frame.shape == (1, 3, 2, 2)
    assert frame[0, 1].flatten().tolist() == pytest.approx([0.4, 0.5, 0.6, 0.7])
    assert frame[0, 2].flatten().tolist() == pytest.approx([0.8, 0.9, 1.0, 1.0])
    assert decoded_pixels(-x).max() == 0


def test_latents_are_limited_before_they_are_decoded() -> None:
    limit = Decoder(REAE)[0]
    x = torch.tensor([-1000.0, -0.003, 0.0, 3.0, 1000.0])
    assert limit(x).tolist() == pytest.approx([-3, -0.003, 0, 3 * torch.tanh(torch.tensor(1.0)).item(), 3])


@pytest.mark.parametrize("latents", [1, 3])
def test_four_frames_are_one_latent_of_a_sixteenth_of_the_size(latents: int) -> None:
    encoder, decoder = Encoder(REAE), Decoder(REAE)
    frames = torch.rand(4 * latents, 3, 32, 48)
    z, _ = encoder(frames, encoder.initial_state(2, 3))
    restored, _ = decoder(z, decoder.initial_state(2, 3))
    assert z.shape == (latents, 5, 2, 3)
    assert restored.shape == frames.shape
    assert 0 <= float(restored.min()) <= float(restored.max()) <= 1


def test_states_are_zeros_as_large_as_the_level_they_belong_to() -> None:
    """Three MemBlocks per level. The encoder works at 4, 2 and 1 times the latent's size, the decoder at 1, 2 and 4."""
    levels = [(7, 8, 12), (8, 4, 6), (9, 2, 3)], [(12, 2, 3), (10, 4, 6), (8, 8, 12)]
    states = Encoder(REAE).initial_state(2, 3), Decoder(REAE).initial_state(2, 3)
    for state, shapes in zip(states, levels, strict=True):
        assert [tuple(past.shape) for past in state] == [(1, *shape) for shape in shapes for _ in range(3)]
        assert all(not past.any() for past in state)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_the_new_state_is_the_last_frame_that_each_block_saw(name: str) -> None:
    network = getattr(Reae(REAE), name)
    x = torch.rand(8, 12, 16, 24) if name == "encoder" else torch.rand(2, 5, 2, 3)
    seen: list[Tensor] = []
    for block in network.memory():
        block.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0][-1:]))
    _, after = walk(network, x, network.initial_state(2, 3))
    assert len(after) == len(seen) == 9
    assert all(torch.equal(ours, last) for ours, last in zip(after, seen, strict=True))


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_the_state_depends_on_the_last_eight_latents(name: str) -> None:
    """Not on those before, and on the eighth: whatever the state was, eight steps later it is the same to the bit."""
    network = getattr(Reae(REAE), name).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)  # signals that grow from layer to layer, so that none is lost to rounding
    inputs = [torch.rand(4, 3, 32, 48) if name == "encoder" else torch.randn(1, 5, 2, 3) for _ in range(10)]

    def state_after(steps: list[Tensor]) -> State:
        state: State = network.initial_state(2, 3)
        for x in steps:
            _, state = network(x.double(), state)
        return state

    whole, eight, seven = (state_after(inputs[begin:]) for begin in (0, 2, 3))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(whole, eight, strict=True))
    assert not all(torch.equal(ours, theirs) for ours, theirs in zip(whole, seven, strict=True))


def test_a_frame_does_not_depend_on_those_that_follow() -> None:
    decoder, latents = Decoder(REAE).double(), torch.randn(3, 5, 2, 3, dtype=torch.float64)
    changed = torch.cat([latents[:2], latents[2:] + 1])
    ours, theirs = (decoder(z, decoder.initial_state(2, 3))[0] for z in (latents, changed))
    assert torch.equal(ours[:8], theirs[:8])
    assert not torch.allclose(ours[8:], theirs[8:])


def test_layers_are_numbered_as_in_the_published_checkpoint() -> None:
    names = {name.rsplit(".", 1)[0] for name in Reae(REAE).state_dict()}
    assert {"encoder.0", "encoder.2.conv", "encoder.3", "encoder.4.conv.0", "encoder.17"} <= names
    assert {"decoder.1", "decoder.3.conv.0", "decoder.7.proj", "decoder.13.conv3d", "decoder.22"} <= names


def test_a_config_names_a_width_for_each_memblock_or_none() -> None:
    with pytest.raises(ValueError, match="decoder_hidden has 2 widths, expected nine"):
        ReaeConfig(5, (6, 7, 8, 9), (12, 10, 8, 6), decoder_hidden=(4, 4))
