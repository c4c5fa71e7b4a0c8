"""Reads untrusted JSON field by field. Every accessor returns a value of the promised type or raises `BundleError`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...errors import BundleError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
_VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DEVICE_NAMES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_MAX_TEXT = 256
_MAX_RANK = 8


class Fields:
    """One JSON object of a file. where: the file, for messages. prefix: dotted path of the object, ending in a dot."""

    def __init__(self, raw: Any, where: Path, prefix: str = "") -> None:
        if not isinstance(raw, dict):
            raise BundleError(f"{where}: {prefix.rstrip('.') or 'the file'} is not a JSON object; rebuild the bundle")
        self._raw = raw
        self._prefix = prefix
        self.where = where

    def _wrong(self, key: str, expected: str) -> BundleError:
        found = repr(self._raw[key])[:60] if key in self._raw else "missing"
        return BundleError(f"{self.where}: {self._prefix}{key} is {found}, expected {expected}; rebuild the bundle")

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self._raw.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, f"a whole number from {low} to {high}")
        return value

    def flag(self, key: str) -> bool:
        value = self._raw.get(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def text(self, key: str) -> str:
        """Printable text of at most 256 characters."""
        value = self._raw.get(key)
        if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
            raise self._wrong(key, "a short printable text")
        return value

    def optional_text(self, key: str) -> str | None:
        return None if self._raw.get(key) is None else self.text(key)

    def optional_version(self, key: str) -> str | None:
        """One to four whole numbers separated by dots, e.g. `12.8`, or None."""
        value = self._raw.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not _VERSION.fullmatch(value):
            raise self._wrong(key, "a version such as 12.8")
        return value

    def name(self, key: str) -> str:
        """A file name that is safe on every system: no directory part, no leading dot, no device name such as `NUL`."""
        value = self._raw.get(key)
        if not isinstance(value, str) or not _NAME.fullmatch(value) or _DEVICE_NAMES.fullmatch(value):
            raise self._wrong(key, "a plain name")
        return value

    def names(self, key: str, limit: int) -> tuple[str, ...]:
        """Distinct plain names in sorted order, at most `limit`."""
        value = self._raw.get(key)
        if not isinstance(value, list) or len(value) > limit or not all(isinstance(n, str) for n in value):
            raise self._wrong(key, f"a list of at most {limit} names")
        if value != sorted(set(value)) or not all(_NAME.fullmatch(name) for name in value):
            raise self._wrong(key, "distinct plain names in order")
        return tuple(value)

    def digest(self, key: str) -> str:
        """A sha256: 64 lower-case hexadecimal digits."""
        value = self._raw.get(key)
        if not isinstance(value, str) or not _DIGEST.fullmatch(value):
            raise self._wrong(key, "a sha256 in hexadecimal")
        return value

    def optional_digest(self, key: str) -> str | None:
        return None if self._raw.get(key) is None else self.digest(key)

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self._raw.get(key)
        if not isinstance(value, str) or value not in choices:
            raise self._wrong(key, f"one of {', '.join(choices)}")
        return value

    def shape(self, key: str) -> tuple[int | None, ...]:
        """Sides of a tensor, all positive; None for a free side."""
        value = self._raw.get(key)
        if not isinstance(value, list) or len(value) > _MAX_RANK:
            raise self._wrong(key, f"a list of at most {_MAX_RANK} sides")
        for side in value:
            if side is not None and (not isinstance(side, int) or isinstance(side, bool) or side < 1):
                raise self._wrong(key, "positive whole numbers or null")
        return tuple(value)

    def child(self, key: str) -> Fields:
        """A nested object."""
        return Fields(self._raw.get(key), self.where, f"{self._prefix}{key}.")

    def children(self, key: str, limit: int) -> list[Fields]:
        """A list of 1 to `limit` objects."""
        value = self._raw.get(key)
        if not isinstance(value, list) or not 1 <= len(value) <= limit:
            raise self._wrong(key, f"a list of 1 to {limit} objects")
        return [Fields(item, self.where, f"{self._prefix}{key}[{k}].") for k, item in enumerate(value)]
