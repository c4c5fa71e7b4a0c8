"""Protobuf, strictly: what a protobuf library would skip or merge is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt.engines.bundle.protobuf import FieldKind, read_message

KNOWN = {
    1: FieldKind.NUMBER,
    2: FieldKind.NUMBERS,
    3: FieldKind.FLOAT,
    4: FieldKind.FLOATS,
    5: FieldKind.BYTES,
    6: FieldKind.MANY_BYTES,
}


def test_fields_are_read_by_number() -> None:
    # 1: 300. 2: 1, then 2 and 3 packed. 3: four bytes. 5: "abc". 6: "", "x".
    data = b"\x08\xac\x02\x10\x01\x12\x02\x02\x03\x1d\0\0\x80?\x2a\x03abc\x32\x00\x32\x01x"
    message = read_message(memoryview(data), KNOWN)
    assert message.number(1) == 300
    assert message.numbers[2] == [1, 2, 3]
    assert message.text(5) == "abc"
    assert message.texts(6) == ["", "x"]
    assert (message.number(7), message.text(7), message.many(7)) == (0, "", [])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x38\x01", "a field 7 that no graph"),
        (b"\x0a\x01x", "a field 1 that no graph"),
        (b"\x09" + b"x" * 8, "a field 1 that no graph|damaged"),
        (b"\x33\x34", "damaged"),
        (b"\x08\x01\x08\x02", "its field 1 is there twice"),
        (b"\x2a\x00\x2a\x00", "its field 5 is there twice"),
        (b"\x08", "damaged"),
        (b"\x08" + b"\xff" * 11, "damaged"),
        (b"\x2a\x05abc", "damaged"),
        (b"\x1d\x01", "damaged"),
    ],
)
def test_what_a_lax_parser_would_accept_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_message(memoryview(data), KNOWN)


@pytest.mark.parametrize("name", [b"\xff", b"a\x1b[2J", b"a\nb", b"x" * 1001])
def test_a_name_is_short_printable_text(name: bytes) -> None:
    message = read_message(memoryview(b"\x2a" + bytes([len(name) & 127 | 128, len(name) >> 7]) + name), KNOWN)
    with pytest.raises(ValueError, match=r"a name is not text|is not a short printable text"):
        message.text(5)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_message_or_a_value_error(data: bytes) -> None:
    try:
        message = read_message(memoryview(data), KNOWN)
    except ValueError:
        return
    assert sum(map(len, message.numbers.values())) + sum(map(len, message.blocks.values())) <= len(data)
