"""Engines in TensorRT: loading and running them, and every way in which it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, BundleError, MachineError, MissingPackageError, StageError, SwiftVRError
from swiftvr_trt.engines.bundle.manifest import STAGES
from swiftvr_trt.engines.bundle.targets import RTX, TRT
from swiftvr_trt.engines.compile.compiler import CompileJob, compile_engine
from swiftvr_trt.installing import install_command
from swiftvr_trt.runtime.devices.kernel_cache import KernelCache
from swiftvr_trt.runtime.devices.tensorrt import TensorRTEngines, import_tensorrt
from tests.cuda_emulator import emulated
from tests.engines.graphs import graph, node, ones, save
from tests.runtime.clips import clip
from tests.sweeps import calls_to_fail

from .cuda_lab import Lab, driverless, is_clear, left, short_run
from .fake_trt import FakeTensorRT


@pytest.mark.parametrize(
    ("compiler", "message"),
    [
        (RTX, "tensorrt-rtx.*" + re.escape(install_command("rtx"))),
        (TRT, "tensorrt.*" + re.escape(install_command("tensorrt"))),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, compiler: str, message: str
) -> None:
    monkeypatch.setattr("importlib.import_module", _refuse)
    with pytest.raises(MissingPackageError, match=message):
        import_tensorrt(compiler)


def test_an_unknown_compiler_is_refused() -> None:
    with pytest.raises(BundleError, match="compiled by 'gcc', expected TensorRT-RTX or TensorRT"):
        import_tensorrt("gcc")


def _refuse(name: str) -> None:
    raise ModuleNotFoundError(name)


@driverless
def test_the_real_library_refuses_a_real_engine_without_a_gpu(engines: Bundle, tmp_path: Path) -> None:
    """Without a driver the library offers its runtime, our logger, and the validity of an engine; no more."""
    library = pytest.importorskip("tensorrt_rtx")
    model = save(graph([node("MatMul", "x w", "y")], {"x": (8, 16)}, "y", {"w": ones(16, 8)}), tmp_path / "m.onnx")
    compile_engine(CompileJob(model, tmp_path / "encode.engine", RTX, "SM120"))
    with pytest.raises(
        BundleError, match=r"encode.engine: not valid on this machine: .*; rebuild the bundle"
    ) as caught:
        TensorRTEngines(library, replace(engines, path=tmp_path))
    assert engines.manifest.recipe.command() in str(caught.value)


@pytest.mark.cuda_emulator
def test_kernels_are_compiled_once_and_kept(lab: Lab, tmp_path: Path) -> None:
    cache = KernelCache("bundle", "key", (tmp_path,))
    with emulated() as emulator:
        compiled = []
        for _ in range(2):
            library = FakeTensorRT(emulator)
            with lab.opened(emulator, library, kernel_cache=cache) as restorer:
                assert lab.same("short", list(restorer.restore(clip("short"))))
            compiled.append(library.compiled)
        assert compiled == [5, 0], "two of the pixel stages, and three engines of the network"
        (file,) = tmp_path.iterdir()
        file.write_bytes(b"damaged")
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library, kernel_cache=cache) as restorer:
            assert lab.same("short", list(restorer.restore(clip("short"))))
        assert library.compiled == 5
        assert cache.load() is not None


@pytest.mark.cuda_emulator
@pytest.mark.parametrize("rtx", [True, False], ids=["TensorRT-RTX", "TensorRT"])
def test_every_failing_call_of_tensorrt_names_the_stage_or_the_file(lab: Lab, rtx: bool) -> None:
    """Of each method, the first call, the last one and every fourth between them. All of them in a campaign."""
    with emulated() as emulator:
        library = FakeTensorRT(emulator, rtx=rtx)
        assert lab.same("edges", short_run(lab, emulator, library, graphs=False))
        calls = [(name, nth) for name, count in library.calls.items() for nth in range(1, count + 1)]
    assert len(calls) > 80
    best_effort = ("serialize", "deserialize", "reset")
    for name, nth in calls_to_fail(calls, 4):
        with emulated() as emulator:
            library = FakeTensorRT(emulator, rtx=rtx)
            library.fail[name] = nth
            if name in best_effort:
                assert lab.same("edges", short_run(lab, emulator, library, graphs=False))
                continue
            with pytest.raises(SwiftVRError) as caught:
                short_run(lab, emulator, library, graphs=False)
            assert is_clear(caught.value)
            words = (*(f"stage {name}" for name in STAGES), ".engine", "runtime cache")
            assert any(word in str(caught.value) for word in words), (name, nth, caught.value)
            del caught
            assert not left(library), (name, nth)


@pytest.mark.cuda_emulator
def test_memory_that_the_compiler_did_not_tell_is_asked_from_the_engines(lab: Lab) -> None:
    manifest = lab.engines.manifest
    unknown = replace(manifest, stages=tuple(replace(stage, arena_bytes=0) for stage in manifest.stages))
    untold = replace(lab, engines=Bundle(lab.engines.path, unknown))
    with emulated() as emulator:
        assert lab.same("edges", short_run(untold, emulator, FakeTensorRT(emulator)))


@pytest.mark.cuda_emulator
def test_a_refused_tensor_is_named(lab: Lab) -> None:
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        library.fail["set_tensor_address"] = 2
        with pytest.raises(
            StageError, match=r"stage take_rgb24: TensorRT refused address 0x\w+ for tensor \w+"
        ) as caught:
            short_run(lab, emulator, library)
        assert "set_tensor_address was made to fail" in str(caught.value)  # TensorRT's own words
        del caught


@pytest.mark.cuda_emulator
def test_engines_that_are_not_valid_here_are_refused_with_the_command_that_rebuilds_them(lab: Lab) -> None:
    for name, words in (
        ("get_engine_validity", "unsupported cc"),
        ("deserialize_cuda_engine", "cannot load this engine"),
    ):
        with emulated() as emulator:
            library = FakeTensorRT(emulator)
            library.fail[name] = 2
            with pytest.raises(BundleError, match=words) as caught:
                short_run(lab, emulator, library)
            assert lab.engines.manifest.recipe.command() in str(caught.value)
            assert library.calls["execute_async_v3"] == 0
            del caught


OUT_OF_MEMORY_MESSAGE = "[defaultAllocator.cpp::allocate] Error Code 1: Cuda Runtime (out of memory)"
"""TensorRT reports it in its log only."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    while error.__cause__ is not None:
        error = error.__cause__
        yield error


@pytest.mark.cuda_emulator
@pytest.mark.parametrize("name", ["deserialize_cuda_engine", "create_execution_context"])
def test_too_little_memory_for_tensorrt_is_not_reported_as_a_damaged_bundle(lab: Lab, name: str) -> None:
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        library.fail[name], library.words = 2, OUT_OF_MEMORY_MESSAGE
        with pytest.raises(
            MachineError, match=r"not enough GPU memory: .* are available; close other programs"
        ) as caught:
            short_run(lab, emulator, library)
        assert any("out of memory" in str(cause) for cause in _causes(caught.value))
        del caught
