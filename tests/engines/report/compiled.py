"""A bundle of engines whose reports are written by hand, with numbers that are easy to add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from swiftvr_trt.engines.bundle.files import Bundle, BundleWriter
from swiftvr_trt.engines.bundle.manifest import StageSpec, Toolchain
from swiftvr_trt.engines.bundle.pixel_formats import GIVES, TAKES
from swiftvr_trt.engines.compile.log import ATTENTION, CONV, GEMM
from swiftvr_trt.engines.compile.report import SUFFIX, CompiledKernel, CompiledStage, EngineReport
from swiftvr_trt.runtime.stream.plan import StreamLayout
from tests.engines.fakes import RECIPE, fake_stages

STREAM = StreamLayout(70, {"weights": 530, "arena": 4096, "frames": 40, "state": 30, "staging": 0}, ())
COMPILED = replace(RECIPE, target="rtx5090", precision="fp8")


def kernel(kind: str, precision: str, flops: int = 0, nbytes: int = 0, dtype: str = "Half") -> CompiledKernel:
    reads, writes = (f"{dtype} 2x3",), (f"{dtype} scalar",)
    return CompiledKernel(f"{kind} <&>", kind, precision, flops, nbytes, reads, (), writes, ("node",))


def stage(name: str, attentions: int, flops: dict[str, int], *kernels: CompiledKernel) -> CompiledStage:
    return CompiledStage(name, 1000, attentions, flops, kernels)


def engine(weights: int, *stages: CompiledStage) -> EngineReport:
    return EngineReport("TensorRT-RTX 1.7", "SM120", 5, weights, 2.5, 700, stages)


REPORTS = {
    "encode": engine(10, stage("encode", 0, {"fp16": 100}, kernel(CONV, "Half", 90, 7))),
    "dit": engine(
        500,
        stage(
            "dit",
            2,
            {"fp8": 30, "fp16": 4},
            kernel(GEMM, "FP8", 30, 5, "BFloat16"),
            kernel(GEMM, "Half"),
            kernel(ATTENTION, "FP8"),
        ),
        stage("dit_edge", 2, {"fp8": 40}, kernel(ATTENTION, "FP8"), kernel(ATTENTION, "FP8")),
    ),
    "decode": engine(20, stage("decode", 0, {"fp16": 200}, kernel(CONV, "Half", 200, 11))),
}


def compiled_stages() -> tuple[StageSpec, ...]:
    """Both transformer stages in one file; `decode` needs the most activation memory."""
    arenas = {"encode": 1000, "dit": 2000, "dit_edge": 3000, "decode": 4000}
    weights = {"encode": 10, "dit": 500, "dit_edge": 500, "decode": 20}
    return tuple(
        replace(
            spec,
            file="dit.engine" if spec.name.startswith("dit") else f"{spec.name}.engine",
            profile=int(spec.name == "dit_edge"),
            arena_bytes=arenas.get(spec.name, 0),
            weight_bytes=weights.get(spec.name, 0),
        )
        for spec in fake_stages(COMPILED)
    )


def write_compiled_bundle(path: Path, more: Mapping[str, str] | None = None) -> Bundle:
    """The bundle of all of these. more: further files, by name."""
    with BundleWriter(path) as writer:
        for name, report in REPORTS.items():
            (writer.directory / f"{name}.engine").write_bytes(b"plan")
            (writer.directory / f"{name}{SUFFIX}").write_text(report.to_json())
        for name in (*TAKES, *GIVES):
            (writer.directory / f"{name}.engine").write_bytes(b"plan")
        for name, content in (more or {}).items():
            (writer.directory / name).write_text(content)
        return writer.commit(COMPILED, Toolchain("test", "TensorRT-RTX", "1.7"), compiled_stages())
