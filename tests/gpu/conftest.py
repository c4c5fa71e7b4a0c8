"""Bundles and devices for the GPU tests. `--rehearse` uses the CPU instead, to test the tests.

A *route* is a way to run on this GPU, see `ROUTES`. Routes that this machine lacks are skipped with the reason.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.processes import run
from swiftvr_trt import Bundle, MisuseError
from swiftvr_trt.benchmarks.suite import likeness
from swiftvr_trt.engines.bundle.drivers import driver_needs
from swiftvr_trt.engines.bundle.targets import TARGETS, TENSORRT_MODULES, choose_target, multiplies_in
from swiftvr_trt.installing import optional_packages
from swiftvr_trt.runtime.devices.driver import find_driver, has_driver
from swiftvr_trt.runtime.stream.session import Frame
from tests.conftest import CheckpointFactory

from . import ROUTES

SIZE, CLIP_LEN = "320x180", 8
FRAME = (90, 160)
"""Height and width of the frames that go in."""


@dataclass(frozen=True)
class Route:
    """A bundle, the device that runs it and what to compare with.

    reference      bundle of the same checkpoint, in float32 for the CPU
    least_psnr     how well the frames of both must agree, in dB
    chunks         how many to run when watching the memory
    """

    bundle: Bundle
    device: str
    checkpoint: Path
    reference: Bundle
    least_psnr: float
    chunks: int


_LEAST_PSNR = {"fp32": 55.0, "fp16": 40.0, "bf16": 35.0, "fp8": 25.0, "int8": 25.0, "nvfp4": 12.0}
"""Low, because random weights amplify rounding more than trained ones do. These limits catch what is broken."""

Builder = Callable[[str, str], Bundle]
Record = Callable[[str, object], None]

_BUILD_SECONDS = 300
"""Most bundles take 20 s on two cores; TensorRT tries kernels out and may take minutes."""


def psnr(ours: list[Frame], theirs: list[Frame]) -> float:
    """Of all frames, in dB; 100 if they are equal, since JSON has no infinity."""
    return min(likeness.psnr(ours, theirs), 100.0)


@pytest.fixture(scope="session")
def rehearsal(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--rehearse"))


@pytest.fixture(scope="session")
def builder(
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
    rehearsal: bool,
) -> Builder:
    """(target, precision) -> a bundle, built with the command line."""
    kept = request.config.getoption("--gpu-bundles")
    place = Path(kept) if kept else tmp_path_factory.mktemp("gpu")

    @cache
    def build(target: str, precision: str) -> Bundle:
        path = place / f"{target}-{precision}"
        if not (path / "manifest.json").exists():
            command = [sys.executable, "-m", "swiftvr_trt.cli.export", "build-engine", "-y", "-o", str(path)]
            command += ["--checkpoint", str(_checkpoint(request, rehearsal)), "--resolution", SIZE]
            command += ["--clip-len", str(CLIP_LEN), "--target", target, "--precision", precision]
            run_build(command, _BUILD_SECONDS * (10 if rehearsal else 1))  # on a CPU that may be busy
        return Bundle.open(path)

    return build


def run_build(command: list[str], limit: float) -> None:
    """Run a build command. If it fails, the test fails with the end of its output, which holds the reason."""
    ended = run(command, limit)
    if ended.code:
        pytest.fail(f"{ended.output}\nthe build failed, {ended.why}", pytrace=False)


def _checkpoint(request: pytest.FixtureRequest, rehearsal: bool) -> Path:
    if rehearsal:
        return Path(request.getfixturevalue("mini_checkpoint"))
    make: CheckpointFactory = request.getfixturevalue("oracle_checkpoint")
    return make()


@pytest.fixture(scope="session", params=ROUTES)
def route(request: pytest.FixtureRequest, builder: Builder, rehearsal: bool) -> Route:
    kind, precision = request.param.split("-")
    reference, checkpoint = builder("cpu", "fp32"), _checkpoint(request, rehearsal)
    if rehearsal:
        if kind == "engines":
            pytest.skip("there are no engines for the CPU")
        return Route(reference, "cpu", checkpoint, reference, _LEAST_PSNR[precision], 20)
    if kind == "graphs":
        _need_cuda_provider()
    target = "cuda" if kind == "graphs" else _target_of_engines(precision)
    return Route(builder(target, precision), "cuda", checkpoint, reference, _LEAST_PSNR[precision], 1000)


def _target_of_engines(precision: str) -> str:
    from swiftvr_trt.runtime.devices.gpu import Gpu

    capability = Gpu(0).compute_capability
    target = engine_target(capability, _compilers())
    if target is None:
        pytest.skip(f"neither TensorRT nor TensorRT-RTX for compute capability {capability} is installed")
    if problem := why_not(target, precision, capability):
        pytest.skip(problem)
    return target


def _compilers() -> set[str]:
    """Those that are installed."""
    return {compiler for compiler, module in TENSORRT_MODULES.items() if find_spec(module) is not None}


def engine_target(capability: str, compilers: Collection[str]) -> str | None:
    """The target for a GPU whose compiler is among these: that of its card, or else `local`; None without one."""
    usable = [target for target in TARGETS if target.compiled and target.compiler in compilers]
    fitting = [target.name for target in usable if target.compute_capability in (capability, None)]
    return next(iter(fitting), None)  # `local`, which has no capability, is the last of all


def why_not(target: str, precision: str, capability: str) -> str | None:
    """Why engines for a target cannot be in a precision on a GPU; None if they can."""
    try:
        choose_target(target, precision)
    except MisuseError as error:
        return str(error)
    if not multiplies_in(precision, capability):  # `local` takes all
        return f"a GPU of compute capability {capability} does not multiply in {precision}"
    return None


def _need_cuda_provider() -> None:
    import onnxruntime

    driver = find_driver()
    needs = driver_needs("gpu", None, optional_packages(), driver.cuda if driver else None)
    if needs.too_old:
        pytest.skip(f"graphs on a GPU need an NVIDIA driver of {needs.wanted}, this one is for CUDA {needs.offered}")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is not installed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that need a GPU where there is none."""
    if config.getoption("--rehearse") or has_driver():
        return
    skip = pytest.mark.skip(reason="no NVIDIA driver was found")
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(skip)
