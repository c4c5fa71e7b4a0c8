"""NaN and infinity are found wherever they are; everything else passes."""

from __future__ import annotations

import pytest
import torch

from swiftvr_trt.export.network.finite import all_finite

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def stored(values: torch.Tensor) -> bytes:
    return values.view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_value_is_told_apart(dtype: str) -> None:
    limits = torch.finfo(DTYPES[dtype])
    values = torch.tensor([limits.max, limits.min, limits.tiny, limits.eps, 0.0, -0.0, 1.0, -1.0], dtype=DTYPES[dtype])
    assert all_finite(stored(values), dtype)
    assert all_finite(b"", dtype)
    for bad in (float("nan"), float("inf"), -float("inf"), -float("nan")):
        for place in range(len(values)):
            changed = values.clone()
            changed[place] = bad
            assert not all_finite(stored(changed), dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_it_agrees_with_torch_on_every_16_bit_pattern(dtype: str) -> None:
    patterns = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    finite = patterns.view(DTYPES[dtype]).isfinite()
    for pattern, expected in zip(patterns[::37], finite[::37], strict=True):
        assert all_finite(stored(pattern[None]), dtype) == bool(expected)
    assert all_finite(stored(patterns[finite]), dtype)


def test_other_types_always_pass() -> None:
    assert all_finite(b"\xff" * 8, "int64")
