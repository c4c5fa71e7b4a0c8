"""A machine that lacks something: every way to ask for a GPU ends in one line that says what, and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, BundleError, MachineError, MissingPackageError, MisuseError, Restorer
from swiftvr_trt.engines.bundle.targets import RTX, TRT
from swiftvr_trt.engines.compile.parent import CompileJob, compile_engine
from swiftvr_trt.runtime.devices.compatible import Environment, check_compatible
from swiftvr_trt.runtime.devices.driver import has_driver
from swiftvr_trt.runtime.devices.gpu import Gpu, gpu_index
from swiftvr_trt.runtime.devices.tensorrt import TensorRTEngines, import_tensorrt
from swiftvr_trt.runtime.stream.plan import plan_memory
from tests.clips import write_clip
from tests.conftest import BundleFactory
from tests.engines.graphs import graph, node, ones, save

from .fake_trt import VERSION, write_engine_bundle

driverless = pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory, mini_bundle: BundleFactory) -> Bundle:
    return write_engine_bundle(tmp_path_factory.mktemp("engines") / "bundle", mini_bundle())


@driverless
@pytest.mark.parametrize("device", [None, "cuda", "cuda:0", "cuda:7"])
def test_engines_without_a_driver(engines: Bundle, device: str | None) -> None:
    with pytest.raises(MachineError, match=r"no NVIDIA driver was found.*install it from https://\S+nvidia"):
        Restorer.open(engines, device=device)


@driverless
@pytest.mark.parametrize("device", [[], ["--device", "cuda:0"]])
def test_the_command_line_says_it_in_one_line(engines: Bundle, tmp_path: Path, device: list[str]) -> None:
    clip, output = write_clip(tmp_path / "in.mp4", frames=5), tmp_path / "out.mp4"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "swiftvr_trt.cli.run",
        clip,
        output,
        "--bundle",
        engines.path,
        "-q",
        *device,
    ]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: no NVIDIA driver was found")
    assert not output.exists()


def test_engines_do_not_run_on_the_cpu(engines: Bundle) -> None:
    with pytest.raises(BundleError, match=r"holds engines for target rtx5090.*--target cpu"):
        Restorer.open(engines, device="cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", "cpu:0", ""])
def test_a_device_that_is_none(engines: Bundle, device: str) -> None:
    with pytest.raises(MisuseError, match=r"expected cpu, cuda, or cuda:N"):
        gpu_index(device)
    if device:
        with pytest.raises(MisuseError, match=r"expected cpu, cuda, or cuda:N"):
            Restorer.open(engines, device=device)


def test_devices_have_numbers() -> None:
    assert [gpu_index(device) for device in ("cuda", "cuda:0", "cuda:12")] == [0, 0, 12]


@pytest.mark.parametrize(
    ("compiler", "message"),
    [
        (RTX, r'tensorrt-rtx.*pip install "swiftvr-trt\[rtx\]"'),
        (TRT, r'tensorrt.*pip install "swiftvr-trt\[tensorrt\]"'),
    ],
)
def test_a_missing_library(monkeypatch: pytest.MonkeyPatch, compiler: str, message: str) -> None:
    monkeypatch.setattr("importlib.import_module", _refuse)
    with pytest.raises(MissingPackageError, match=message):
        import_tensorrt(compiler)


def test_a_missing_cuda_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(MissingPackageError, match=r'cuda-core.*pip install "swiftvr-trt\[cuda\]"'):
        Gpu(0)


def test_an_unknown_compiler() -> None:
    with pytest.raises(BundleError, match="compiled by 'gcc', expected TensorRT-RTX or TensorRT"):
        import_tensorrt("gcc")


def _refuse(name: str) -> None:
    raise ImportError(name)


def _changed(bundle: Bundle, **fields: object) -> Bundle:
    toolchain = replace(bundle.manifest.toolchain, **fields)  # type: ignore[arg-type]
    return replace(bundle, manifest=replace(bundle.manifest, toolchain=toolchain))


HERE = Environment("RTX 5090", "12.0", "13.0", "tensorrt_rtx", VERSION, "13")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compute_capability": "8.9"}, r"capability 8.9 \(target rtx5090\), but RTX 5090 has 12.0; choose"),
        ({"compiler_version": "1.6"}, r"TensorRT-RTX 1.6, but \S+ is installed, .* install that version"),
        ({"cuda": "14"}, r"for CUDA 14, but the installed package is for CUDA 13; install tensorrt-rtx-cu14, or"),
        (
            {"driver_cuda": "13.1"},
            r"built with a driver for CUDA 13.1, but the driver here is for CUDA 13.0, .*; update the",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bundle_for_another_machine_names_what_differs_and_how_to_rebuild(
    engines: Bundle, change: dict[str, object], message: str
) -> None:
    check_compatible(engines, HERE)
    with pytest.raises(BundleError, match=message) as caught:
        check_compatible(_changed(engines, **change), HERE)
    assert engines.manifest.recipe.command() in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("library", "driver", "update"),
    [("13", "12.9", "version 580 or newer"), ("12", "11.8", "version 525 or newer"), ("15", "14.9", "one for CUDA 15")],
)
def test_a_driver_that_is_too_old_for_the_library(engines: Bundle, library: str, driver: str, update: str) -> None:
    any_minor_version = replace(HERE, library_cuda=library, driver_cuda=f"{library}.0")
    check_compatible(engines, any_minor_version)
    with pytest.raises(MachineError, match=f"driver is for CUDA {driver}, tensorrt-rtx-cu{library} needs .*{update}"):
        check_compatible(engines, replace(HERE, library_cuda=library, driver_cuda=driver))


@pytest.mark.parametrize(
    ("change", "here"),
    [
        ({"compute_capability": None}, HERE),
        ({"cuda": None, "driver_cuda": None}, HERE),
        ({"cuda": "12", "driver_cuda": "12.8"}, HERE),
        ({"cuda": "13", "driver_cuda": "13.0"}, HERE),
        ({"cuda": "14", "driver_cuda": "14.0"}, replace(HERE, driver_cuda=None, library_cuda=None)),
    ],
    ids=["no capability", "an older format", "older versions", "the same versions", "a machine that does not tell"],
)
def test_what_is_not_known_or_not_newer_is_not_held_against_a_bundle(
    engines: Bundle, change: dict[str, object], here: Environment
) -> None:
    check_compatible(_changed(engines, **change), here)


@driverless
def test_a_real_engine_is_refused_by_the_real_library_with_the_command_that_rebuilds_it(
    engines: Bundle, tmp_path: Path
) -> None:
    """Not more can be had of the library without a driver: its runtime, our logger, and the engine's validity."""
    library = pytest.importorskip("tensorrt_rtx")
    model = save(graph([node("MatMul", "x w", "y")], {"x": (8, 16)}, "y", {"w": ones(16, 8)}), tmp_path / "m.onnx")
    compile_engine(CompileJob(model, tmp_path / "encode.engine", RTX, "SM120"))
    with pytest.raises(
        BundleError, match=r"encode.engine: not valid on this machine: .*; rebuild the bundle"
    ) as caught:
        TensorRTEngines(library, replace(engines, path=tmp_path))
    assert engines.manifest.recipe.command() in str(caught.value)


def test_inspect_prints_the_bytes_that_a_stream_takes_on_the_gpu(engines: Bundle) -> None:
    command = [sys.executable, "-m", "swiftvr_trt.cli.export", "inspect", str(engines.path), "--json"]
    said = subprocess.run([*command, "--input-size", "57x33"], capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0, said.stderr
    told, plan = json.loads(said.stdout), plan_memory(engines.manifest, 33, 57)
    assert told["stream_bytes"] == plan.device.nbytes
    assert {b["name"]: b["offset"] for b in told["buffers"]} == plan.device.offsets
    assert {b["name"]: b["host_offset"] for b in told["buffers"] if b["host_offset"] is not None} == plan.host.offsets
    assert [b["over"] for b in told["buffers"]] == [spec.over for spec in plan.buffers.values()]
