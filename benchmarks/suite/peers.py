"""What others state about their own programs, with source, protocol, hardware and date: `peers.json`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...errors import MisuseError
from ...outside import Door, read_json
from .record import Peer, from_values

PEERS = Path(__file__).with_name("peers.json")
_DOOR = Door("file of peers", MisuseError, "reinstall swiftvr-trt", max_bytes=1 << 20)


@dataclass(frozen=True)
class _PeerList:
    peers: tuple[Peer, ...]


@lru_cache(maxsize=1)
def read_peers() -> tuple[Peer, ...]:
    """All of them. None of these figures was measured with this tool, and each is of other hardware than yours."""
    return from_values(_PeerList, read_json(PEERS, _DOOR).content(), PEERS).peers
