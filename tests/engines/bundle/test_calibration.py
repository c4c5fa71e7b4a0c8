"""The file of scales: what is written is read back, and whatever else arrives is refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle.calibration import Calibration, Int8Scales, read_calibration

CHECKPOINT = "a" * 64
SCALES = Calibration(
    CHECKPOINT, "a clip, 8 frames at 64x64", 100.0, {"blocks.0.down": 4.5, "blocks.0.attention.q": 2.0}
)
INT8 = replace(SCALES, int8={"blocks.0.down": Int8Scales(8, 36.25, 3.0, (0, -2, 12, 0)), "b": Int8Scales(16, 9, 1, ())})
NUMBERS = {"bits": 8, "decibels": 36.25, "largest": 3.0, "shifts": [0, -2]}


@pytest.mark.parametrize("scales", [SCALES, INT8], ids=["fp8", "int8"])
def test_a_file_is_read_back(tmp_path: Path, scales: Calibration) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(scales.to_json(), encoding="utf-8")
    assert read_calibration(path, CHECKPOINT) == read_calibration(path) == scales
    assert ("int8" in path.read_text(encoding="utf-8")) is bool(scales.int8)


def test_a_list_of_shifts_takes_one_line() -> None:
    (line,) = (line for line in INT8.to_json().splitlines() if "-2" in line)
    assert line.split() == ['"shifts":', "[0,", "-2,", "12,", "0]"]


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"largest": {"a": -1}},
        {"largest": {"a": "nan"}},
        {"largest": []},
        {"checkpoint": "b" * 64},
        {"percentile": None},
        {"int8": None},
        {"int8": {"a": {**NUMBERS, "bits": 4}}},
        {"int8": {"a": {**NUMBERS, "bits": 12}}},
        {"int8": {"a": {**NUMBERS, "decibels": 1e9}}},
        {"int8": {"a": {**NUMBERS, "largest": -1}}},
        {"int8": {"a": {**NUMBERS, "shifts": [0.5]}}},
        {"int8": {"a": {**NUMBERS, "shifts": [13]}}},
        {"int8": {"a": {**NUMBERS, "shifts": "0"}}},
    ],
    ids=str,
)
def test_malformed_files_and_those_of_other_checkpoints_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({**json.loads(SCALES.to_json()), **change}), encoding="utf-8")
    with pytest.raises(MisuseError, match=str(path)) as refused:
        read_calibration(path, CHECKPOINT)
    assert "\n" not in str(refused.value)
