"""Files from outside with a few changes: each is read as what it says, or refused in one printable line.

100 mutations of each kind; 2000 with `--hypothesis-profile=campaign`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle.calibration import Calibration, read_calibration
from swiftvr_trt.engines.bundle.files import read_manifest
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.pipeline_memory import count_parameters
from swiftvr_trt.engines.compile.report import CompiledKernel, CompiledStage, EngineReport, read_report
from swiftvr_trt.export.network.checkpoint import load_checkpoint
from tests.engines.fakes import fake_manifest
from tests.mini import write_mini_checkpoint

RECIPE = Recipe("c0" * 32, 32, 32, 8, "fp8", "onnx")
KERNEL = CompiledKernel("k", "gemm", "Half", 10, 20, ("Half 2x3",), (), ("Half 2",), ("node",))
REPORT = EngineReport("RTX 1", "SM120", 1, 2, 3.5, None, (CompiledStage("dit", 5, 1, {"fp16": 7}, (KERNEL,)),))
CALIBRATION = Calibration("c0" * 32, "clip", 100.0, {"blocks.0.attention.q": 1.0, "blocks.0.attention.k": 2.0})

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**18, -1, 10**300, 0, 1 << 63]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["a\x1b[2Jb", "../x", "NUL", "x" * 999, "\u202e"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
Read = Callable[[Path], object]


@st.composite
def changed(draw: st.DrawFn, text: str) -> bytes:
    """The JSON text with up to three changes: a value replaced, removed or doubled, or bytes overwritten."""
    raw = json.loads(text)
    for _ in range(draw(st.integers(0, 3))):
        _change(draw, raw)
    data = json.dumps(raw).encode()
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=3)) + data[place + draw(st.integers(0, 3)) :]
    return data


def _change(draw: st.DrawFn, raw: Any) -> None:
    """Change one value, at any depth."""
    while isinstance(raw, dict | list) and raw:
        key = draw(st.sampled_from(sorted(raw) if isinstance(raw, dict) else range(len(raw))))
        if isinstance(raw[key], dict | list) and raw[key] and draw(st.integers(0, 3)):
            raw = raw[key]
        elif draw(st.booleans()):
            raw[key] = draw(values)
            return
        else:
            del raw[key]
            return


def accepted_or_refused_in_one_line(read: Read, path: Path) -> None:
    lines = []
    try:
        read(path)
    except MisuseError as error:
        lines.append(str(error))
    assert all(map(str.isprintable, lines))


KINDS: dict[str, tuple[str, str, Read]] = {
    "manifest": ("manifest.json", fake_manifest().to_json(), lambda path: read_manifest(path.parent)),
    "report": ("dit.report.json", REPORT.to_json(), read_report),
    "calibration": ("calibration.json", CALIBRATION.to_json(), lambda path: read_calibration(path)),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(st.data())
def test_changed_json_is_read_or_refused_in_one_line(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    name, text, read = KINDS[kind]
    (tmp_path / name).write_bytes(data.draw(changed(text)))
    accepted_or_refused_in_one_line(read, tmp_path / name)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mini_checkpoint(tmp_path_factory.mktemp("mutations") / "checkpoint")


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(st.data())
def test_a_changed_config_is_read_or_refused_in_one_line(checkpoint: Path, data: st.DataObject) -> None:
    path = checkpoint / "transformer" / "config.json"
    text = path.read_text(encoding="utf-8")
    try:
        path.write_bytes(data.draw(changed(text)))
        accepted_or_refused_in_one_line(lambda path: load_checkpoint(path.parent.parent), path)
    finally:
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", ["prompt_embedding.safetensors", "reae.safetensors"])
@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(st.data())
def test_a_changed_safetensors_file_is_read_or_refused_in_one_line(
    checkpoint: Path, name: str, data: st.DataObject
) -> None:
    path = checkpoint / name
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = data.draw(changed(whole[8 : 8 + length].decode()))
    size = data.draw(st.sampled_from([len(header), length, 0, 1 << 63]))
    try:
        path.write_bytes(size.to_bytes(8, "little") + header + whole[8 + length :])
        accepted_or_refused_in_one_line(lambda path: load_checkpoint(path.parent), path)
        accepted_or_refused_in_one_line(lambda path: count_parameters(path.parent), path)
    finally:
        path.write_bytes(whole)
