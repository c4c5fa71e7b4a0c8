"""Cross-attention to a constant prompt: every form gives what the plain network gives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from swiftvr_trt.export.graph.conditioning import condition
from swiftvr_trt.export.graph.cross_attention import PlainCross, PromptCross, cross_attention
from swiftvr_trt.export.graph.layers import FLOAT32
from swiftvr_trt.export.graph.rewrites import ALL, Rewrites
from swiftvr_trt.export.network.dit import Block
from tests.export.small import DIT, assert_same, small_dit, small_prompt

FORMS = {
    "direct": (ALL, PromptCross),
    "with-keys": (ALL.without(["logits"]), PromptCross),
    "unfolded": (ALL.without(["modulation"]), PromptCross),
    "plain": (ALL.without(["prompt"]), PlainCross),
}


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.manual_seed(3)
    with torch.no_grad():
        yield


@pytest.mark.parametrize("distinct", [2, 3, 9])
@pytest.mark.parametrize(("rewrites", "form"), FORMS.values(), ids=FORMS)
def test_every_form_is_the_plain_networks(rewrites: Rewrites, form: type, distinct: int) -> None:
    dit, prompt = small_dit(1), small_prompt(distinct)
    block = dit.blocks[0]
    assert isinstance(block, Block)
    x = torch.randn(2, 4, DIT.dim, dtype=torch.float64)
    keys_and_values = block.attn2.keys_and_values(dit.condition_embedder.text(prompt))
    expected = block.attn2.cross(block.norm2(x), *keys_and_values)

    made = cross_attention(block, condition(dit, prompt, rewrites), rewrites, FLOAT32)
    assert isinstance(made, nn.Sequential)
    assert type(made[1]) is form
    assert_same(made(nn.functional.layer_norm(x, (DIT.dim,), eps=DIT.eps)), expected)


def test_one_distinct_row_needs_no_choice() -> None:
    """Every token gets its value; there is no logit to take the difference of."""
    dit, prompt = small_dit(1), small_prompt(1)
    block = dit.blocks[0]
    assert isinstance(block, Block)
    made = cross_attention(block, condition(dit, prompt, ALL), ALL, FLOAT32)
    assert isinstance(made, nn.Sequential)
    assert isinstance(made[1], PlainCross)
    assert made[1].keys.shape[2] == 1
    x = torch.randn(2, 4, DIT.dim, dtype=torch.float64)
    value = block.attn2.to_v(dit.condition_embedder.text(prompt[:1]))
    assert_same(made(x), block.attn2.to_out[0](value).expand(2, 4, -1))


@pytest.mark.parametrize("sign", [1, -1], ids=["padding first", "padding last"])
def test_weights_follow_the_difference_of_two_logits(sign: int) -> None:
    """Two rows of which one occurs eight times, and a query that does not tell them apart: weights 1/9 and 8/9.

    Distinct rows are sorted, so the sign decides which of the two is the last.
    """
    dit, prompt = small_dit(1), small_prompt(2).abs() * sign
    block = dit.blocks[0]
    assert isinstance(block, Block)
    for parameter in (block.attn2.to_k.weight, block.attn2.to_k.bias):
        nn.init.zeros_(parameter)
    values = block.attn2.to_v(dit.condition_embedder.text(prompt[[0, -1]]))
    made = cross_attention(block, condition(dit, prompt, ALL), ALL, FLOAT32)
    mixed = block.attn2.to_out[0](values[0] / 9 + values[1] * 8 / 9)
    assert_same(made(torch.randn(1, 3, DIT.dim, dtype=torch.float64)), mixed.expand(1, 3, -1))
