"""What the constant timestep and prompt become, and modulation with and without folding."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from swiftvr_trt.export.graph.conditioning import Scale, condition, gated, modulated
from swiftvr_trt.export.graph.rewrites import ALL, Affine
from tests.export.small import DIT, assert_same, small_dit, small_prompt


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.manual_seed(3)
    with torch.no_grad():
        yield


def test_the_timestep_becomes_numbers() -> None:
    dit = small_dit()
    found = condition(dit, small_prompt(2), ALL)
    temb, time = dit.condition_embedder.time()
    assert torch.equal(found.time, time)
    assert torch.equal(found.final, dit.scale_shift_table[0] + temb)
    assert found.final.shape == (2, DIT.dim)


def test_equal_prompt_rows_become_one_with_a_weight() -> None:
    dit, prompt = small_dit(), small_prompt(distinct=2, rows=9)
    found = condition(dit, prompt, ALL)
    assert found.weight is not None
    by_count = dict(zip(found.weight.exp().round().int().tolist(), found.text, strict=True))
    assert_same(by_count[1], dit.condition_embedder.text(prompt[0]))
    assert_same(by_count[8], dit.condition_embedder.text(prompt[-1]))


def test_a_prompt_of_many_distinct_rows_stays_as_it_is() -> None:
    """Projected values replace the output projection only while heads * rows < dim: up to 11 rows of 12 channels."""
    dit = small_dit()
    assert condition(dit, small_prompt(11, rows=20), ALL).weight is not None
    many = small_prompt(12, rows=20)
    found = condition(dit, many, ALL)
    assert found.weight is None
    assert_same(found.text, dit.condition_embedder.text(many))


def test_a_prompt_stays_as_it_is_without_the_rewrite() -> None:
    found = condition(small_dit(), small_prompt(2, rows=9), ALL.without(["prompt"]))
    assert found.weight is None
    assert found.text.shape == (9, DIT.dim)


def parts() -> tuple[nn.Linear, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """A linear of 6 inputs and 4 outputs, an input, and scale, shift and gate."""
    scale, shift, gate = (torch.randn(n, dtype=torch.float64) for n in (6, 6, 4))
    return nn.Linear(6, 4).double(), torch.randn(5, 6, dtype=torch.float64), (scale, shift, gate)


@pytest.mark.parametrize("fold", [True, False])
def test_modulation_comes_before_a_linear_or_goes_into_it(fold: bool) -> None:
    linear, x, (scale, shift, _) = parts()
    before, folded = modulated(Affine.of(linear), scale, shift, fold=fold)
    assert type(before) is (nn.Identity if fold else Scale)
    assert_same(folded.module()(before(x)), linear(x * (1 + scale) + shift))


@pytest.mark.parametrize("fold", [True, False])
def test_a_gate_comes_after_a_linear_or_goes_into_it(fold: bool) -> None:
    linear, x, (_, _, gate) = parts()
    after, folded = gated(Affine.of(linear), gate, fold=fold)
    assert type(after) is (nn.Identity if fold else Scale)
    assert_same(after(folded.module()(x)), linear(x) * gate)
