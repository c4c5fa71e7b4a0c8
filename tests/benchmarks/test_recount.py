"""Counting by independent means: Polygraphy's log and torch's operations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.recount import Recount, count_with_torch, read_log, read_profile
from swiftvr_trt.errors import MisuseError


def test_polygraphy_log_is_counted_by_words() -> None:
    log = """Total Activation Memory: 300 bytes
Total Activation Memory: 400 bytes
Name: shape_call_2, LayerType: shape_call, Inputs: []
Name: __myl_Add_myl0_0, LayerType: kgen, Inputs: []
Name: _gemm_mha_v2_myl0_1, LayerType: kgen, Inputs: []
Name: __myl_Add_myl1_0, LayerType: kgen, Inputs: []
Name: _gemm_mha_v2_myl1_1, LayerType: kgen, Inputs: []
Name: __myl_Move_myl1_2, LayerType: kgen, Inputs: []
"""
    assert read_log(log, 2) == [Recount(2, 1, 300), Recount(3, 1, 400)]
    with pytest.raises(RuntimeError, match="2 profiles and 2 graphs, expected 3"):
        read_log(log, 3)


class _Attention(nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v)


def test_torch_counts_what_arithmetic_says() -> None:
    assert count_with_torch(nn.Linear(5, 7), [torch.zeros(3, 5)]) == 2 * 3 * 5 * 7
    assert count_with_torch(nn.Conv2d(2, 6, 3, padding=1), [torch.zeros(1, 2, 4, 5)]) == 2 * 6 * 20 * 2 * 9
    deconvolution = nn.ConvTranspose2d(2, 6, 4, stride=2, padding=1)
    assert count_with_torch(deconvolution, [torch.zeros(1, 2, 4, 5)]) == 2 * 2 * 20 * 6 * 16
    qkv = [torch.zeros(2, 3, 10, 16), torch.zeros(2, 3, 12, 16), torch.zeros(2, 3, 12, 16)]
    assert count_with_torch(_Attention(), qkv) == 2 * 2 * 3 * 10 * 12 * (16 + 16)


def test_a_profile_is_three_shapes_for_each_input() -> None:
    assert read_profile('{"x": [[1, 2], [3, 4], [5, 6]]}') == {"x": [[1, 2], [3, 4], [5, 6]]}
    for text in ("[]", "{", '{"x": 3}', '{"x": [[1], [2]]}', '{"x": [[1], [2], ["3"]]}', '{"x": ' + "[" * 5000):
        with pytest.raises(MisuseError, match=r"^profile: ") as error:
            read_profile(text)
        assert str(error.value).isprintable()
