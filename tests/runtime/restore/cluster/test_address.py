"""Which addresses name a cluster."""

from __future__ import annotations

import pytest

from swiftvr_trt import MisuseError
from swiftvr_trt.runtime.restore.cluster.address import ClusterOptions


@pytest.mark.parametrize(
    ("address", "place", "outside"),
    [
        ("auto", None, False),
        ("local", None, False),
        ("ray://head:10001", ("head", 10001), True),
        ("ray://[::1]:10001", ("::1", 10001), True),
        ("10.0.0.3:6379", ("10.0.0.3", 6379), False),
        ("node-1.lan:65535", ("node-1.lan", 65535), False),
    ],
)
def test_addresses(address: str, place: tuple[str, int] | None, outside: bool) -> None:
    options = ClusterOptions(address)
    assert (options.place, options.is_outside) == (place, outside)


@pytest.mark.parametrize(
    "address",
    ["", "Auto", "head", "head:", ":6379", "head:0", "head:65536", "ray://head", "http://head:8265", "a b:1", "a:1:2"],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(MisuseError, match="expected auto, local, ray://HOST:10001"):
        ClusterOptions(address)


@pytest.mark.parametrize("device", ["cuda:0", "gpu", ""])
def test_ray_chooses_the_gpu(device: str) -> None:
    with pytest.raises(MisuseError, match="expected cuda or cpu"):
        ClusterOptions("auto", device=device)
