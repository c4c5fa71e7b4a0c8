"""`inspect` reports what the manifest and the reports of the engines say."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle.calibration import CALIBRATION_FILE, Calibration, Int8Scales
from swiftvr_trt.engines.bundle.card_names import named_card
from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.engines.compile.log import ATTENTION, CONV, GEMM
from swiftvr_trt.engines.report.inspect import (
    describe_engines,
    engine_reports,
    inspect_bundle,
    inspect_manifest,
    linear_reports,
)
from swiftvr_trt.errors import BundleError
from swiftvr_trt.runtime.stream.plan import BufferPlace
from tests.engines.fakes import RECIPE, fake_manifest, write_fake_bundle

from .compiled import COMPILED, REPORTS, STREAM, compiled_stages, write_compiled_bundle

CALIBRATION = Calibration(
    "a" * 64,
    "a clip",
    100.0,
    {},
    {"blocks.0.down": Int8Scales(16, 21.5, 9.0, (0,)), "blocks.0.up": Int8Scales(8, 36.0, 1.0, (2, 0))},
)
REPORT = inspect_manifest(fake_manifest(), stream_input=(64, 48), stream=replace(STREAM, nbytes=123))


def test_a_stage_is_described_by_its_shapes_and_its_state() -> None:
    encode, dit = REPORT.stages[:2]
    assert (encode.name, encode.file, encode.file_bytes) == ("encode", "encode.onnx", 5)
    assert (encode.takes, encode.gives) == ("float32 [4, 12, 32, 64]", "float32 [1, 12, 4, 8]")
    assert (encode.state_bytes, dit.state_bytes) == (8 * 4 * 8 * 4, 0)


def test_a_report_sums_up_the_bundle_and_fits_into_json() -> None:
    assert REPORT.bytes_on_disk == 16 * 5
    assert REPORT.takes == REPORT.gives == ("rgb24", "rgb48", "yuv420p", "nv12", "yuv420p10", "p010")
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


@pytest.mark.parametrize("scales", [CALIBRATION, replace(CALIBRATION, int8={})], ids=["int8", "fp8"])
def test_decisions_of_int8_are_those_of_the_calibration(tmp_path: Path, scales: Calibration) -> None:
    bundle = write_compiled_bundle(tmp_path / "bundle", {CALIBRATION_FILE: scales.to_json()})
    linears = inspect_bundle(bundle, stream_input=(100, 60), stream=STREAM).linears
    assert [(one.name, one.bits, one.decibels) for one in linears] == (
        [("blocks.0.down", 16, 21.5), ("blocks.0.up", 8, 36.0)] if scales.int8 else []
    )


def test_a_linear_without_shifts_is_no_convolution(tmp_path: Path) -> None:
    """As in a file that was edited: in 16 bits, shifts do not matter."""
    scales = dict.fromkeys(("blocks.0.down", "decoder.3.conv.0"), Int8Scales(16, 21.5, 9.0, ()))
    calibration = replace(CALIBRATION, int8=scales)
    bundle = write_compiled_bundle(tmp_path / "bundle", {CALIBRATION_FILE: calibration.to_json()})
    assert [one.convolution for one in linear_reports(bundle)] == [False, True]


def test_damaged_decisions_are_refused_in_one_line(tmp_path: Path) -> None:
    bundle = write_compiled_bundle(tmp_path / "bundle", {CALIBRATION_FILE: "{}"})
    with pytest.raises(BundleError, match=r"rebuild the bundle$"):
        linear_reports(bundle)


def test_what_was_compiled_is_reported_stage_by_stage(bundle: Bundle) -> None:
    engines = inspect_bundle(bundle, stream_input=(100, 60), stream=STREAM).engines
    assert engines is not None
    encode, dit, edge, _ = engines.stages
    assert (encode.kernels, encode.unattributed_flops) == ({CONV: 1}, 10)
    assert (dit.kernels, dit.gemms) == ({ATTENTION: 1, GEMM: 2}, {"FP16": 1, "FP8": 1})
    assert (encode.sixteen_bits, dit.sixteen_bits) == (("FP16",), ("BF16", "FP16"))
    assert (dit.fused_attention, dit.expected_attention) == (1, 2)
    assert (edge.fused_attention, edge.expected_attention) == (2, 2)
    assert dit.unattributed_flops == 4


def test_a_chunk_counts_every_run_of_a_stage(bundle: Bundle) -> None:
    """Clip length 8: two latents are encoded, restored in one pass, and decoded."""
    engines = inspect_bundle(bundle, stream_input=(100, 60), stream=STREAM).engines
    assert engines is not None
    assert engines.chunk_flops == {"fp16": 2 * 100 + 4 + 2 * 200, "fp8": 30}
    assert engines.chunk_bytes == 2 * 7 + 5 + 2 * 11
    assert (engines.build_seconds, engines.build_peak_bytes) == (7.5, 700)
    assert [projection.gpu for projection in engines.projected][:1] == ["RTX 5090"]


def test_engines_are_projected_for_the_card_that_is_asked_for(bundle: Bundle) -> None:
    def shown(name: str) -> list[str]:
        report = inspect_bundle(bundle, stream_input=(100, 60), stream=STREAM, card=named_card(name))
        assert report.engines is not None
        return [f"{projection.gpu}, {projection.memory_bytes:g}" for projection in report.engines.projected]

    assert shown("rtx5060 laptop") == ["RTX 5060 Laptop, 8e+09"]
    with pytest.raises(MisuseError, match=r"^the engines are for SM120, the RTX 3060 .*SM86: .*--target rtx3060-12gb$"):
        shown("rtx3060")


def test_a_build_of_unknown_memory_has_no_peak() -> None:
    reports = [replace(entry, peak_bytes=None) for entry in REPORTS.values()]
    manifest = replace(fake_manifest(COMPILED), stages=compiled_stages())
    assert describe_engines(manifest, reports, STREAM).build_peak_bytes is None


def test_the_buffers_of_a_stream_are_reported_field_by_field() -> None:
    places = (BufferPlace("frames_in_0", 40, 0, 0, None), BufferPlace("frames_out_0", 30, 0, 40, "frames_in_0"))
    report = inspect_manifest(fake_manifest(), stream_input=(64, 48), stream=replace(STREAM, buffers=places))
    assert json.loads(json.dumps(report.to_dict()))["buffers"] == [
        {"name": "frames_in_0", "nbytes": 40, "offset": 0, "host_offset": 0, "over": None},
        {"name": "frames_out_0", "nbytes": 30, "offset": 0, "host_offset": 40, "over": "frames_in_0"},
    ]


def test_only_bundles_of_engines_have_reports(bundle: Bundle) -> None:
    assert engine_reports(bundle) == tuple(REPORTS[name] for name in ("decode", "dit", "encode"))
    graphs = write_fake_bundle(bundle.path.with_name("graphs"))
    assert engine_reports(graphs) == ()
    assert inspect_bundle(graphs, stream_input=(100, 60), stream=STREAM).engines is None
