"""The door for files that others may have written: JSON, and the headers of safetensors files.

    REPORT = Door("report", BundleError, "rebuild the bundle", max_bytes=1 << 24)
    fields = read_json(path, REPORT)
    seconds = fields.number("seconds", 0, 1e9)

Nothing that comes through it is trusted. A file is a regular one and has a limited size; JSON is strict (no key twice,
the length of numbers and nesting bounded); every value that is asked for has the promised type and range, so it is
never NaN or infinite. Whatever else arrives raises the door's error: one line that names the file, the field, what is
there and what was expected.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from .errors import MisuseError

MAX_DEPTH = 32
"""Of nested lists and objects. Deeper ones could exhaust the stack of whoever walks through them."""
_MAX_DIGITS = 300
"""Of a whole number. Python refuses to print those of over 4300."""
_MAX_HEADER = 100_000_000
"""Bytes of a safetensors header, the limit of the safetensors library."""

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)  # also one without an end: linear time on any text
_NO_BRACKET = re.compile(r"[^\[\]{}]+")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
_VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DEVICE_NAMES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_MAX_TEXT = 256
_MAX_RANK = 8
_MAX_TENSORS = 1 << 20


@dataclass(frozen=True)
class Door:
    """How files of one kind are read.

    what: the kind, for messages. error, remedy: what a wrong file raises, and how its message ends. max_bytes: the
    largest that is read.
    """

    what: str
    error: type[MisuseError]
    remedy: str
    max_bytes: int

    def refuse(self, where: Path, problem: str) -> NoReturn:
        """Raise the error for the file `where`."""
        raise self.error(f"{where}: {problem}; {self.remedy}")


def open_regular(path: Path, door: Door) -> int:
    """A descriptor to read a regular file. Pipes and devices are refused, since reading them may never end."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe must not block `open`
    try:
        number = os.open(path, flags)
    except FileNotFoundError:
        door.refuse(path, f"no such file, expected a {door.what}")
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        door.refuse(path, _unreadable(error, door))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        door.refuse(path, f"not a plain file, expected a {door.what}")
    return number


def read_file(path: Path, door: Door) -> bytes:
    """The content of a regular file."""
    with open(open_regular(path, door), "rb") as file:
        try:
            data = file.read(door.max_bytes + 1)
        except OSError as error:
            door.refuse(path, _unreadable(error, door))
    if len(data) > door.max_bytes:
        door.refuse(path, f"larger than {door.max_bytes} bytes, so not a {door.what}")
    return data


def _unreadable(error: OSError | ValueError, door: Door) -> str:
    return f"cannot be read as a {door.what} ({getattr(error, 'strerror', None) or error})"


def read_json(path: Path, door: Door) -> Fields:
    """The JSON object in a file."""
    return parse_json(read_file(path, door), path, door)


def parse_json(data: bytes | str, where: Path, door: Door) -> Fields:
    """The JSON object in `data`, which is the content of `where` or of a part of it."""
    expected = f"expected a {door.what}"
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
    except UnicodeDecodeError:
        door.refuse(where, f"not a text file, {expected} in JSON")
    if _depth(text) > MAX_DEPTH:
        door.refuse(where, f"not a valid {door.what} (nested deeper than {MAX_DEPTH} levels)")
    try:
        raw = json.loads(text, object_pairs_hook=_object, parse_int=_integer)
    except json.JSONDecodeError as error:
        door.refuse(where, f"not valid JSON ({error.msg} in line {error.lineno}, column {error.colno}), {expected}")
    except ValueError as error:
        door.refuse(where, f"not valid JSON ({error}), {expected}")
    if not isinstance(raw, dict):
        door.refuse(where, f"not a JSON object, {expected}")
    return Fields(raw, where, door)


def _depth(text: str) -> int:
    """How deep lists and objects are nested; of invalid JSON, at least as deep as its parser goes."""
    depth = deepest = 0
    for bracket in _NO_BRACKET.sub("", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {_shown(twice)} is there twice")
    return found


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"the number {digits[:19]}... is too long")
    return int(digits)


def _shown(value: object) -> str:
    return repr(value)[:60]


class Fields:
    """One JSON object of a file, whose accessors return a value of the promised type or raise the door's error.

    where: the file, for messages. prefix: dotted path of the object, ending in a dot.
    """

    def __init__(self, raw: Any, where: Path, door: Door, prefix: str = "") -> None:
        if not isinstance(raw, dict):
            door.refuse(where, f"{prefix.rstrip('.') or 'the file'} is not a JSON object")
        self._raw: dict[str, Any] = raw
        self._prefix = prefix
        self.where, self.door = where, door

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def names_of_fields(self, limit: int) -> tuple[str, ...]:
        """The keys of an object whose keys are free: at most `limit` texts, each as in `text`."""
        if len(self._raw) > limit or not all(map(_is_short_text, self._raw)):
            path = self._prefix.rstrip(".") or "the file"
            self.door.refuse(self.where, f"{path} has other keys than at most {limit} short printable texts")
        return tuple(self._raw)

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raise the error for one field."""
        found = _shown(self._raw[key]) if key in self._raw else "missing"
        self.door.refuse(self.where, f"{self._prefix}{key} is {found}, expected {expected}")

    def content(self) -> dict[str, Any]:
        """All of it, unchecked."""
        return dict(self._raw)

    def value(self, key: str, default: object) -> object:
        """Whatever is there, to be compared with what is expected."""
        return self._raw.get(key, default)

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self._raw.get(key)
        if not _is_whole(value, low, high):
            self.refuse(key, f"a whole number from {low} to {high}")
        return value

    def optional_integer(self, key: str, low: int, high: int) -> int | None:
        return None if self._raw.get(key) is None else self.integer(key, low, high)

    def number(self, key: str, low: float, high: float) -> float:
        """A number from `low` to `high`, whole or not."""
        value = self._raw.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            self.refuse(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def integers(self, key: str, low: int, high: int, limit: int) -> tuple[int, ...]:
        """At most `limit` whole numbers from `low` to `high`."""
        value = self._raw.get(key)
        if not isinstance(value, list) or len(value) > limit or not all(_is_whole(v, low, high) for v in value):
            self.refuse(key, f"a list of at most {limit} whole numbers from {low} to {high}")
        return tuple(value)

    def flag(self, key: str) -> bool:
        value = self._raw.get(key)
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value

    def text(self, key: str) -> str:
        """Printable text of at most 256 characters."""
        value = self._raw.get(key)
        if not _is_short_text(value):
            self.refuse(key, "a short printable text")
        return str(value)

    def texts(self, key: str, limit: int) -> tuple[str, ...]:
        """At most `limit` texts, each as in `text`."""
        value = self._raw.get(key)
        if not isinstance(value, list) or len(value) > limit or not all(map(_is_short_text, value)):
            self.refuse(key, f"a list of at most {limit} short printable texts")
        return tuple(value)

    def optional_text(self, key: str) -> str | None:
        return None if self._raw.get(key) is None else self.text(key)

    def optional_version(self, key: str) -> str | None:
        """One to four whole numbers separated by dots, e.g. `12.8`, or None."""
        value = self._raw.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not _VERSION.fullmatch(value):
            self.refuse(key, "a version such as 12.8")
        return value

    def name(self, key: str) -> str:
        """A file name that is safe on every system: no directory part, no leading dot, no device name such as `NUL`."""
        value = self._raw.get(key)
        if not isinstance(value, str) or not _NAME.fullmatch(value) or _DEVICE_NAMES.fullmatch(value):
            self.refuse(key, "a plain name")
        return value

    def names(self, key: str, limit: int) -> tuple[str, ...]:
        """Distinct plain names in sorted order, at most `limit`."""
        value = self._raw.get(key)
        if not isinstance(value, list) or len(value) > limit or not all(isinstance(n, str) for n in value):
            self.refuse(key, f"a list of at most {limit} names")
        if value != sorted(set(value)) or not all(_NAME.fullmatch(name) for name in value):
            self.refuse(key, "distinct plain names in order")
        return tuple(value)

    def digest(self, key: str) -> str:
        """A sha256: 64 lower-case hexadecimal digits."""
        value = self._raw.get(key)
        if not isinstance(value, str) or not _DIGEST.fullmatch(value):
            self.refuse(key, "a sha256 in hexadecimal")
        return value

    def optional_digest(self, key: str) -> str | None:
        return None if self._raw.get(key) is None else self.digest(key)

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self._raw.get(key)
        if not isinstance(value, str) or value not in choices:
            self.refuse(key, f"one of {', '.join(choices)}")
        return value

    def shape(self, key: str) -> tuple[int | None, ...]:
        """Sides of a tensor, all positive; None for a free side."""
        value = self._raw.get(key)
        if not isinstance(value, list) or len(value) > _MAX_RANK:
            self.refuse(key, f"a list of at most {_MAX_RANK} sides")
        for side in value:
            if side is not None and (not isinstance(side, int) or isinstance(side, bool) or side < 1):
                self.refuse(key, "positive whole numbers or null")
        return tuple(value)

    def sides(self, key: str) -> tuple[int, ...]:
        """Sides of a tensor that may be empty: whole numbers from 0."""
        value = self._raw.get(key)
        if not isinstance(value, list) or len(value) > _MAX_RANK:
            self.refuse(key, f"a list of at most {_MAX_RANK} sides")
        if not all(isinstance(side, int) and not isinstance(side, bool) and side >= 0 for side in value):
            self.refuse(key, "whole numbers that are not negative")
        return tuple(value)

    def child(self, key: str) -> Fields:
        """A nested object."""
        return Fields(self._raw.get(key), self.where, self.door, f"{self._prefix}{key}.")

    def children(self, key: str, limit: int) -> list[Fields]:
        """A list of 1 to `limit` objects."""
        value = self._raw.get(key)
        if not isinstance(value, list) or not 1 <= len(value) <= limit:
            self.refuse(key, f"a list of 1 to {limit} objects")
        return [Fields(item, self.where, self.door, f"{self._prefix}{key}[{k}].") for k, item in enumerate(value)]


def _is_whole(value: object, low: int, high: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_short_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT and value.isprintable()


def read_safetensors_shapes(path: Path, door: Door) -> Mapping[str, tuple[int, ...]]:
    """Shape of every tensor in a safetensors file, from its header. The file begins with the header's length."""
    with open(open_regular(path, door), "rb") as file:
        try:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_MAX_HEADER, os.fstat(file.fileno()).st_size - 8):
                door.refuse(path, f"not a complete {door.what}")
            header = parse_json(file.read(length), path, door)
        except OSError as error:
            door.refuse(path, _unreadable(error, door))
    names = header.names_of_fields(_MAX_TENSORS)
    return {name: header.child(name).sides("shape") for name in names if name != "__metadata__"}
