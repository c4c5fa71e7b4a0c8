"""The shapes of compiled kernels, their operations and bytes, and the table. Nothing here is a figure of a GPU."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch.overrides import TorchFunctionMode

from benchmarks.gpu_kernels import (
    NOT_A_GPU,
    SHAPES,
    Case,
    Timed,
    by_class,
    cases_of,
    choose_device,
    convolution,
    main,
    make,
    products,
    read_cases,
    read_shapes,
    runs_together,
    seconds_of,
    table,
)
from swiftvr_trt.engines.compile.log import ATTENTION, CONV, ELEMENTWISE, GEMM
from swiftvr_trt.engines.compile.report import CompiledKernel, CompiledStage, EngineReport
from swiftvr_trt.errors import MisuseError

CPU = torch.device("cpu")


def kernel(kind: str, flops: int, inputs: str, constants: str, outputs: str) -> CompiledKernel:
    ins, given, outs = (tuple(filter(None, words.split(", "))) for words in (inputs, constants, outputs))
    return CompiledKernel("k", kind, "Half", flops, 0, ins, given, outs, ())


KERNELS = (
    kernel(GEMM, 2 * 32 * 64 * 48, "Half 32x64", "Half 1x48, Half 64x48, Float scalar", "Half 32x48"),
    kernel(ATTENTION, 0, "Half 2x96x32, Half 2x32x64, Half 2x64x32", "", "Half 2x96x32"),
    kernel(CONV, 0, "Half 1x12x8x8", "Half 16x12x3x3, Half 1x16x1x1", "Half 1x16x4x4"),
    kernel(CONV, 0, "Half 1x12x8x8", "Half 12x6x4x4", "Half 1x6x16x16"),
    kernel(ELEMENTWISE, 0, "Float 32x64, Half 64", "", "Half 32x64"),
    kernel("copy and transposition", 0, "Half 8", "", "Half 8"),
)


def test_cases_have_the_sizes_operations_and_bytes_of_the_kernels() -> None:
    cases = {(case.kind, case.precision, case.sizes): case for case in cases_of([*KERNELS, KERNELS[0]])}
    product = cases[GEMM, "BFloat16", (32, 48, 64)]
    assert (product.flops, product.nbytes, product.count) == (196608, 2 * (32 * 64 + 64 * 48 + 32 * 48), 2)
    assert cases[GEMM, "Int8", (32, 48, 64)].nbytes == 32 * 64 + 64 * 48 + 4 * 32 * 48
    attention = cases[ATTENTION, "Half", (2, 96, 64, 32)]
    assert attention.flops == 2 * 2 * (2 * 96 * 64 * 32)
    smaller, larger = cases[CONV, "Half", (1, 12, 16, 8, 8, 3, 2)], cases[CONV, "Half", (1, 12, 6, 8, 8, 4, -2)]
    assert smaller.flops == 2 * (16 * 12 * 9) * 16
    assert larger.flops == 2 * (12 * 6 * 16) * 64
    assert cases[ELEMENTWISE, "Float", (2048,)].nbytes == 2048 * 8
    assert {kind for kind, _, _ in cases} == {GEMM, ATTENTION, CONV, ELEMENTWISE}


class Moved(TorchFunctionMode):
    """Adds up the bytes of all tensors that functions of torch read and write; views move nothing."""

    nbytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        read = [each for each in (*args, *kwargs.values()) if isinstance(each, torch.Tensor)]
        if isinstance(made, torch.Tensor) and made.data_ptr() not in [each.data_ptr() for each in read]:
            self.nbytes += sum(each.nbytes for each in (*read, made) if each.numel() > 1)  # a scale is no traffic
        return made


@pytest.mark.parametrize("kind", [GEMM, ATTENTION, CONV, ELEMENTWISE])
def test_what_runs_moves_the_bytes_that_are_counted(kind: str) -> None:
    cases = [case for case in cases_of(KERNELS) if case.kind == kind]
    assert cases
    for case in cases:
        run = make(case, CPU)
        with torch.inference_mode(), Moved() as moved:
            run()
        assert moved.nbytes == case.nbytes, case


class PlayedGpu:
    """A GPU that takes 3 us for a kernel, and a host that takes 20 us to launch one; both have a clock."""

    def __init__(self) -> None:
        self.host = self.gpu = 0.0

    def launch(self, seconds: float = 3e-6) -> float:
        self.host += 20e-6
        self.gpu = max(self.gpu, self.host) + seconds
        return self.gpu

    def sleep(self, cycles: int) -> None:
        self.launch(cycles / 2e9)

    def event(self, **_: object) -> Any:
        return PlayedEvent(self)


class PlayedEvent:
    def __init__(self, gpu: PlayedGpu) -> None:
        self._gpu, self.at = gpu, 0.0

    def record(self) -> None:
        self.at = self._gpu.launch(0.0)

    def synchronize(self) -> None:
        self._gpu.host = max(self._gpu.host, self.at)

    def elapsed_time(self, other: PlayedEvent) -> float:
        return (other.at - self.at) * 1e3


def test_the_time_of_a_short_kernel_is_not_that_of_its_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = PlayedGpu()
    monkeypatch.setattr(torch.cuda, "Event", gpu.event)
    monkeypatch.setattr(torch.cuda, "_sleep", gpu.sleep)
    assert seconds_of(gpu.launch, torch.device("cuda")) == pytest.approx(3e-6)
    assert seconds_of(lambda: gpu.launch(5e-3), torch.device("cuda")) == pytest.approx(5e-3)


def test_short_runs_are_timed_together() -> None:
    assert [runs_together(seconds) for seconds in (0.0, 1e-6, 5e-4, 2e-3, 1.0)] == [20, 20, 4, 1, 1]


@pytest.mark.parametrize("precision", ["BFloat16", "Int8"])
def test_a_product_multiplies_its_sizes(precision: str) -> None:
    (case,) = (case for case in products(32, 48, 64) if case.precision == precision)
    result = make(case, CPU)()
    assert isinstance(result, torch.Tensor)
    assert result.shape == (32, 48)


@pytest.mark.parametrize(
    ("image", "weights", "result"),
    [
        ((1, 12, 8, 8), (16, 12, 3, 3), (1, 16, 8, 8)),
        ((1, 12, 8, 8), (16, 12, 3, 3), (1, 16, 4, 4)),
        ((2, 12, 8, 6), (12, 6, 4, 4), (2, 6, 16, 12)),
        ((1, 12, 8, 8), (16, 12, 2, 2), (1, 16, 4, 4)),
    ],
)
def test_a_convolution_gives_what_the_compiler_lists(
    image: tuple[int, ...], weights: tuple[int, ...], result: tuple[int, ...]
) -> None:
    done = make(convolution(image, weights, result), CPU)()
    assert isinstance(done, torch.Tensor)
    assert done.shape == result


def test_the_efficiency_of_a_class_weighs_its_kernels_by_time() -> None:
    often, seldom = (Case(GEMM, "FP8", (size,), 10**9, 10**6, count) for size, count in ((1, 3), (2, 1)))
    timed = [Timed(often, 2.0, 1.0), Timed(seldom, 4.0, 4.0), Timed(Case(CONV, "Half", (3,), 1, 1), 1.0, None)]
    assert by_class(timed) == {(GEMM, "FP8"): (3 * 1.0 + 4.0) / (3 * 2.0 + 4.0)}
    lines = table(timed)
    assert lines[1].endswith("50%")
    assert lines[3].endswith("-")
    assert lines[4] == "all gemm in FP8: 70% of the roofline"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    stage = CompiledStage("dit", 0, 1, {}, KERNELS)
    path = tmp_path / "dit.report.json"
    path.write_text(EngineReport("TensorRT-RTX 1", "SM120", 1, 1, 1.0, None, (stage,)).to_json())
    return path


def test_shapes_that_are_written_are_read_again(report: Path, tmp_path: Path) -> None:
    written = tmp_path / "shapes.json"
    assert CliRunner().invoke(main, [str(report), "--shapes", str(written)]).exit_code == 0
    assert read_shapes(written) == read_cases([report])


def test_the_published_network_has_its_shapes() -> None:
    """Blocks 3072 wide with 14336 in the feed-forward part, heads of 128, and 24 or 28 frames of 1920x1080."""
    cases = read_shapes(SHAPES)
    assert {case.kind for case in cases} == {GEMM, ATTENTION, CONV, ELEMENTWISE}
    blocks = [case for case in cases if case.kind == GEMM and case.precision == "FP8"]
    assert {(case.sizes[1], case.sizes[2]) for case in blocks} >= {(3072, 3072), (14336, 3072), (3072, 14336)}
    assert all(case.flops == 2 * math.prod(case.sizes) for case in blocks)
    norms = [case for case in cases if case.kind == ELEMENTWISE]
    assert {(case.precision, case.nbytes // case.sizes[0]) for case in norms} == {("Float", 8), ("BFloat16", 4)}
    assert all(case.sizes[3] == 128 for case in cases if case.kind == ATTENTION)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_one_line_says_so(report: Path) -> None:
    with pytest.raises(MisuseError, match="finds no NVIDIA GPU"):
        choose_device("cuda")
    ended = CliRunner().invoke(main, [str(report)])
    assert ended.exit_code == 1
    assert ended.output.startswith("Error: torch ")
    assert ended.output.count("\n") == 1


def test_a_run_on_the_cpu_says_that_it_is_no_figure(report: Path, tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    ended = CliRunner().invoke(main, [str(report.parent), "--device", "cpu", "--json", str(written)])
    assert ended.exit_code == 0, ended.output
    assert ended.output.startswith(NOT_A_GPU)
    record = json.loads(written.read_text())
    assert record["gpu"] == NOT_A_GPU
    assert {row["kind"] for row in record["kernels"]} >= {GEMM, CONV, ELEMENTWISE}
    assert all(row["of_roofline"] is None and row["seconds"] > 0 for row in record["kernels"])


def test_a_folder_without_reports_is_refused(tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, [str(tmp_path), "--device", "cpu"])
    assert ended.exit_code == 1
    assert "expected a bundle of engines" in ended.output
