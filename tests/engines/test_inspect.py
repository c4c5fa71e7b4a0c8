"""What `inspect` says of a bundle is what its manifest holds."""

from __future__ import annotations

import json
from dataclasses import asdict

from swiftvr_trt.engines.inspect import inspect_manifest

from .fakes import RECIPE, fake_manifest

REPORT = inspect_manifest(fake_manifest(), stream_input=(64, 48), stream_bytes=123)


def test_a_stage_is_described_by_its_shapes_and_its_state() -> None:
    encode, dit = REPORT.stages[:2]
    assert (encode.name, encode.file, encode.file_bytes) == ("encode", "encode.onnx", 5)
    assert (encode.takes, encode.gives) == ("uint8 [4, any, any, 3]", "float32 [1, 12, 4, 8]")
    assert (encode.state_bytes, dit.state_bytes) == (8 * 4 * 8 * 4, 0)


def test_a_report_sums_up_the_bundle_and_fits_into_json() -> None:
    assert REPORT.bytes_on_disk == 4 * 5
    assert (REPORT.stream_input, REPORT.stream_bytes) == ("64x48", 123)
    assert REPORT.compiler == "none 1.0"
    assert json.loads(json.dumps(REPORT.to_dict()))["recipe"] == {**asdict(RECIPE), "without": []}
