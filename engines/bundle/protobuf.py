"""Reads protobuf messages, strictly: known fields only, each with its wire type, and single ones at most once.

A parser like this is for a reader that must see everything that a laxer parser would see. (A protobuf library skips
unknown fields and merges repeated ones.) Every malformed message raises `ValueError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

_VARINT, _BYTES, _FOUR = 0, 2, 5
"""Wire types. Those of 8 bytes and of groups do not occur."""


class FieldKind(Enum):
    """What a field holds: its wire types, and whether it may be there several times.

    Bytes are a text, a nested message, or a tensor's data. Numbers and floats that may repeat may be packed into bytes.
    """

    NUMBER = (frozenset({_VARINT}), False)
    NUMBERS = (frozenset({_VARINT, _BYTES}), True)
    FLOAT = (frozenset({_FOUR}), False)
    FLOATS = (frozenset({_FOUR, _BYTES}), True)
    BYTES = (frozenset({_BYTES}), False)
    MANY_BYTES = (frozenset({_BYTES}), True)

    @property
    def wires(self) -> frozenset[int]:
        return self.value[0]

    @property
    def repeated(self) -> bool:
        return self.value[1]


@dataclass(frozen=True)
class RawMessage:
    """The fields of one message by number. Nested messages and texts are bytes."""

    numbers: Mapping[int, list[int]]
    blocks: Mapping[int, list[memoryview]]

    def number(self, field: int, default: int = 0) -> int:
        return self.numbers[field][0] if field in self.numbers else default

    def block(self, field: int) -> memoryview:
        return self.blocks[field][0] if field in self.blocks else memoryview(b"")

    def many(self, field: int) -> list[memoryview]:
        return self.blocks.get(field, [])

    def text(self, field: int) -> str:
        return printable_text(self.block(field))

    def texts(self, field: int) -> list[str]:
        return [printable_text(block) for block in self.many(field)]


def printable_text(block: memoryview) -> str:
    """A name: printable UTF-8 of at most 1000 bytes."""
    try:
        text = bytes(block[:1001]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("a name is not text") from error
    if len(block) > 1000 or not text.isprintable():
        raise ValueError(f"the name {text[:20]!r} is not a short printable text")
    return text


def read_message(data: memoryview, known: Mapping[int, FieldKind]) -> RawMessage:
    """The fields of a message. known: the fields that it may have."""
    numbers: dict[int, list[int]] = {}
    blocks: dict[int, list[memoryview]] = {}
    for field, wire, value in _fields(data):
        kind = known.get(field)
        if kind is None or wire not in kind.wires:
            raise ValueError(f"it has a field {field} that no graph of this package has")
        if not kind.repeated and (field in numbers or field in blocks):
            raise ValueError(f"its field {field} is there twice")
        if isinstance(value, int):
            numbers.setdefault(field, []).append(value)
        elif kind is FieldKind.NUMBERS:
            numbers.setdefault(field, []).extend(_packed(value))
        else:
            blocks.setdefault(field, []).append(value)
    return RawMessage(numbers, blocks)


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """(number, wire type, value) of each field, in their order."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, place = _varint(data, place)
            yield field, wire, value
            continue
        size, place = _varint(data, place) if wire == _BYTES else (4, place)
        if wire not in (_BYTES, _FOUR) or size > len(data) - place:
            raise ValueError("it is damaged")
        yield field, wire, data[place : place + size]
        place += size


def _packed(data: memoryview) -> Iterator[int]:
    place = 0
    while place < len(data):
        value, place = _varint(data, place)
        yield value


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """The number at `place`, at most 64 bits, and the place after it."""
    value = shift = 0
    while place < len(data) and shift < 64:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
        shift += 7
    raise ValueError("it is damaged")
