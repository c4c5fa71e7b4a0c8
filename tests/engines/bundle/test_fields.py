"""Fields of untrusted JSON: a value of the promised type, or one line that names the field and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt import BundleError
from swiftvr_trt.engines.bundle.fields import Fields

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
    "shape": lambda fields: fields.shape("key"),
    "child": lambda fields: fields.child("key"),
    "children": lambda fields: fields.children("key", 2),
}


def refusal(accessor: str, raw: dict[str, Any]) -> str:
    with pytest.raises(BundleError) as caught:
        ACCESSORS[accessor](Fields(raw, WHERE, "recipe."))
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
    assert ACCESSORS[accessor](Fields({"key": value}, WHERE)) == found


@pytest.mark.parametrize(
    ("accessor", "value", "expected"),
    [
        ("integer", 0, "a whole number from 1 to 9"),
        ("integer", 10, "a whole number from 1 to 9"),
        ("integer", True, "a whole number from 1 to 9"),
        ("integer", 1.0, "a whole number from 1 to 9"),
        ("flag", 1, "true or false"),
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
        Fields([], WHERE)


def test_nested_fields_are_named_with_their_path() -> None:
    fields = Fields({"stages": [{}, {"inputs": {"size": "x"}}]}, WHERE)
    with pytest.raises(BundleError, match=r"stages\[1\]\.inputs\.size is 'x', expected a whole number"):
        fields.children("stages", 2)[1].child("inputs").integer("size", 1, 9)


def test_a_long_value_is_cut() -> None:
    assert len(refusal("name", {"key": "/" * 5000})) < 200


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)


@given(st.sampled_from(sorted(ACCESSORS)), json_values)
def test_any_value_is_returned_or_refused_in_one_line(accessor: str, value: object) -> None:
    try:
        ACCESSORS[accessor](Fields({"key": value}, WHERE, "recipe."))
    except BundleError:
        refusal(accessor, {"key": value})
