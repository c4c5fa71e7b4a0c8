"""Logs of real builds (TensorRT-RTX 1.7.1.116, SM120) are read as they were counted by hand.

The logs are trimmed to the lines that matter. `block_*` are one transformer block of width 256 with 2 heads on 128
tokens; `encode_fp32` is the encoder at 320x192; `linear_nvfp4` is [200, 256] x [256, 512] with a bias.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftvr_trt.engines.compile.log import (
    ATTENTION,
    CONV,
    ELEMENTWISE,
    GEMM,
    KINDS,
    MOVE,
    QUANTIZE,
    RESIZE,
    BuildLog,
    Kernel,
    Tensor,
    by_kind,
    by_precision,
    parse_log,
)

LOGS = Path(__file__).parent / "logs"


def read(name: str) -> BuildLog:
    return parse_log((LOGS / f"{name}.log").read_text(encoding="utf-8"))


def kernel(name: str, layer: str = "kgen", inputs: tuple[Tensor, ...] = (), outputs: tuple[Tensor, ...] = ()) -> Kernel:
    return Kernel(name, layer, 0, inputs, (), outputs, ())


def test_two_profiles_are_distinguished_and_hold_the_same_kernels() -> None:
    made = read("block_fp16_two_profiles")
    first, second = made.of_profile(0), made.of_profile(1)
    assert len(made.kernels) == len(first) + len(second) == 22
    assert by_kind(first) == by_kind(second) == {ATTENTION: 1, GEMM: 4, ELEMENTWISE: 5, MOVE: 1}
    assert (first[0].inputs[0].shape, second[0].inputs[0].shape) == ((2, 128, 256), (3, 128, 256))


def test_each_profile_has_its_memory_and_weights_count_once() -> None:
    made = read("block_fp16_two_profiles")
    assert made.arena_bytes == (9371648, 9961472)
    assert made.weight_bytes == 1579776


def test_a_kernel_knows_its_tensors_and_the_nodes_it_executes() -> None:
    merged = read("block_fp16_two_profiles").kernels[1]
    assert (merged.name, merged.layer, merged.kind) == ("__mye7487+__mye7475+__mye7463_myl0_1", "gemm", GEMM)
    assert merged.inputs == (Tensor("Cast_3.1_myl0", (256, 256), "Half"),)
    assert [tensor.shape for tensor in merged.constants][:1] == [(1, 256, 768)]
    assert merged.sources == ("MatMul_4",)


def test_an_fp8_block_multiplies_in_fp8_and_fuses_its_attention() -> None:
    made = read("block_fp8")
    assert by_precision(made.kernels, ATTENTION) == {"FP8": 1}
    assert by_precision(made.kernels, GEMM) == {"FP8": 6}
    [attention] = [k for k in made.kernels if k.kind == ATTENTION]
    assert {"MatMul_24", "Softmax_25", "MatMul_28"} <= set(attention.sources)


def test_a_product_in_nvfp4_counts_as_fp4() -> None:
    """Values of 4 bits, and a scale of 8 bits per 16 of them, of weights and of inputs."""
    [product] = [k for k in read("linear_nvfp4").kernels if k.kind == GEMM]
    assert product.precision == "FP4"
    assert [tensor.dtype for tensor in product.inputs] == ["FP4", "FP8"]
    assert {tensor.dtype for tensor in product.constants} >= {"FP4", "FP8"}


def test_a_residual_in_fp32_does_not_make_a_product_fp32() -> None:
    fused = read("block_fp16_two_profiles").kernels[9]
    assert [tensor.dtype for tensor in fused.inputs] == ["Float", "Half"]
    assert (fused.kind, fused.precision) == (GEMM, "Half")


def test_attention_that_is_not_fused_shows_as_products() -> None:
    made = read("block_fp32")
    kinds = by_kind(made.kernels)
    assert ATTENTION not in kinds
    assert kinds[GEMM] == 4 + 2  # q, k and v are one; two more for scores and values


def test_the_encoder_consists_of_convolutions_and_copies() -> None:
    made = read("encode_fp32")
    assert by_kind(made.kernels) == {CONV: 35, MOVE: 16, RESIZE: 1}
    assert made.kernels[0].inputs[0].shape == (4, -1, -1, 3)
    assert made.kernels[0].with_sides(192, 320).inputs[0].shape == (4, 192, 320, 3)
    assert made.arena_bytes == (43253760,)


def test_code_on_the_host_is_not_a_kernel() -> None:
    assert "LayerType: shape_call" in (LOGS / "encode_fp32.log").read_text(encoding="utf-8")
    assert not [k for k in read("encode_fp32").kernels if k.layer == "shape_call"]


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (kernel("_gemm_mha_v2_myl0_5"), ATTENTION),
        (kernel("node_conv2d_myl0_1", "correlation"), CONV),
        (kernel("node_convolution_myl0_14", "deconv"), CONV),
        (kernel("MatMul_16_U24_myl0_6", "gemm"), GEMM),
        (kernel("__myl_FcAddCastAdd_myl0_9", "runtime_fusion"), GEMM),
        (kernel("__myl_TranConcMoveMove_myl0_2"), MOVE),
        (kernel("__myl_AddCastReshMul_myl0_2"), ELEMENTWISE),
        (kernel("__myl_MulCast_myl0_2", outputs=(Tensor("y", (2, 2), "FP8"),)), QUANTIZE),
        (kernel("__myl_AddMulCast_myl0_2", outputs=(Tensor("y", (2, 2), "FP8"),)), ELEMENTWISE),
        (kernel("__myl_Dyna_myl0_2", outputs=(Tensor("y", (2, 32), "FP4"), Tensor("s", (2, 2), "FP8"))), QUANTIZE),
        (kernel("__myl_Conc_myl0_2", "runtime_function"), MOVE),
        (kernel("__myl_ResiMulReshTran_myl0_2"), RESIZE),
        (kernel("something", "never seen"), KINDS[-1]),
    ],
)
def test_a_kernel_is_counted_as_what_it_does(made: Kernel, kind: str) -> None:
    assert made.kind == kind


def test_a_log_without_kernels_has_no_content() -> None:
    assert parse_log("[I] hello\n") == BuildLog((), (), 0)
