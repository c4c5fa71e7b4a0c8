"""A manifest is untrusted text. It becomes a valid `Manifest`, or is refused with a `BundleError` of one line."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt import BundleError, Manifest
from swiftvr_trt.engines.bundle.manifest import FORMAT, NETWORK_STAGES, STAGES, Recipe, Toolchain
from tests.engines.fakes import RECIPE, WHERE, fake_manifest, raw_manifest


class Missing:
    """Stands for a missing field."""

    def __repr__(self) -> str:
        return "missing"


MISSING = Missing()
TAKE = 0
ENCODE, DIT, DIT_EDGE, DECODE = (STAGES.index(name) for name in NETWORK_STAGES)
GIVE_NV12 = STAGES.index("give_nv12")

OUTSIDE = ["../x", "..", ".", "", "/etc/passwd", "C:\\x", "C:x", "a/b", "a\\b"]
ODD = [".hidden", "a\0", "a\n", "a b", "ü", "x" * 129]
DEVICES = ["NUL", "nul.onnx", "com1", "LPT9.bin", "Aux"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def put(raw: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Set or remove the field at a dotted path."""
    *parents, last = path.split(".")
    place: Any = raw
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    key: Any = int(last) if last.isdigit() else last
    if value is MISSING:
        del place[key]
    else:
        place[key] = value
    return raw


def refusal(raw: object) -> str:
    """The line that refuses a manifest, without the path at its start."""
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(raw if isinstance(raw, str) else json.dumps(raw), WHERE)
    line = str(caught.value)
    assert line.startswith(f"{WHERE}: ")
    assert "\n" not in line
    return line.removeprefix(f"{WHERE}: ")


OPTIONAL = ("compute_capability", "cuda", "driver_cuda", "recipe.calibration", "stages.0.reach")


def field_paths() -> list[str]:
    """Every field of the fake manifest; the first stage, tensor and file stand for all others."""

    def walk(value: object, path: str) -> list[str]:
        if isinstance(value, dict):
            return [found for key, item in value.items() for found in walk(item, f"{path}.{key}".strip("."))]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return [path, *walk(value[0], f"{path}.0")]
        return [path]

    return [path for path in walk(raw_manifest(), "") if path not in OPTIONAL]


def spoken(path: str) -> str:
    """A dotted path as messages write it."""
    return ".".join(f"[{part}]" if part.isdigit() else part for part in path.split(".")).replace(".[", "[")


@pytest.mark.parametrize(
    "recipe", [RECIPE, replace(RECIPE, width=1, height=33, clip_len=24, parity=True, without=("growth", "order"))]
)
def test_a_manifest_survives_the_round_trip(recipe: Recipe) -> None:
    manifest = fake_manifest(recipe)
    assert Manifest.from_json(manifest.to_json(), WHERE) == manifest


def test_optional_fields_survive_the_round_trip() -> None:
    recipe = replace(RECIPE, calibration="c0" * 32)
    made = Toolchain("swiftvr-trt 1.0", "TensorRT-RTX", "1.7", compute_capability="12.0", cuda="12", driver_cuda="13.0")
    manifest = replace(fake_manifest(recipe), toolchain=made)
    manifest = replace(manifest, stages=tuple(replace(stage, reach=9) for stage in manifest.stages))
    assert Manifest.from_json(manifest.to_json(), WHERE) == manifest


def test_the_text_of_a_manifest_does_not_change() -> None:
    """Bundles on disk outlive versions of this package: fields, their order and their form are part of the format."""
    made = Toolchain("swiftvr-trt test", "none", "1.0", compute_capability="12.0", cuda="12", driver_cuda="13.0")
    text = replace(fake_manifest(), toolchain=made).to_json()
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "fba8f2e94e72cb860b14de2931e51304b0c6a47bc992c030a07824a6a685b786"


def test_a_manifest_without_cuda_versions_is_read() -> None:
    raw = raw_manifest()
    del raw["cuda"], raw["driver_cuda"]
    assert Manifest.from_json(json.dumps(raw), WHERE) == fake_manifest()


def test_a_manifest_whose_stages_do_not_say_their_reach_is_read() -> None:
    raw = raw_manifest()
    for stage in raw["stages"]:
        del stage["reach"]
    assert Manifest.from_json(json.dumps(raw), WHERE) == fake_manifest()


@pytest.mark.parametrize("wrong", [-1, 65, 1.5, "9", True])
def test_a_wrong_reach_is_refused(wrong: object) -> None:
    assert "stages[0].reach" in refusal(put(raw_manifest(), "stages.0.reach", wrong))


def test_unknown_fields_of_a_later_version_are_ignored() -> None:
    assert Manifest.from_json(json.dumps({**raw_manifest(), "weather": "fair"}), WHERE) == fake_manifest()


@pytest.mark.parametrize("path", field_paths())
@pytest.mark.parametrize("value", [MISSING, None, {}, 1.5, "no\nsuch \x1b[31mvalue", -1], ids=repr)
def test_every_field_is_checked_and_named(path: str, value: object) -> None:
    said = refusal(put(raw_manifest(), path, value))
    assert spoken(path) in said
    assert ("missing" if value is MISSING else repr(value)) in said or "not a JSON object" in said


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", True),
        ("format", 0),
        ("recipe", []),
        ("recipe.checkpoint", "C0" * 32),
        ("recipe.checkpoint", "c0" * 31),
        ("recipe.width", 0),
        ("recipe.width", 1 << 17),
        ("recipe.height", "60"),
        ("recipe.clip_len", True),
        ("recipe.precision", "fp64"),
        ("recipe.parity", 0),
        ("recipe.without", None),
        ("recipe.without", ["order", "growth"]),
        ("recipe.without", ["../order"]),
        ("recipe.without", [1]),
        ("tool", "x" * 300),
        ("compute_capability", 12.0),
        ("cuda", 12),
        ("cuda", "cu12"),
        ("driver_cuda", "13.0\n"),
        ("driver_cuda", "1.2.3.4.5"),
        ("recipe.calibration", "C0" * 32),
        ("recipe.calibration", 1),
        ("stages", []),
        ("stages.0.name", "encoder"),
        ("stages.0.inputs.0.dtype", "float64"),
        ("stages.0.inputs.0.role", "state"),
        ("stages.0.inputs.0.shape", [4, 0, None, 3]),
        ("stages.0.inputs.0.shape", [4, True, None, 3]),
        ("stages.0.inputs.0.shape", [1] * 9),
        ("stages.0.inputs", [None]),
        ("files.0.size", -1),
        ("files.0.size", 1 << 41),
        ("files.0.sha256", "ab" * 31 + "zz"),
    ],
)
def test_values_out_of_range_are_refused_by_name(path: str, value: object) -> None:
    assert spoken(path) in refusal(put(raw_manifest(), path, value))


@pytest.mark.parametrize("count", [("stages", len(STAGES) + 1), ("files", 65), ("stages.0.inputs", 66)])
def test_lists_are_bounded(count: tuple[str, int]) -> None:
    path, length = count
    assert spoken(path) in refusal(put(raw_manifest(), path, [{}] * length))


@pytest.mark.parametrize("width", [16385, 65536])
def test_a_resolution_beyond_the_largest_side_is_refused(width: int) -> None:
    assert f"{width}x60" in refusal(put(raw_manifest(), "recipe.width", width))


@pytest.mark.parametrize("clip_len", [1, 6, 1028])
def test_a_clip_length_outside_the_protocol_is_refused(clip_len: int) -> None:
    assert f"clip length is {clip_len}" in refusal(put(raw_manifest(), "recipe.clip_len", clip_len))


@pytest.mark.parametrize("name", [*OUTSIDE, *ODD, *DEVICES])
@pytest.mark.parametrize("field", ["stages.0.file", "files.0.name", "stages.0.inputs.0.name", "recipe.target"])
def test_no_name_leads_outside_the_bundle(field: str, name: str) -> None:
    assert "expected a plain name" in refusal(put(raw_manifest(), field, name))


@given(st.text(max_size=20))
def test_an_accepted_name_is_a_plain_file_name_on_every_system(name: str) -> None:
    raw = put(put(raw_manifest(), "stages.0.file", name), "files.0.name", name)
    try:
        Manifest.from_json(json.dumps(raw), WHERE)
    except BundleError:
        return
    assert PurePosixPath(name).parts == PureWindowsPath(name).parts == (name,)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (f"stages.{TAKE}.inputs.0.shape", [4, 60, 100, 3], "[4, None, None, 3]"),
        (f"stages.{ENCODE}.inputs.0.shape", [4, 12, 30, 50], "[4, 12, 32, 64]"),
        (f"stages.{GIVE_NV12}.inputs.1.shape", [3], "[3, 3]"),
        (f"stages.{GIVE_NV12}.inputs.1.dtype", "float16", "colour"),
        (f"stages.{ENCODE}.outputs.0.shape", [1, 12, 4, 7], "[1, -1, 4, 8]"),
        (f"stages.{DIT}.inputs.0.shape", [3, 12, 4, 8], "[2, -1, 4, 8]"),
        (f"stages.{DIT_EDGE}.outputs.0.shape", [2, 12, 4, 8], "[3, -1, 4, 8]"),
        (f"stages.{DECODE}.outputs.0.shape", [4, 64, 128, 3], "[4, 12, 32, 64]"),
        (f"stages.{GIVE_NV12}.outputs.0.shape", [4, 3, 60, 100], "[4, 3, 30, 100]"),
        (f"stages.{DECODE}.inputs.1.shape", [1, None, 4, 8], "state_in"),
        (f"stages.{DECODE}.inputs.1.shape", [8, 4, 8], "state_in"),
        (f"stages.{DECODE}.inputs.1.role", "latents", "state_in"),
        (f"stages.{GIVE_NV12}.outputs.0.dtype", "float32", "frames"),
        (f"stages.{DECODE}.outputs.0.dtype", "float16", "exchange different pixels"),
        (f"stages.{DIT}.inputs.0.dtype", "uint8", "latents"),
        (f"stages.{ENCODE}.outputs.1.shape", [1, 9, 4, 8], "input and output states of stage encode do not match"),
        (f"stages.{ENCODE}.outputs.1.dtype", "float16", "input and output states of stage encode do not match"),
        (f"stages.{DECODE}.name", "encode", "each once"),
        (f"stages.{DIT}.file", "other.onnx", "other.onnx"),
        ("files.1.name", "take_rgb24.onnx", "listed twice"),
        ("recipe.clip_len", 12, "expected latents [3,"),
        ("recipe.height", 32, "stage take_rgb24"),
    ],
)
def test_tensors_that_contradict_the_recipe_are_refused(path: str, value: object, said: str) -> None:
    assert said in refusal(put(raw_manifest(), path, value))


def test_a_manifest_that_lists_itself_is_refused() -> None:
    raw = raw_manifest()
    raw["files"].append({"name": "manifest.json", "size": 1, "sha256": "ab" * 32})
    assert "lists itself" in refusal(raw)


def test_the_transformer_may_carry_no_state() -> None:
    raw = raw_manifest()
    for side in ("inputs", "outputs"):
        raw["stages"][DIT][side].append(raw["stages"][ENCODE][side][1])
    assert "input and output states of stage dit do not match" in refusal(raw)


def test_buffers_beyond_any_machine_are_refused_before_anything_is_allocated() -> None:
    raw = raw_manifest()
    for side in ("inputs", "outputs"):
        raw["stages"][ENCODE][side][1]["shape"] = [1, 1 << 20, 1 << 20, 1 << 20]
    assert "GiB" in refusal(raw)


def test_a_bundle_of_the_first_format_is_refused_with_the_command_that_rebuilds_it() -> None:
    assert f"rebuild the bundle: {RECIPE.command()}" in refusal({**raw_manifest(), "format": 1})


@pytest.mark.parametrize("version", [1, 3, 999])
def test_a_format_of_another_version_is_named(version: int) -> None:
    raw = {"format": version, "whatever": "a later version needs"}
    assert f"bundle format {version}, this version reads format {FORMAT}" in refusal(raw)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, "9" * 5000, "null", "[]", '"text"', "NaN", '{"format": 1e400}'],
    ids=lambda t: t[:9],
)
def test_text_that_is_not_a_manifest_is_refused(text: str) -> None:
    assert refusal(text)


@given(json_values)
def test_arbitrary_json_is_always_a_bundle_error(value: object) -> None:
    refusal(value)


@given(st.sampled_from([*field_paths(), *OPTIONAL]), json_values)
def test_arbitrary_json_in_any_field_is_accepted_whole_or_refused_in_one_line(path: str, value: object) -> None:
    raw = put(raw_manifest(), path, value)
    try:
        manifest = Manifest.from_json(json.dumps(raw), WHERE)
    except BundleError:
        refusal(raw)
    else:
        assert Manifest.from_json(manifest.to_json(), WHERE) == manifest


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("change", [{"dtype": "float16"}, {"shape": [2, 24, 4, 8]}], ids=str)
def test_stages_that_exchange_different_latents_are_refused(side: str, change: dict[str, object]) -> None:
    """They lie in one buffer: a stage with wider ones would write past its end."""
    raw = raw_manifest()
    raw["stages"][DIT][side][0].update(change)
    assert "its stages exchange different latents (" in refusal(raw)
