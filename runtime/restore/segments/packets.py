"""Encoded pictures on disk: the packets of one piece, exactly as the encoder gave them.

Containers change time stamps: some round them, some shift them, some store only one of the two. A piece must keep both
to the tick, for any codec, so its file is a list of packets and nothing else:

    8 bytes     b"SVTRPK01"
    per packet  size (uint32), flags (uint32: 1 for a key frame, 2 for transparency apart), pts, dts, duration (int64
                each), then the data; if there is transparency, its size (uint32), then that

All numbers are little-endian. The time base and the digest of the file are in the piece's mark (`store.Mark`).
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from .... import leaving
from ...media.files import explain_write_errors
from ...media.picture_encoder import EncodedPicture

_MAGIC = b"SVTRPK01"
_HEAD = struct.Struct("<IIqqq")
_SIZE = struct.Struct("<I")
_KEY, _ALPHA = 1, 2
_MAX_PACKET = 1 << 30


class PacketWriter:
    """Writes a packet file: `write` each packet, then `finish` or `discard` it.

    Raises `OutputError`, which names `target`, the user's output, if the disk fails.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self._path, self._target = path, target
        self._digest = hashlib.sha256()
        self._finished = False
        self.packets = self.size = 0
        with leaving.creating(path) as self._release, explain_write_errors(target):
            self._file: BinaryIO = path.open("wb", buffering=1 << 20)
        try:
            self._put(_MAGIC)
        except BaseException:
            self.discard()
            raise

    def write(self, packet: EncodedPicture) -> None:
        flags = _KEY * packet.key | _ALPHA * bool(packet.alpha)
        self._put(_HEAD.pack(len(packet.data), flags, packet.pts, packet.dts, packet.duration) + packet.data)
        if packet.alpha:
            self._put(_SIZE.pack(len(packet.alpha)) + packet.alpha)
        self.packets += 1

    def finish(self) -> str:
        """Flush everything to the disk. Returns the sha256 of the file."""
        with explain_write_errors(self._target):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        self._finished = True
        self._release()
        return self._digest.hexdigest()

    def _put(self, data: bytes) -> None:
        with explain_write_errors(self._target):
            self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def discard(self) -> None:
        """Remove the file. Does nothing after `finish`."""
        if not self._finished:
            with suppress(OSError):
                self._file.close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            self._release()


def read_packets(path: Path) -> Iterator[EncodedPicture]:
    """The packets of a file whose digest was checked. Raises `OSError`, or `ValueError` if it is no packet file."""
    with path.open("rb", buffering=1 << 20) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError("it does not begin like a packet file")
        while head := file.read(_HEAD.size):
            size, flags, pts, dts, duration = _HEAD.unpack(_whole(head, _HEAD.size))
            data = _read(file, size)
            alpha = _read(file, *_SIZE.unpack(_read(file, _SIZE.size))) if flags & _ALPHA else b""
            yield EncodedPicture(data, pts, dts, duration, bool(flags & _KEY), alpha)


def _read(file: BinaryIO, size: int) -> bytes:
    return _whole(file.read(size) if size <= _MAX_PACKET else b"", size)


def _whole(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise ValueError("it ends within a packet")
    return data
