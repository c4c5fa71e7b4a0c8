"""What `inspect` says of a bundle is what its manifest and the compiler's facts hold."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from swiftvr_trt.engines.bundle.files import Bundle, BundleWriter
from swiftvr_trt.engines.bundle.manifest import StageSpec, Toolchain
from swiftvr_trt.engines.compile.log import ATTENTION, CONV, GEMM
from swiftvr_trt.engines.compile.report import SUFFIX, CompiledKernel, CompiledStage, EngineReport
from swiftvr_trt.engines.report.inspect import describe_engines, inspect_bundle, inspect_manifest
from swiftvr_trt.engines.report.picture import draw
from swiftvr_trt.runtime.stream.plan import StreamLayout
from tests.engines.fakes import RECIPE, fake_manifest, fake_stages

STREAM = StreamLayout(70, {"weights": 530, "arena": 4096, "frames": 40, "state": 30, "staging": 0}, ())
REPORT = inspect_manifest(fake_manifest(), stream_input=(64, 48), stream=replace(STREAM, nbytes=123))
COMPILED = replace(RECIPE, target="rtx5090", precision="fp8")


def kernel(kind: str, precision: str, flops: int = 0, nbytes: int = 0) -> CompiledKernel:
    return CompiledKernel(f"{kind} <&>", kind, precision, flops, nbytes, ("Half 2x3",), (), ("Half scalar",), ("node",))


def stage(name: str, attentions: int, flops: dict[str, int], *kernels: CompiledKernel) -> CompiledStage:
    return CompiledStage(name, 1000, attentions, flops, kernels)


def engine(weights: int, *stages: CompiledStage) -> EngineReport:
    return EngineReport("TensorRT-RTX 1.7", "SM120", 5, weights, 2.5, 700, stages)


FACTS = {
    "encode": engine(10, stage("encode", 0, {"fp16": 100}, kernel(CONV, "Half", 90, 7))),
    "dit": engine(
        500,
        stage(
            "dit", 2, {"fp8": 30, "fp16": 4}, kernel(GEMM, "FP8", 30, 5), kernel(GEMM, "Half"), kernel(ATTENTION, "FP8")
        ),
        stage("dit_edge", 2, {"fp8": 40}, kernel(ATTENTION, "FP8"), kernel(ATTENTION, "FP8")),
    ),
    "decode": engine(20, stage("decode", 0, {"fp16": 200}, kernel(CONV, "Half", 200, 11))),
}


def compiled_stages() -> tuple[StageSpec, ...]:
    """Both transformer stages in one file; `decode` needs most activation memory."""
    arenas = {"encode": 1000, "dit": 2000, "dit_edge": 3000, "decode": 4000}
    weights = {"encode": 10, "dit": 500, "dit_edge": 500, "decode": 20}
    return tuple(
        replace(
            spec,
            file="dit.engine" if spec.name.startswith("dit") else f"{spec.name}.engine",
            profile=int(spec.name == "dit_edge"),
            arena_bytes=arenas[spec.name],
            weight_bytes=weights[spec.name],
        )
        for spec in fake_stages(COMPILED)
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    with BundleWriter(tmp_path / "bundle") as writer:
        for name, facts in FACTS.items():
            (writer.directory / f"{name}.engine").write_bytes(b"plan")
            (writer.directory / f"{name}{SUFFIX}").write_text(facts.to_json())
        return writer.commit(COMPILED, Toolchain("test", "TensorRT-RTX", "1.7"), compiled_stages())


def test_a_stage_is_described_by_its_shapes_and_its_state() -> None:
    encode, dit = REPORT.stages[:2]
    assert (encode.name, encode.file, encode.file_bytes) == ("encode", "encode.onnx", 5)
    assert (encode.takes, encode.gives) == ("uint8 [4, any, any, 3]", "float32 [1, 12, 4, 8]")
    assert (encode.state_bytes, dit.state_bytes) == (8 * 4 * 8 * 4, 0)


def test_a_report_sums_up_the_bundle_and_fits_into_json() -> None:
    assert REPORT.bytes_on_disk == 4 * 5
    assert (REPORT.stream_input, REPORT.stream_bytes) == ("64x48", 123)
    assert REPORT.compiler == "none 1.0"
    assert REPORT.engines is None
    assert json.loads(json.dumps(REPORT.to_dict()))["recipe"] == {**asdict(RECIPE), "without": []}


def test_weights_count_once_per_file_and_activations_once_for_all(bundle: Bundle) -> None:
    engines = inspect_bundle(bundle, stream_input=(100, 60), stream=STREAM).engines
    assert engines is not None
    assert engines.memory == {
        "weights of encode.engine": 10,
        "weights of dit.engine": 500,
        "weights of decode.engine": 20,
        "arena": 4096,
        "frames": 40,
        "state": 30,
    }
    assert engines.gpu_bytes == 4696


def test_what_was_compiled_is_told_stage_by_stage(bundle: Bundle) -> None:
    engines = inspect_bundle(bundle, stream_input=(100, 60), stream=STREAM).engines
    assert engines is not None
    encode, dit, edge, _ = engines.stages
    assert (encode.kernels, encode.unattributed_flops) == ({CONV: 1}, 10)
    assert (dit.kernels, dit.gemms) == ({ATTENTION: 1, GEMM: 2}, {"FP16": 1, "FP8": 1})
    assert (dit.fused_attention, dit.expected_attention) == (1, 2)
    assert (edge.fused_attention, edge.expected_attention) == (2, 2)
    assert dit.unattributed_flops == 4


def test_a_chunk_is_counted_as_it_runs(bundle: Bundle) -> None:
    """Clip length 8: two latents in, one pass of the transformer, two latents out."""
    engines = inspect_bundle(bundle, stream_input=(100, 60), stream=STREAM).engines
    assert engines is not None
    assert engines.chunk_flops == {"fp16": 2 * 100 + 4 + 2 * 200, "fp8": 30}
    assert engines.chunk_bytes == 2 * 7 + 5 + 2 * 11
    assert (engines.build_seconds, engines.build_peak_bytes) == (7.5, 700)
    assert [projection.gpu for projection in engines.projected][:1] == ["RTX 5090"]


def test_a_build_whose_memory_nobody_knows_has_no_peak() -> None:
    facts = [replace(entry, peak_bytes=None) for entry in FACTS.values()]
    manifest = replace(fake_manifest(COMPILED), stages=compiled_stages())
    assert describe_engines(manifest, facts, STREAM).build_peak_bytes is None


def test_the_picture_is_valid_and_says_its_numbers(bundle: Bundle) -> None:
    report = inspect_bundle(bundle, stream_input=(100, 60), stream=replace(STREAM, owners={"frames": 70_000_000}))
    assert report.engines is not None
    drawn = ET.fromstring(draw(report, report.engines))
    texts = [element.text or "" for element in drawn.iter() if element.tag.endswith("text")]
    for said in ("100x60, fp8, target rtx5090", "weights of dit.engine", "70.0 MB", "(projected)", "(planned, 100x60"):
        assert any(said in text for text in texts), said
    bars = [
        float(element.attrib["width"]) for element in drawn.iter() if "x" in element.attrib and "fill" in element.attrib
    ]
    assert max(bars) == 500
