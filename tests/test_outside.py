"""Fields of untrusted JSON: a value of the promised type, or one line that names the field and what was expected."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt import BundleError
from swiftvr_trt.engines.bundle.manifest import MANIFEST_DOOR
from swiftvr_trt.outside import MAX_DEPTH, Door, Fields, parse_json, read_json, read_safetensors_shapes

WHERE = Path("bundle") / "manifest.json"
Access = Callable[[Fields], object]

ACCESSORS: dict[str, Access] = {
    "integer": lambda fields: fields.integer("key", 1, 9),
    "flag": lambda fields: fields.flag("key"),
    "text": lambda fields: fields.text("key"),
    "optional_text": lambda fields: fields.optional_text("key"),
    "optional_version": lambda fields: fields.optional_version("key"),
    "name": lambda fields: fields.name("key"),
    "names": lambda fields: fields.names("key", 2),
    "digest": lambda fields: fields.digest("key"),
    "optional_digest": lambda fields: fields.optional_digest("key"),
    "choice": lambda fields: fields.choice("key", ("fp16", "fp8")),
    "optional_integer": lambda fields: fields.optional_integer("key", 1, 9),
    "number": lambda fields: fields.number("key", 0, 1.5),
    "integers": lambda fields: fields.integers("key", -3, 3, 3),
    "texts": lambda fields: fields.texts("key", 2),
    "sides": lambda fields: fields.sides("key"),
    "shape": lambda fields: fields.shape("key"),
    "child": lambda fields: fields.child("key"),
    "children": lambda fields: fields.children("key", 2),
}


def refusal(accessor: str, raw: dict[str, Any]) -> str:
    with pytest.raises(BundleError) as caught:
        ACCESSORS[accessor](Fields(raw, WHERE, MANIFEST_DOOR, "recipe."))
    line = str(caught.value)
    assert line.startswith(f"{WHERE}: recipe.key")
    assert line.endswith("; rebuild the bundle")
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("accessor", "value", "found"),
    [
        ("integer", 1, 1),
        ("integer", 9, 9),
        ("flag", False, False),
        ("optional_integer", None, None),
        ("optional_integer", 9, 9),
        ("number", 0, 0.0),
        ("number", 1.5, 1.5),
        ("integers", [-3, 0, 3], (-3, 0, 3)),
        ("integers", [], ()),
        ("texts", ["a", "b c"], ("a", "b c")),
        ("texts", [], ()),
        ("sides", [0, 3], (0, 3)),
        ("sides", [], ()),
        ("text", "a text with blanks", "a text with blanks"),
        ("text", "x" * 256, "x" * 256),
        ("optional_text", None, None),
        ("optional_text", "text", "text"),
        ("optional_version", None, None),
        ("optional_version", "12", "12"),
        ("optional_version", "12.8.0.1", "12.8.0.1"),
        ("name", "dit_edge-1.onnx", "dit_edge-1.onnx"),
        ("names", [], ()),
        ("names", ["growth", "order"], ("growth", "order")),
        ("digest", "0f" * 32, "0f" * 32),
        ("optional_digest", None, None),
        ("choice", "fp8", "fp8"),
        ("shape", [4, None, None, 3], (4, None, None, 3)),
        ("shape", [], ()),
    ],
)
def test_good_values_are_returned(accessor: str, value: object, found: object) -> None:
    assert ACCESSORS[accessor](Fields({"key": value}, WHERE, MANIFEST_DOOR)) == found


@pytest.mark.parametrize(
    ("accessor", "value", "expected"),
    [
        ("integer", 0, "a whole number from 1 to 9"),
        ("integer", 10, "a whole number from 1 to 9"),
        ("integer", True, "a whole number from 1 to 9"),
        ("integer", 1.0, "a whole number from 1 to 9"),
        ("flag", 1, "true or false"),
        ("optional_integer", 0, "a whole number from 1 to 9"),
        ("number", 1.6, "a number from 0 to 1.5"),
        ("number", True, "a number from 0 to 1.5"),
        ("number", "1", "a number from 0 to 1.5"),
        ("number", float("nan"), "a number from 0 to 1.5"),
        ("number", float("inf"), "a number from 0 to 1.5"),
        ("number", -float("inf"), "a number from 0 to 1.5"),
        ("integer", float("nan"), "a whole number from 1 to 9"),
        ("integer", 10**299, "a whole number from 1 to 9"),
        ("integers", [4], "a list of at most 3 whole numbers from -3 to 3"),
        ("integers", [True], "a list of at most 3 whole numbers from -3 to 3"),
        ("integers", [0] * 4, "a list of at most 3 whole numbers from -3 to 3"),
        ("texts", ["a", "b", "c"], "a list of at most 2 short printable texts"),
        ("texts", ["a\x1b"], "a list of at most 2 short printable texts"),
        ("texts", "ab", "a list of at most 2 short printable texts"),
        ("sides", [-1], "whole numbers that are not negative"),
        ("sides", [True], "whole numbers that are not negative"),
        ("sides", [1] * 9, "a list of at most 8 sides"),
        ("text", "two\nlines", "a short printable text"),
        ("text", "x" * 257, "a short printable text"),
        ("optional_text", 1, "a short printable text"),
        ("optional_version", "12.", "a version such as 12.8"),
        ("optional_version", "1.2.3.4.5", "a version such as 12.8"),
        ("optional_version", 12, "a version such as 12.8"),
        ("name", "a/b", "a plain name"),
        ("name", "..", "a plain name"),
        ("name", "nul.txt", "a plain name"),
        ("names", ["b", "a"], "distinct plain names in order"),
        ("names", ["a", "a"], "distinct plain names in order"),
        ("names", ["a", "b", "c"], "a list of at most 2 names"),
        ("names", "ab", "a list of at most 2 names"),
        ("digest", "0F" * 32, "a sha256 in hexadecimal"),
        ("optional_digest", "0f", "a sha256 in hexadecimal"),
        ("choice", "fp64", "one of fp16, fp8"),
        ("choice", ["fp8"], "one of fp16, fp8"),
        ("shape", [0], "positive whole numbers or null"),
        ("shape", [True], "positive whole numbers or null"),
        ("shape", [1] * 9, "a list of at most 8 sides"),
        ("children", [], "a list of 1 to 2 objects"),
        ("children", [{}] * 3, "a list of 1 to 2 objects"),
    ],
)
def test_a_wrong_value_is_shown_with_what_was_expected(accessor: str, value: object, expected: str) -> None:
    assert f"recipe.key is {value!r}"[:60] in refusal(accessor, {"key": value})
    assert f", expected {expected}; " in refusal(accessor, {"key": value})


@pytest.mark.parametrize("accessor", sorted(name for name in ACCESSORS.keys() - {"child"} if "optional" not in name))
def test_a_missing_field_is_said_to_be_missing(accessor: str) -> None:
    assert "recipe.key is missing, expected" in refusal(accessor, {})


@pytest.mark.parametrize("raw", [{}, {"key": 1}, {"key": [1]}])
def test_a_child_that_is_not_an_object_is_refused(raw: dict[str, Any]) -> None:
    assert "recipe.key is not a JSON object" in refusal("child", raw)


def test_a_file_that_is_not_an_object_is_refused() -> None:
    with pytest.raises(BundleError, match="the file is not a JSON object; rebuild the bundle"):
        Fields([], WHERE, MANIFEST_DOOR)


def test_nested_fields_are_named_with_their_path() -> None:
    fields = Fields({"stages": [{}, {"inputs": {"size": "x"}}]}, WHERE, MANIFEST_DOOR)
    with pytest.raises(BundleError, match=r"stages\[1\]\.inputs\.size is 'x', expected a whole number"):
        fields.children("stages", 2)[1].child("inputs").integer("size", 1, 9)


def test_a_long_value_is_cut() -> None:
    assert len(refusal("name", {"key": "/" * 5000})) < 200


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)


@given(st.sampled_from(sorted(ACCESSORS)), json_values)
def test_any_value_is_returned_or_refused_in_one_line(accessor: str, value: object) -> None:
    try:
        ACCESSORS[accessor](Fields({"key": value}, WHERE, MANIFEST_DOOR, "recipe."))
    except BundleError:
        refusal(accessor, {"key": value})


DOOR = Door("report", BundleError, "rebuild the bundle", max_bytes=1000)


def turned_away(data: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        parse_json(data, WHERE, DOOR)
    line = str(caught.value)
    assert line.startswith(f"{WHERE}: ")
    assert line.endswith("; rebuild the bundle")
    assert line.isprintable()
    return line


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not valid JSON (Expecting value in line 1, column 1)"),
        (b"{", "not valid JSON"),
        (b"[]", "not a JSON object, expected a report"),
        (b"\xff\xfe{}", "not a text file, expected a report in JSON"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' is there twice"),
        (b'{"a": {"\\u001b[2J": 1, "\\u001b[2J": 3}}', r"the key '\x1b[2J' is there twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "the number 9999999999999999999... is too long"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", f"nested deeper than {MAX_DEPTH} levels"),
        (b'{"a": ' * 100_000, f"nested deeper than {MAX_DEPTH} levels"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_json_that_is_not_strict_is_refused(data: bytes, said: str) -> None:
    assert said in turned_away(data)


@pytest.mark.parametrize("text", ['{"a": "' + "[" * 99 + '"}', '{"a": "\\"[[' + "{" * 99 + '"}'])
def test_brackets_in_texts_are_not_nesting(text: str) -> None:
    assert "a" in parse_json(text, WHERE, DOOR)


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_nesting_is_counted_exactly(depth: int) -> None:
    text = '{"a": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}"
    if depth <= MAX_DEPTH:
        parse_json(text, WHERE, DOOR)
    else:
        turned_away(text.encode())


def test_a_byte_order_mark_is_allowed() -> None:
    """Windows' editors write one, and a calibration may be edited."""
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', WHERE, DOOR).integer("a", 1, 1) == 1


@pytest.mark.alone
@pytest.mark.parametrize("piece", [b'\\"', b'"', b'"\\', b"[", b"]", b'{"":', b"\\"], ids=repr)
def test_the_time_grows_with_the_size_only(piece: bytes) -> None:
    began = time.monotonic()
    turned_away(b'{"' + piece * (4_000_000 // len(piece)))
    assert time.monotonic() - began < 5


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: f'{{"{text}": 1}}'.encode("utf-8", "replace")))
def test_any_bytes_are_an_object_or_refused_in_one_line(data: bytes) -> None:
    try:
        parse_json(data, WHERE, DOOR)
    except BundleError:
        turned_away(data)
    else:
        assert isinstance(json.loads(data.removeprefix(b"\xef\xbb\xbf")), dict)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"report.json: no such file, expected a report; rebuild the bundle$"):
        read_json(tmp_path / "report.json", DOOR)


def test_the_size_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(b"{}" + b" " * 998)
    read_json(path, DOOR)
    path.write_bytes(b"{}" + b" " * 999)
    with pytest.raises(BundleError, match="larger than 1000 bytes, so not a report"):
        read_json(path, DOOR)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_a_directory_or_a_device_is_not_read(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "report.json")
    for read in (read_json, read_safetensors_shapes):
        with pytest.raises(BundleError, match=r"not a plain file, expected a report; rebuild the bundle$"):
            read(tmp_path / "report.json", DOOR)


def test_shapes_come_from_the_header_of_a_safetensors_file(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"by": "x"}, "a": {"shape": [2, 3]}, "b": {"shape": []}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert read_safetensors_shapes(path, DOOR) == {"a": (2, 3), "b": ()}


@pytest.mark.parametrize("length", [0, 1, 100, 1 << 40, (1 << 64) - 1])
def test_a_header_that_is_longer_than_the_file_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(BundleError, match="not a complete report"):
        read_safetensors_shapes(path, DOOR)
