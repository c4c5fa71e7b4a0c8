"""Operators of a small plain network, counted without data, against numbers made by hand."""

from __future__ import annotations

import torch

from benchmarks.plain_graph import count_kernels, plain_kernels
from swiftvr_trt.benchmarks.suite.projection import ATTENTION
from swiftvr_trt.engines.bundle.geometry import Resolution
from tests.mini import DIT, REAE


def test_a_matrix_product_reads_and_writes_its_tensors_once() -> None:
    a, b = (torch.empty(shape, device="meta", dtype=torch.bfloat16) for shape in ((4, 8), (8, 16)))
    assert count_kernels(lambda: a @ b) == {("", "BFloat16", 2 * 4 * 8 * 16, 2 * (32 + 128 + 64)): 1}


def test_views_are_nothing_and_additions_have_no_operations() -> None:
    a = torch.empty(4, 8, device="meta")
    assert count_kernels(lambda: a.T.reshape(8, 4)[:2].expand(2, 4)) == {}
    assert count_kernels(lambda: a + 1) == {("", "Float", 0, 2 * 4 * 8 * 4): 1}


def test_attention_is_one_kernel() -> None:
    q = torch.empty(2, 3, 5, 16, device="meta", dtype=torch.bfloat16)
    k = torch.empty(2, 3, 7, 16, device="meta", dtype=torch.bfloat16)
    found = count_kernels(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, k))
    assert found[(ATTENTION, "BFloat16", 4 * 2 * 3 * 5 * 7 * 16, 2 * (2 * q.numel() + 2 * k.numel()))] == 1


def test_twice_the_pixels_take_twice_the_operations() -> None:
    small, large = (plain_kernels(Resolution(256, height), DIT, REAE) for height in (256, 512))
    for stage in ("encode", "decode"):
        totals = [sum(flops * count for (_, _, flops, _), count in found[stage].items()) for found in (small, large)]
        assert totals[1] == 2 * totals[0] > 0
