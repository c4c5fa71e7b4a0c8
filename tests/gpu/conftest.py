"""What the tests of a real GPU run on. `--rehearse` puts the CPU in its place, which tests the tests.

A *route* is a way to run on this GPU: graphs by ONNX Runtime, or engines in one precision. A route that this machine
does not have is skipped with the reason.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, MisuseError
from swiftvr_trt.engines.doctor import has_driver
from swiftvr_trt.engines.targets import TARGETS, check_buildable

from ..conftest import CheckpointFactory

ROUTES = ("graphs-fp32", "engines-fp16", "engines-bf16", "engines-fp8")
SIZE, CLIP_LEN = "320x180", 8
FRAME = (90, 160)
"""Height and width of the frames that go in."""


@dataclass(frozen=True)
class Route:
    """A bundle, the device that runs it, its checkpoint, that one's bundle in float32 on the CPU, and how long to try.

    least_psnr: what the frames of both must agree to, in dB.
    """

    bundle: Bundle
    device: str
    checkpoint: Path
    reference: Bundle
    least_psnr: float
    chunks: int


_LEAST_PSNR = {"fp32": 55.0, "fp16": 40.0, "bf16": 35.0, "fp8": 25.0}
"""The checkpoint has random weights, which amplify rounding more than trained ones do: these catch what is broken."""

Builder = Callable[[str, str], Bundle]


@pytest.fixture(scope="session")
def rehearsal(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--rehearse"))


@pytest.fixture(scope="session")
def builder(
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
    rehearsal: bool,
) -> Builder:
    """(target, precision) -> a bundle, built by the command that users type."""
    kept = request.config.getoption("--gpu-bundles")
    place = Path(kept) if kept else tmp_path_factory.mktemp("gpu")

    @cache
    def build(target: str, precision: str) -> Bundle:
        path = place / f"{target}-{precision}"
        if not (path / "manifest.json").exists():
            command = [sys.executable, "-m", "swiftvr_trt.export.cli", "build-engine", "--quiet", "-o", str(path)]
            command += ["--checkpoint", str(_checkpoint(request, rehearsal)), "--resolution", SIZE]
            command += ["--clip-len", str(CLIP_LEN), "--target", target, "--precision", precision]
            subprocess.run(command, check=True)
        return Bundle.open(path)

    return build


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
    target = "cuda" if kind == "graphs" else _engine_target()
    try:
        check_buildable(target, precision)
    except MisuseError as error:
        pytest.skip(str(error))
    if kind == "graphs":
        _need_cuda_provider()
    return Route(builder(target, precision), "cuda", checkpoint, reference, _LEAST_PSNR[precision], 1000)


def _need_cuda_provider() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is not installed")


def _engine_target() -> str:
    """The target of this GPU whose compiler is here: an RTX card's, or that of whatever GPU this is."""
    from swiftvr_trt.runtime.gpu import Gpu

    capability = Gpu(0).compute_capability
    if find_spec("tensorrt_rtx") is not None:
        for target in TARGETS:
            if target.compiler == "TensorRT-RTX" and target.compute_capability == capability:
                return target.name
    if find_spec("tensorrt") is None:
        pytest.skip(f"neither TensorRT nor TensorRT-RTX for compute capability {capability} is installed")
    return "local"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a GPU, tests that need one are skipped, and say so."""
    if config.getoption("--rehearse") or has_driver():
        return
    skip = pytest.mark.skip(reason="no NVIDIA driver was found")
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(skip)
