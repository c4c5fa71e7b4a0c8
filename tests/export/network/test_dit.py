"""The transformer's parts, against the published formulas written as loops, and by answers known in advance."""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swiftvr_trt.export.network.dit import (
    Attention,
    Block,
    embed,
    into_windows,
    out_of_windows,
    rope_tables,
    rotate,
    sinusoids,
    unpatch,
    widened,
    without_blocks,
)
from swiftvr_trt.export.network.windows import plan_windows
from tests.export.small import DIT, assert_same, small_dit, small_prompt


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.manual_seed(3)
    with torch.no_grad():
        yield


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def softmax_mix(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One query [d] attends to keys [n, d]: the softmax written out."""
    weights = [math.exp(float(query @ key) / math.sqrt(len(query))) for key in keys]
    return sum((w * v for w, v in zip(weights, values, strict=True)), start=torch.zeros_like(values[0])) / sum(weights)


def test_the_timestep_becomes_cosines_and_then_sines() -> None:
    expected = [math.cos(1000), math.cos(10), math.sin(1000), math.sin(10)]  # frequencies 1 and 10000^(-1/2)
    assert sinusoids(1000.0, 4).tolist() == pytest.approx(expected, abs=1e-12)


def test_rope_angles_are_the_published_ones() -> None:
    """Of 128 channels 44 turn with time, 42 with the row and 42 with the column."""
    cos, sin = rope_tables(128, 2, 3, 4)
    assert cos.shape == sin.shape == (2, 3 * 4, 1, 64)
    for t, row, column in np.ndindex(2, 3, 4):
        angles = [t * 10000 ** (-2 * i / 44) for i in range(22)]
        angles += [place * 10000 ** (-2 * i / 42) for place in (row, column) for i in range(21)]
        token = row * 4 + column
        assert cos[t, token, 0].tolist() == pytest.approx([math.cos(a) for a in angles], abs=1e-12)
        assert sin[t, token, 0].tolist() == pytest.approx([math.sin(a) for a in angles], abs=1e-12)


def test_rotation_turns_neighbouring_channels_as_complex_numbers() -> None:
    angle = torch.tensor([0.3, -1.2], dtype=torch.float64)
    turned = rotate(torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]], dtype=torch.float64), (angle.cos(), angle.sin()))
    first, second = (1 + 2j) * cmath.exp(0.3j), (3 + 4j) * cmath.exp(-1.2j)
    assert turned.flatten().tolist() == pytest.approx([first.real, first.imag, second.real, second.imag])


def test_only_differences_of_positions_count() -> None:
    """So tables may begin at 0 in every chunk."""
    query, key = normal(1, 1, 1, 12), normal(1, 1, 1, 12)
    cos, sin = rope_tables(12, 9, 1, 1)

    def product(p: int, q: int) -> float:
        turned = [rotate(x, (cos[k : k + 1], sin[k : k + 1])) for x, k in ((query, p), (key, q))]
        return float((turned[0] * turned[1]).sum())

    assert product(6, 8) == pytest.approx(product(0, 2), rel=1e-12)
    assert product(6, 8) != pytest.approx(product(0, 3), rel=1e-3)


def test_embedding_is_the_stored_convolution() -> None:
    convolution = nn.Conv3d(5, 7, (1, 2, 2), (1, 2, 2)).double()
    latents = normal(3, 5, 6, 8)
    published = convolution(latents.transpose(0, 1)[None])[0]  # [7, 3, 3, 4]
    assert_same(embed(latents, convolution), published.flatten(2).permute(1, 2, 0))


def test_tokens_go_back_to_where_they_came_from() -> None:
    """With a convolution that lists a patch as (row, column, channel), the order in which tokens come out."""
    convolution = nn.Conv3d(3, 12, (1, 2, 2), (1, 2, 2), bias=False).double()
    nn.init.zeros_(convolution.weight)
    for number, (row, column, channel) in enumerate(np.ndindex(2, 2, 3)):
        convolution.weight[number, channel, 0, row, column] = 1
    latents = normal(2, 3, 4, 6)
    assert torch.equal(unpatch(embed(latents, convolution), latents, 2), latents)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(("rows", "columns"), [(7, 6), (4, 9), (2, 3)])
def test_tokens_return_from_their_windows_to_their_places(rows: int, columns: int, layer: int) -> None:
    plan = plan_windows(rows, columns, (4, 4), layer=layer)
    x = normal(2, rows * columns, 3, 5)
    inside = into_windows(x, torch.from_numpy(plan.gather))
    assert inside.shape == (plan.windows, 3, 2 * plan.tokens_per_window, 5)
    assert torch.equal(out_of_windows(inside, 2, torch.from_numpy(plan.owner)), x.flatten(2))


@pytest.mark.parametrize("layer", [0, 1])
def test_a_token_attends_to_all_latents_of_the_window_that_owns_it(layer: int) -> None:
    attention = random_attention()
    rows, columns, latents = 3, 6, 2
    x, rope = normal(latents, rows * columns, DIT.dim), rope_tables(DIT.head_dim, latents, rows, columns)
    plan = plan_windows(rows, columns, DIT.window, layer=layer)
    q, k = (
        rotate(norm(project(x)).unflatten(-1, (DIT.heads, -1)), rope)
        for project, norm in ((attention.to_q, attention.norm_q), (attention.to_k, attention.norm_k))
    )
    v = attention.to_v(x).unflatten(-1, (DIT.heads, -1))
    mixed = torch.empty_like(v)
    for t, token, head in np.ndindex(latents, rows * columns, DIT.heads):
        window = plan.gather[plan.owner[token] // plan.tokens_per_window]
        keys, values = (part[:, window, head].flatten(0, 1) for part in (k, v))
        mixed[t, token, head] = softmax_mix(q[t, token, head], keys, values)
    ours = attention.windowed(x, rope, torch.from_numpy(plan.gather), torch.from_numpy(plan.owner))
    assert_same(ours, attention.to_out[0](mixed.flatten(2)))


def test_cross_attention_mixes_the_prompts_values() -> None:
    attention = random_attention()
    x, prompt = normal(1, 2, DIT.dim), normal(4, DIT.dim)
    q = attention.norm_q(attention.to_q(x)).unflatten(-1, (DIT.heads, -1))
    k = attention.norm_k(attention.to_k(prompt)).unflatten(-1, (DIT.heads, -1))
    v = attention.to_v(prompt).unflatten(-1, (DIT.heads, -1))
    mixed = torch.empty_like(q)
    for token, head in np.ndindex(2, DIT.heads):
        mixed[0, token, head] = softmax_mix(q[0, token, head], k[:, head], v[:, head])
    assert_same(attention.cross(x, *attention.keys_and_values(prompt)), attention.to_out[0](mixed.flatten(2)))


def random_attention() -> Attention:
    attention = Attention(DIT).double()
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.3)
    return attention


def test_a_block_without_gates_and_prompt_passes_its_input() -> None:
    block, time = small_dit(1).blocks[0], normal(6, DIT.dim)
    assert isinstance(block, Block)
    time[[2, 5]] = -block.scale_shift_table[0, [2, 5]]  # the two gates become 0
    for parameter in block.attn2.to_out.parameters():
        nn.init.zeros_(parameter)
    x, plan = normal(2, 6, DIT.dim), plan_windows(2, 3, DIT.window, layer=0)
    gather, owner = torch.from_numpy(plan.gather), torch.from_numpy(plan.owner)
    assert torch.equal(block(x, time, normal(4, DIT.dim), rope_tables(12, 2, 2, 3), gather, owner), x)


def test_modulation_is_shift_scale_and_gate_of_attention_then_of_the_feed_forward() -> None:
    block = small_dit(1).blocks[0]
    assert isinstance(block, Block)
    time = normal(6, DIT.dim)
    for row, part in enumerate(block.modulation(time)):
        assert torch.equal(part, block.scale_shift_table[0, row] + time[row])


def test_the_condition_embedder_computes_the_published_formula() -> None:
    embedder = small_dit(0).condition_embedder
    silu = nn.SiLU()
    linear = embedder.time_embedder
    temb = linear.linear_2(silu(linear.linear_1(sinusoids(1000.0, DIT.freq_dim))))
    ours, projected = embedder.time()
    assert_same(ours, temb)
    assert_same(projected, embedder.time_proj(silu(temb)).view(6, DIT.dim))
    prompt = small_prompt(3)
    gelu = nn.GELU(approximate="tanh")
    expected = embedder.text_embedder.linear_2(gelu(embedder.text_embedder.linear_1(prompt)))
    assert_same(embedder.text(prompt), expected)


def test_the_result_is_the_input_minus_the_projected_norm() -> None:
    """Without blocks, what is left is the final norm, its modulation (shift first) and the projection."""
    dit, latents, prompt = small_dit(0), normal(2, 5, 4, 6), small_prompt(2)
    shift, scale = dit.scale_shift_table[0] + dit.condition_embedder.time()[0]
    x = embed(latents, dit.patch_embedding)
    normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + DIT.eps).sqrt()
    velocity = unpatch(dit.proj_out(normed * (1 + scale) + shift), latents, 2)
    assert_same(dit(latents, prompt), latents - velocity)


def test_a_transformer_without_blocks_shares_its_tensors() -> None:
    dit = small_dit(2)
    bare = without_blocks(dit)
    assert (len(bare.blocks), len(dit.blocks)) == (0, 2)
    assert bare.proj_out is dit.proj_out


def test_only_a_block_can_be_widened() -> None:
    block = small_dit(1).blocks[0]
    assert widened(block) is block  # float64 is wide already
    with pytest.raises(TypeError, match="expected a transformer block, got Linear"):
        widened(nn.Linear(1, 1))
