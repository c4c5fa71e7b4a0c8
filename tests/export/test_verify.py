"""`verify` of engines: on an emulated driver, with a stand-in for TensorRT that runs the graphs they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, MachineError, MisuseError, Restorer
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.pixel_formats import TAKES, given_formats
from swiftvr_trt.export import verify as module
from swiftvr_trt.export.network.checkpoint import load_checkpoint
from swiftvr_trt.export.verify import Comparison, verification_device, verify_bundle
from swiftvr_trt.runtime.devices.cuda import CudaDevice
from swiftvr_trt.runtime.devices.driver import has_driver
from swiftvr_trt.runtime.devices.tensorrt import TensorRTProvider
from swiftvr_trt.runtime.restore.restorer import OpenOptions
from swiftvr_trt.runtime.stream.buffers import BufferKind, BufferSpec, View, plan_buffers
from swiftvr_trt.runtime.stream.program import Download, Upload
from tests.conftest import BundleFactory
from tests.cuda_emulator import emulated
from tests.engines.fakes import RECIPE
from tests.mini import other_weights
from tests.runtime.devices.cuda_lab import NO_CACHE
from tests.runtime.devices.fake_trt import FakeTensorRT, write_engine_bundle
from tests.sweeps import everything

SIZES = [(48, 32), (45, 37)]
"""Slots of buffers are aligned, and are not."""
NETWORK = ["encode", "dit", "dit_edge", "decode"]
Verify = Callable[[Bundle, Path], list[Comparison]]


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Verify]:
    """`verify` with the emulated GPU as the one that there is."""
    with emulated() as emulator:
        library = FakeTensorRT(emulator)

        def opened(bundle: Bundle, device: str, options: OpenOptions) -> CudaDevice:
            assert (device, options.threads) == ("cuda", None)
            return _device(bundle, library)

        def run(bundle: Bundle, checkpoint: Path) -> list[Comparison]:
            rows = list(verify_bundle(bundle, load_checkpoint(checkpoint), bundle.manifest.recipe.checkpoint))
            assert emulator.calls("cuGraphLaunch") > 0
            assert rows[-1].subject == "whole loop again, with CUDA graphs"
            assert (rows[-1].largest, rows[-1].expected, rows[-1].passed) == (0, "<= 0", True)
            assert library.problems == []
            return rows

        monkeypatch.setattr(module, "open_device", opened)
        yield run


@pytest.mark.cuda_emulator
@pytest.mark.parametrize("size", SIZES if everything() else SIZES[1:], ids=str)
def test_engines_are_verified_on_the_gpu(
    on_gpu: Verify, mini_bundle: BundleFactory, mini_checkpoint: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    rows = on_gpu(write_engine_bundle(tmp_path / "engines", mini_bundle(*size, 8)), mini_checkpoint)
    found = list(dict.fromkeys(row.subject for row in rows))
    pixel_stages = [*TAKES, *(form.give for form in given_formats(size[1], size[0]))]
    assert found[-6:] == [*NETWORK, "whole loop, 25 frames", "whole loop again, with CUDA graphs"]
    assert sorted(found[:-6]) == sorted(pixel_stages)
    assert [row for row in rows if not row.passed] == []


@pytest.mark.cuda_emulator
def test_engines_of_other_weights_fail(
    on_gpu: Verify, mini_bundle: BundleFactory, mini_checkpoint: Path, tmp_path: Path
) -> None:
    other = other_weights(mini_checkpoint, tmp_path / "other")
    rows = on_gpu(write_engine_bundle(tmp_path / "engines", mini_bundle(*SIZES[0], 8)), other)
    assert [row.subject for row in rows if not row.passed] == ["decode", "whole loop, 25 frames"]


@pytest.mark.cuda_emulator
def test_buffers_in_bfloat16_are_bytes_to_the_host(mini_bundle: BundleFactory, tmp_path: Path) -> None:
    """Engines in bf16 have states in it; NumPy knows of such memory only that an element has two bytes."""
    engines = write_engine_bundle(tmp_path / "engines", mini_bundle(*SIZES[0], 8))
    states = BufferSpec(BufferKind.STATE, (2, 3, 4), "bfloat16", host=True)
    with emulated() as emulator, Restorer(_device(engines, FakeTensorRT(emulator)), engines.manifest) as restorer:
        assert restorer._device is not None
        planned = plan_buffers(engines.manifest, 30, 40)
        workspace = restorer._device.workspace({**planned, "states": states})
        view = View("states", 0, 2)
        seen = module._bytes_of(workspace, view)
        seen[...] = range(48)
        workspace.record([Upload(view)]).replay()
        seen[...] = 0
        workspace.record([Download(view)]).replay()
        assert list(module._bytes_of(workspace, view)) == list(range(48))
        workspace.close()
        del seen


def _device(bundle: Bundle, library: FakeTensorRT) -> CudaDevice:
    return CudaDevice(bundle, TensorRTProvider(library, NO_CACHE))


@pytest.mark.parametrize(
    ("target", "device", "chosen"),
    [("onnx", None, "cpu"), ("cuda", None, "cpu"), ("cuda", "cuda:1", "cuda:1"), ("rtx5090", None, "cuda")],
)
def test_the_device_that_runs_a_bundle(
    monkeypatch: pytest.MonkeyPatch, target: str, device: str | None, chosen: str
) -> None:
    monkeypatch.setattr(module, "require_driver", lambda: None)
    assert verification_device(replace(RECIPE, target=target), device) == chosen


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(MisuseError, match="expected cpu, cuda, or cuda:N"):
        verification_device(RECIPE, "tpu")


@pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver")
def test_engines_without_a_driver_are_refused() -> None:
    with pytest.raises(MachineError, match="no NVIDIA driver was found"):
        verification_device(replace(RECIPE, target="rtx5090"), None)


def test_the_coarser_part_of_a_bundle_sets_the_floor() -> None:
    recipe = Recipe("0" * 64, 128, 128, 8, "fp16", "onnx")
    assert module._coarsest(recipe) == "fp16"
    assert module._coarsest(replace(recipe, autoencoder="int8")) == "int8"
    assert module._coarsest(replace(recipe, precision="nvfp4", autoencoder="int8")) == "nvfp4"
