"""What `write_bundle` records about the machine it ran on."""

from __future__ import annotations

import pytest

from swiftvr_trt.engines.bundle.manifest import Toolchain
from swiftvr_trt.engines.bundle.targets import find_target
from swiftvr_trt.export import write
from swiftvr_trt.runtime.devices.driver import Driver


@pytest.mark.parametrize(
    ("name", "driver", "capability", "offered"),
    [
        ("rtx4090", None, "8.9", None),
        ("rtx4090", Driver("13.0", "12.0"), "8.9", "13.0"),  # compiled ahead of time, for another GPU
        ("local", Driver("13.0", "12.0"), "12.0", "13.0"),
        ("local", None, None, None),
    ],
)
def test_a_build_records_what_its_engines_are_for(
    monkeypatch: pytest.MonkeyPatch, name: str, driver: Driver | None, capability: str | None, offered: str | None
) -> None:
    monkeypatch.setattr(write, "find_driver", lambda: driver)
    monkeypatch.setattr(write, "package_cuda", lambda _module: "12")
    monkeypatch.setattr(write, "compiler_version", lambda _compiler: "1.0")
    target = find_target(name)
    recorded = write._toolchain(target)
    assert recorded == Toolchain(recorded.tool, target.compiler, "1.0", capability, "12", offered)
