"""Which cluster to use, and how its nodes get their files. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ....errors import MisuseError

DEVICES = ("cpu", "cuda")
"""What --device may name on a cluster. Ray chooses the GPU."""

_PLACE = re.compile(r"(ray://)?([^\s:/\[\]]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")


@dataclass(frozen=True)
class ClusterOptions:
    """A cluster of Ray.

    address   auto (the one that runs on this machine, or the one that $RAY_ADDRESS names), local (started for this run,
              on this machine), ray://HOST:PORT (from outside the cluster) or HOST:PORT (from one of its nodes)
    ship      send inputs and bundles to the nodes; False if they have them under the same paths
    device    where the nodes run bundles, one of `DEVICES`; None for what each bundle was built for

    Raises `MisuseError` for anything else.
    """

    address: str
    ship: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        if self.address not in ("auto", "local") and self.place is None:
            raise MisuseError(
                f"--cluster is {self.address!r}, expected auto, local, ray://HOST:10001 (from outside the cluster) or "
                "HOST:6379 (on one of its nodes)"
            )
        if self.device not in (None, *DEVICES):
            raise MisuseError(
                f"--device is {self.device!r}, expected cuda or cpu with --cluster: Ray chooses the GPU of each process"
            )

    @property
    def place(self) -> tuple[str, int] | None:
        """Host and port; None if the address names none."""
        found = _PLACE.fullmatch(self.address)
        return (found[2].strip("[]"), int(found[3])) if found and 0 < int(found[3]) < 1 << 16 else None

    @property
    def is_outside(self) -> bool:
        """True if this machine is no node of the cluster."""
        return self.address.startswith("ray://")
