"""Which driver a CUDA version takes, and which one bundles take with what is installed."""

from __future__ import annotations

import pytest

from swiftvr_trt.engines.bundle.drivers import driver_needs, oldest_driver
from swiftvr_trt.installing import install_command


@pytest.mark.parametrize(
    ("cuda", "driver"),
    [
        ("12", "version 525 or newer"),
        ("12.3", "version 570 or newer"),
        ("13", "version 580 or newer"),
        ("13.1", "one for CUDA 13.1 or newer"),
    ],
)
def test_the_oldest_driver_for_a_cuda_version(cuda: str, driver: str) -> None:
    assert oldest_driver(cuda) == driver


@pytest.mark.parametrize(
    ("extra", "bindings", "offered", "extras", "cuda", "instead"),
    [
        ("rtx", None, None, ("rtx", "cuda"), "13", True),
        ("rtx", None, "12.4", ("rtx", "cuda12"), "12", True),
        ("rtx", "13.1.1", "12.4", ("rtx", "cuda12"), "13", True),
        ("rtx", "12.9.4", "11.8", ("rtx", "cuda12"), "12", False),
        ("tensorrt", "12.9.4", "12.0", ("tensorrt", "cuda12"), "12.2", False),
        ("gpu", "12.9.4", "12.4", ("gpu", "cuda"), "13", False),
        ("gpu", None, "13.0", ("gpu", "cuda"), "13", True),
    ],
)
def test_what_is_installed_and_what_would_be_decide(  # one argument per column
    extra: str, bindings: str | None, offered: str | None, extras: tuple[str, str], cuda: str, instead: bool
) -> None:
    needs = driver_needs(extra, "8.9", {"cuda-bindings": bindings}, offered)
    assert (needs.extras, needs.cuda) == (extras, cuda)
    assert needs.too_old == (offered is not None and float(offered) < float(cuda))
    assert needs.instead == (f"{install_command('cuda12')}, or " if instead else "")
