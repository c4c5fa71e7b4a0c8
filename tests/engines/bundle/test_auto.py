"""`--target auto`: the right bundle for every machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle.auto import Choice, Host, choose_for
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.pipeline_memory import PUBLISHED_PARAMETERS, gpu_bytes_by_target
from swiftvr_trt.engines.bundle.targets import find_target
from swiftvr_trt.installing import PACKAGES, install_command

EVERYTHING = frozenset(PACKAGES)
RTX, TENSORRT, GRAPHS = EVERYTHING - {"tensorrt"}, EVERYTHING - {"rtx"}, EVERYTHING - {"rtx", "tensorrt"}
SIZES = {"720p": Resolution(1280, 720), "1080p": Resolution(1920, 1080), "4K": Resolution(3840, 2160)}


def choices(host: Host, size: str = "1080p", precision: str | None = None) -> tuple[Choice, ...]:
    """For the published weights."""
    needed = gpu_bytes_by_target(PUBLISHED_PARAMETERS, SIZES[size], 24, overlap=host.overlap)
    return choose_for(host, precision, needed)


def host(capability: str, gigabytes: float | None, extras: frozenset[str]) -> Host:
    return Host(f"GPU {capability}", "", capability, None if gigabytes is None else int(gigabytes * 1e9), extras)


@pytest.mark.parametrize(
    ("capability", "gigabytes", "extras", "size", "chosen"),
    [
        # Everything for engines of TensorRT-RTX: the series of the card, in FP8 where it has FP8.
        ("7.5", 12, RTX, "1080p", "rtx2080 fp16"),
        ("7.5", 8, RTX, "1080p", "rtx2080 int8"),  # FP16 takes 10 GB
        ("8.6", 12, RTX, "1080p", "rtx3090 fp16"),
        ("8.6", 24, RTX, "4K", "rtx3090 fp16"),
        ("8.6", 8, RTX, "720p", "rtx3090 int8"),
        ("8.6", 5, RTX, "1080p", "cpu fp32"),  # there is nothing smaller than 8 bits
        ("8.9", 8, RTX, "1080p", "rtx4090 fp8"),
        ("8.9", 12, RTX, "1080p", "rtx4090 fp8"),
        ("8.9", 24, RTX, "4K", "rtx4090 fp8"),
        ("8.9", 8, RTX, "4K", "cpu fp32"),
        ("12.0", 8, RTX, "1080p", "rtx5090 fp8"),
        ("12.0", 5, RTX, "1080p", "rtx5090 nvfp4"),  # FP8 does not fit, FP4 does
        ("12.0", 12, RTX, "4K", "rtx5090 fp8"),
        ("12.0", 32, RTX, "4K", "rtx5090 fp8"),
        ("12.1", 80, RTX, "4K", "sm121 fp8"),
        ("8.0", 80, RTX, "4K", "sm80 fp16"),
        # TensorRT-RTX builds nothing for data centres from Hopper on.
        ("9.0", 80, RTX, "4K", "cuda fp16"),
        ("9.0", 80, TENSORRT, "4K", "h100 fp8"),
        ("10.0", 80, TENSORRT, "4K", "local fp8"),
        ("8.0", 80, TENSORRT, "4K", "local fp16"),
        ("12.0", 32, TENSORRT, "4K", "local fp8"),
        ("8.9", 24, EVERYTHING, "4K", "rtx4090 fp8"),
        # Without a compiler: ONNX Runtime on the GPU.
        ("8.9", 24, GRAPHS, "1080p", "cuda fp16"),
        # It holds the transformer twice: 16.5 GB in FP16.
        ("7.5", 12, GRAPHS, "1080p", "cpu fp32"),
        ("8.9", 16, GRAPHS, "720p", "cpu fp32"),
        ("8.9", 20, GRAPHS, "720p", "cuda fp16"),
        ("8.9", 24, GRAPHS, "4K", "cpu fp32"),
        ("9.0", 80, GRAPHS, "4K", "cuda fp16"),
        # Without a package that speaks to the driver: the CPU.
        ("12.0", 32, EVERYTHING - {"cuda"}, "1080p", "cpu fp32"),
        ("12.0", 32, frozenset({"cpu"}), "1080p", "cpu fp32"),
        # A driver that does not say how much memory is free is believed to have enough.
        ("12.0", None, RTX, "4K", "rtx5090 fp8"),
        # Cards that none of our engines are for.
        ("7.0", 32, RTX, "1080p", "cuda fp16"),
    ],
)
def test_the_best_bundle(
    capability: str, gigabytes: float | None, extras: frozenset[str], size: str, chosen: str
) -> None:
    first = choices(host(capability, gigabytes, extras), size)[0]
    assert f"{first.target.name} {first.precision}" == chosen


@pytest.mark.parametrize(
    ("capability", "driver", "installed", "extras", "chosen"),
    [
        # ONNX Runtime is for CUDA 13, and TensorRT for what its package says.
        ("9.0", "12.4", {"cuda-bindings": "12.9.4"}, GRAPHS, "cpu"),
        ("9.0", "13.0", {"cuda-bindings": "12.9.4"}, GRAPHS, "cuda"),
        ("9.0", "12.4", {"cuda-bindings": "12.9.4", "tensorrt-cu12": "10.9"}, TENSORRT, "h100"),
        ("9.0", "12.4", {"cuda-bindings": "12.9.4", "tensorrt-cu13": "10.14"}, TENSORRT, "cpu"),
        ("8.9", "12.4", {"cuda-bindings": "12.9.4", "tensorrt-rtx-cu12": "1.7"}, RTX, "rtx4090"),
        ("8.9", "12.4", {"cuda-bindings": "12.9.4", "tensorrt-rtx-cu13": "1.7"}, RTX, "cpu"),
        ("8.9", "13.0", {"cuda-bindings": "13.1.1", "tensorrt-rtx-cu13": "1.7"}, RTX, "rtx4090"),
        ("8.9", "12.4", {"cuda-bindings": "13.1.1", "tensorrt-rtx-cu12": "1.7"}, RTX, "cpu"),
        # The series of the card takes a newer driver than its packages.
        ("12.0", "12.6", {"cuda-bindings": "12.9.4", "tensorrt-rtx-cu12": "1.7"}, RTX, "cpu"),
        ("12.0", "12.8", {"cuda-bindings": "12.9.4", "tensorrt-rtx-cu12": "1.7"}, RTX, "rtx5090"),
        # A driver that does not say which CUDA version it offers is believed to be new enough.
        ("8.9", None, {"cuda-bindings": "13.1.1", "tensorrt-rtx-cu13": "1.7"}, RTX, "rtx4090"),
    ],
)
def test_the_driver_must_be_new_enough(
    capability: str, driver: str | None, installed: dict[str, str], extras: frozenset[str], chosen: str
) -> None:
    machine = replace(host(capability, 80, extras), driver_cuda=driver, packages=installed)
    assert choices(machine)[0].target.name == chosen


@pytest.mark.parametrize(
    ("extras", "installed", "said"),
    [
        (
            EVERYTHING,
            {"cuda-bindings": "12.9.4", "tensorrt-rtx-cu13": "1.7"},
            "TensorRT-RTX engines (target rtx4090) would need NVIDIA driver version 580 or newer, this one is for CUDA "
            "12.4: update the driver, https://www.nvidia.com/drivers",
        ),
        (
            EVERYTHING,
            {"cuda-bindings": "13.1.1", "tensorrt-rtx-cu12": "1.7"},
            "TensorRT-RTX engines (target rtx4090) would need NVIDIA driver version 580 or newer, this one is for CUDA "
            f"12.4: {install_command('cuda12')}, or update the driver, https://www.nvidia.com/drivers",
        ),
        # What would have to be installed suits the driver.
        (
            frozenset({"cpu"}),
            {},
            f"TensorRT-RTX engines (target rtx4090) should be faster: {install_command('rtx', 'cuda12')}",
        ),
    ],
)
def test_the_reason_says_what_a_driver_lacks(extras: frozenset[str], installed: dict[str, str], said: str) -> None:
    machine = replace(host("8.9", 80, extras), driver_cuda="12.4", packages=installed)
    assert f"({said})" in choices(machine, precision=None)[-1].reason


def test_what_is_tried_next_if_a_build_fails() -> None:
    tried = choices(host("8.9", 24, EVERYTHING))
    assert [(one.target.name, one.precision) for one in tried] == [
        ("rtx4090", "fp8"),
        ("local", "fp8"),
        ("cuda", "fp16"),
        ("cpu", "fp32"),
    ]


def test_the_reason_says_what_would_be_faster() -> None:
    assert choices(Host())[0].reason == "no NVIDIA GPU was found: the CPU restores with ONNX Runtime in fp32"
    assert choices(host("8.9", 24, RTX))[0].reason == "TensorRT-RTX engines (target rtx4090) in fp8 on the GPU 8.9"
    assert choices(host("8.9", 24, GRAPHS))[0].reason == (
        "ONNX Runtime in fp16 on the GPU 8.9 (TensorRT-RTX engines (target rtx4090) should be faster: "
        f"{install_command('rtx')})"
    )
    assert choices(host("9.0", 24, frozenset()))[0].reason == (
        "the CPU restores with ONNX Runtime in fp32 (TensorRT engines (target h100) should be faster: "
        f"{install_command('tensorrt', 'cuda')})"
    )
    assert choices(host("8.9", 6, RTX), "4K")[0].reason == (
        "the CPU restores with ONNX Runtime in fp32 (TensorRT-RTX engines (target rtx4090) would need 11.23 GB of GPU "
        "memory, 6.00 GB are free: choose a smaller --resolution or --clip-len, or close other programs)"
    )


@pytest.mark.parametrize(
    ("capability", "precision", "chosen"),
    [
        ("8.9", "fp16", "rtx4090"),
        ("8.9", "bf16", "rtx4090"),
        ("8.9", "fp32", "cuda"),  # engines have no FP32
        ("12.0", "nvfp4", "rtx5090"),
        ("9.0", "fp8", "h100"),
    ],
)
def test_a_precision_that_is_wanted(capability: str, precision: str, chosen: str) -> None:
    first = choices(host(capability, 80, EVERYTHING), precision=precision)[0]
    assert (first.target.name, first.precision) == (chosen, precision)


@pytest.mark.parametrize(
    ("where", "precision", "said"),
    [
        (Host(), "fp8", "precision fp8 is not available for target cpu; it takes: fp32"),
        (
            host("8.9", 24, EVERYTHING),
            "nvfp4",
            r"nvfp4 is not available for target rtx4090 \(SM89 cannot compute in it\)",
        ),
        (host("8.9", 2, RTX), "fp8", r"precision fp8 cannot be used on this machine now: .* GB are free: choose"),
        (host("8.9", 24, frozenset()), "fp16", r"precision fp16 cannot be used .* should be faster: pip install"),
        (host("7.0", 24, EVERYTHING), "nvfp4", "precision nvfp4 is not available"),
    ],
)
def test_a_precision_that_nothing_here_takes(where: Host, precision: str, said: str) -> None:
    with pytest.raises(MisuseError, match=said):
        choices(where, precision=precision)


def test_a_run_that_also_uses_the_cpu_takes_graphs() -> None:
    mixed = replace(host("8.9", 24, EVERYTHING), engines=False)
    assert [one.target.name for one in choices(mixed)] == ["cuda", "cpu"]


@pytest.mark.parametrize(
    ("gigabytes", "overlap", "chosen"), [(6.0, False, "fp8"), (6.0, True, "nvfp4"), (6.5, True, "fp8")]
)
def test_overlap_takes_memory(gigabytes: float, overlap: bool, chosen: str) -> None:
    assert choices(replace(host("12.0", gigabytes, RTX), overlap=overlap))[0].precision == chosen


@pytest.mark.parametrize(
    ("where", "precision", "why"),
    [
        (Host(), None, r"none can run here \(no NVIDIA GPU was found\); leave it out, frames are the same"),
        (host("8.9", 24, GRAPHS), None, r"\(TensorRT-RTX engines .* should be faster: pip install"),
        (host("8.9", 3, RTX), None, r"\(TensorRT-RTX engines .* GB are free: choose"),
        (host("8.9", 24, RTX), "fp32", r"\(the GPU 8.9 has none in fp32\)"),
        (replace(host("8.9", 24, RTX), engines=False), None, r"\(one device runs graphs only\)"),
    ],
)
def test_overlap_takes_engines(where: Host, precision: str | None, why: str) -> None:
    """Before anything is built: the user has not named a CPU, and would not understand that it has no engines."""
    with pytest.raises(MisuseError, match=f"--overlap takes engines, and .*{why}"):
        choices(replace(where, overlap=True), precision=precision)


def test_graphs_are_not_tried_for_overlap_if_a_build_fails() -> None:
    tried = choices(replace(host("8.9", 24, EVERYTHING), overlap=True))
    assert [one.target.name for one in tried] == ["rtx4090", "local"]


@pytest.mark.parametrize("capability", ["7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0", "12.1"])
def test_every_choice_can_be_built(capability: str) -> None:
    for one in choices(host(capability, 200, EVERYTHING)):
        assert one.precision in one.target.precisions
        assert find_target(one.target.name) is one.target
