"""The operations of a graph follow the textbook formulas, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from swiftvr_trt.engines.compile.counting import NodeCount, count, count_file, share_among
from swiftvr_trt.errors import BuildError
from tests.engines.graphs import FLOAT, HALF, graph, node, ones, save


@pytest.mark.parametrize(
    ("model", "flops"),
    [
        # 2 products of [3, 5] x [5, 7]
        (graph([node("MatMul", "x w", "y")], {"x": (2, 3, 5)}, "y", {"w": ones(5, 7)}), 2 * 2 * 3 * 5 * 7),
        # a transposed operand changes nothing
        (graph([node("Gemm", "x w", "y", transB=1)], {"x": (3, 5)}, "y", {"w": ones(7, 5)}), 2 * 3 * 5 * 7),
        (graph([node("Gemm", "x w", "y", transA=1)], {"x": (5, 3)}, "y", {"w": ones(5, 7)}), 2 * 3 * 5 * 7),
        # 6 x 8 outputs of 4 channels, each of 3 channels x 3 x 3; stride 2 leaves a quarter of the outputs
        (
            graph([node("Conv", "x w", "y", pads=[1, 1, 1, 1])], {"x": (1, 3, 6, 8)}, "y", {"w": ones(4, 3, 3, 3)}),
            2 * (6 * 8 * 4) * (3 * 3 * 3),
        ),
        (
            graph(
                [node("Conv", "x w", "y", pads=[1, 1, 1, 1], strides=[2, 2])],
                {"x": (1, 3, 6, 8)},
                "y",
                {"w": ones(4, 3, 3, 3)},
            ),
            2 * (3 * 4 * 4) * (3 * 3 * 3),
        ),
        # two groups of 2 -> 3 channels
        (
            graph([node("Conv", "x w", "y", group=2)], {"x": (1, 4, 6, 8)}, "y", {"w": ones(6, 2, 1, 1)}),
            2 * (6 * 8 * 6) * 2,
        ),
        # every one of 6 x 8 x 3 inputs meets 4 channels x 4 x 4
        (
            graph(
                [node("ConvTranspose", "x w", "y", pads=[1, 1, 1, 1], strides=[2, 2])],
                {"x": (1, 3, 6, 8)},
                "y",
                {"w": ones(3, 4, 4, 4)},
            ),
            2 * (6 * 8 * 3) * (4 * 4 * 4),
        ),
        # 2 windows, 3 heads, 5 queries, 7 keys of size 8, values of size 16
        (
            graph([node("Attention", "q k v", "y")], {"q": (2, 3, 5, 8), "k": (2, 3, 7, 8), "v": (2, 3, 7, 16)}, "y"),
            2 * 2 * 3 * 5 * 7 * (8 + 16),
        ),
        (
            graph([node("Einsum", "x w", "y", equation="bij,jk->bik")], {"x": (2, 3, 5)}, "y", {"w": ones(5, 7)}),
            2 * 2 * 3 * 5 * 7,
        ),
        # what multiplies no matrices costs bytes
        (graph([node("Gelu", "x", "y")], {"x": (2, 3, 5)}, "y"), 0),
    ],
)
def test_an_operator_counts_its_multiplications_and_additions(model: onnx.ModelProto, flops: int) -> None:
    assert count(model, {}).flops == flops


def test_transposed_convolution_does_16_of_36_multiplications_of_upsampling_and_convolving() -> None:
    upsampled = graph(
        [node("Resize", "x nothing scales", "big", mode="nearest"), node("Conv", "big w", "y", pads=[1, 1, 1, 1])],
        {"x": (1, 3, 6, 8)},
        "y",
        {"w": ones(4, 3, 3, 3), "scales": np.array([1, 1, 2, 2], np.float32), "nothing": ones(0)},
    )
    folded = graph(
        [node("ConvTranspose", "x w", "y", pads=[1, 1, 1, 1], strides=[2, 2])],
        {"x": (1, 3, 6, 8)},
        "y",
        {"w": ones(3, 4, 4, 4)},
    )
    assert count(folded, {}).flops * 36 == count(upsampled, {}).flops * 16


def test_the_caller_fixes_free_sides() -> None:
    model = graph([node("MatMul", "x w", "y")], {"x": ("T", 3, 5)}, "y", {"w": ones(5, 7)})
    assert count(model, {"x": (4, 3, 5)}).flops == 2 * 4 * 3 * 5 * 7
    with pytest.raises(BuildError, match="shape of y is not known"):
        count(model, {})


@pytest.mark.parametrize("frames", [1, 2])
def test_a_table_cut_to_the_length_of_the_input_has_a_known_shape(frames: int) -> None:
    model = graph(
        [
            node("Shape", "x", "length", start=0, end=1),
            node("Slice", "table zero length zero", "rows"),
            node("Mul", "x rows", "turned"),
            node("MatMul", "turned w", "y"),
        ],
        {"x": ("T", 3, 5)},
        "y",
        {"w": ones(5, 7), "table": ones(8, 1, 5), "zero": np.zeros(1, np.int64)},
    )
    assert count(model, {"x": (frames, 3, 5)}).flops == 2 * frames * 3 * 5 * 7


def test_an_equation_with_unnamed_indices_is_refused() -> None:
    model = graph([node("Einsum", "x w", "y", equation="...j,jk->...k")], {"x": (2, 3, 5)}, "y", {"w": ones(5, 7)})
    with pytest.raises(BuildError, match=r"'\.\.\.j,jk->\.\.\.k' cannot be counted"):
        count(model, {})


def _quantized() -> onnx.ModelProto:
    """x in FP16, quantized and dequantized, times weights stored in E4M3."""
    import ml_dtypes

    fp8 = ml_dtypes.float8_e4m3fn
    nodes = [
        node("QuantizeLinear", "x scale zero", "q"),
        node("DequantizeLinear", "q scale zero", "dq"),
        node("DequantizeLinear", "w scale", "dw"),
        node("MatMul", "dq dw", "y"),
        node("MatMul", "y v", "z"),
    ]
    constants = {
        "scale": np.array(0.5, np.float16),
        "zero": np.array(0, fp8),
        "w": ones(5, 7, dtype=fp8),
        "v": ones(7, 2, dtype=np.float16),
    }
    return graph(nodes, {"x": (3, 5)}, "z", constants, dtype=HALF)


def test_a_product_of_quantized_operands_counts_as_fp8() -> None:
    assert count(_quantized(), {}).by_precision() == {"fp16": 2 * 3 * 7 * 2, "fp8": 2 * 3 * 5 * 7}


def test_a_product_in_nvfp4_counts_although_its_quantizer_is_not_an_onnx_operator() -> None:
    """The input [3, 32] passes TensorRT's operator, the weight [7, 32] is stored in 4 bits, and both are cast."""
    import ml_dtypes

    nodes = [
        helper.make_node(
            "TRT_FP4DynamicQuantize", ["x", "scale"], ["q", "qs"], domain="trt", axis=-1, block_size=16, scale_type=17
        ),
        node("DequantizeLinear", "qs scale", "qs32"),
        node("DequantizeLinear", "q qs32", "x32", axis=-1, block_size=16),
        node("Cast", "x32", "x16", to=HALF),
        node("DequantizeLinear", "ws scale", "ws32"),
        node("DequantizeLinear", "w ws32", "w32", axis=-1, block_size=16),
        node("Cast", "w32", "w16", to=HALF),
        node("Transpose", "w16", "wt", perm=[1, 0]),
        node("MatMul", "x16 wt", "y"),
    ]
    constants = {
        "scale": np.array(0.5, np.float32),
        "w": ones(7, 32, dtype=ml_dtypes.float4_e2m1fn),
        "ws": ones(7, 2, dtype=ml_dtypes.float8_e4m3fn),
    }
    model = graph(nodes, {"x": (3, 32)}, "y", constants, dtype=HALF)
    model.opset_import.append(helper.make_opsetid("trt", 1))
    assert count(model, {}).by_precision() == {"fp4": 2 * 3 * 32 * 7}


def test_attention_is_recognised_as_an_operator_and_spelled_out() -> None:
    shapes = dict.fromkeys(("q", "k", "v"), (1, 2, 5, 8))
    operator = graph([node("Attention", "q k v", "y")], shapes, "y")
    spelled = graph(
        [
            node("Transpose", "k", "kt", perm=[0, 1, 3, 2]),
            node("MatMul", "q kt", "scores"),
            node("Softmax", "scores", "weights"),
            node("MatMul", "weights v", "y"),
        ],
        shapes,
        "y",
    )
    one, other = count(operator, {}), count(spelled, {})
    assert (one.attentions, other.attentions) == (1, 1)
    assert one.flops == other.flops


def test_a_softmax_over_logits_from_constants_is_not_attention() -> None:
    model = graph(
        [node("MatMul", "x keys", "logits"), node("Softmax", "logits", "p"), node("MatMul", "p values", "y")],
        {"x": (3, 5)},
        "y",
        {"keys": ones(5, 4), "values": ones(4, 5)},
    )
    assert count(model, {}).attentions == 0


def test_a_file_is_counted_without_its_weights(tmp_path: Path) -> None:
    model = graph([node("MatMul", "x w", "y")], {"x": (3, 5)}, "y", {"w": ones(5, 700)})
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    assert count_file(tmp_path / "m.onnx").flops == 2 * 3 * 5 * 700


def test_a_split_node_is_divided_over_its_kernels_and_nothing_is_lost() -> None:
    counts = [
        NodeCount("qkv", "MatMul", "fp8", 300),
        NodeCount("out", "MatMul", "fp8", 50),
        NodeCount("lost", "MatMul", "fp8", 7),
    ]
    cited = {"qkv": [(0, 10), (2, 20)], "out": [(2, 5)]}
    assert share_among(counts, cited) == {0: 100, 2: 250, -1: 7}


def test_graphs_of_these_tests_are_valid(tmp_path: Path) -> None:
    onnx.checker.check_model(onnx.load(save(_quantized(), tmp_path / "q.onnx")), full_check=True)
    assert _quantized().graph.input[0].type.tensor_type.elem_type != FLOAT
