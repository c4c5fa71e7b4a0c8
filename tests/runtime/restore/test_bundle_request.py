"""What `auto` goes by: which GPU is looked at, and when none is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt import Bundle, MisuseError
from swiftvr_trt.engines.bundle.auto import Host
from swiftvr_trt.runtime.restore import bundle_request, fleet
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest, check_devices
from swiftvr_trt.runtime.restore.restorer import OpenOptions
from swiftvr_trt.runtime.restore.run import RunOptions


@pytest.mark.parametrize(
    ("given", "looked"),
    [
        ({}, (0, True)),
        ({"device": "cuda:2"}, (2, True)),
        ({"devices": "1,0"}, (1, True)),
        ({"devices": "cpu,1"}, (1, False)),
        ({"device": "cuda", "ort_graphs": True}, (0, False)),
        ({"device": "cpu"}, None),
        ({"devices": "cpu,cpu"}, None),
    ],
)
def test_auto_looks_at_the_gpu_that_restores(
    given: dict[str, Any], looked: tuple[int, bool] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, bool]] = []

    def look(index: int = 0, *, engines: bool = True) -> Host:
        calls.append((index, engines))
        return Host(gpu="one")

    monkeypatch.setattr(bundle_request, "look_at_host", look)
    monkeypatch.setattr(fleet, "require_driver", lambda: None)
    options = RunOptions((Path("in.mp4"),), "out.mp4", **given).on_this_machine()
    assert calls == ([] if looked is None else [looked])
    assert options.request.host == (Host(why_cpu="the CPU was asked for") if looked is None else Host(gpu="one"))
    assert options.request.gpu == (looked or (0,))[0]


@pytest.mark.parametrize(
    ("given", "gpu"), [({}, 0), ({"device": "cuda:2"}, 2), ({"devices": "cpu,1"}, 1), ({"device": "cpu"}, 0)]
)
def test_a_named_target_is_built_for_the_gpu_that_restores(
    given: dict[str, Any], gpu: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "require_driver", lambda: None)
    request = BundleRequest(target="local")
    assert RunOptions((Path("in.mp4"),), "out.mp4", request=request, **given).on_this_machine().request.gpu == gpu


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_auto_knows_that_overlap_takes_engines_and_memory(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_request, "look_at_host", lambda *_, **__: Host(gpu="one"))
    for overlap in (False, True):
        found = RunOptions((Path("in.mp4"),), "out.mp4", device=device, overlap=overlap).on_this_machine().request.host
        assert found is not None
        assert found.overlap is overlap


@pytest.mark.parametrize("request_", [BundleRequest(bundle=Path("b")), BundleRequest(target="rtx4090")])
def test_a_named_bundle_or_target_needs_no_look(request_: BundleRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(bundle_request, "look_at_host")
    options = RunOptions((Path("in.mp4"),), "out.mp4", request=request_)
    assert options.on_this_machine() == options


def test_overlap_with_auto_is_not_taken_for_graphs_before_anything_was_chosen() -> None:
    """`auto` stands for a bundle that runs anywhere until it is asked, and refused `--overlap` on every machine."""
    overlap = OpenOptions(overlap=True)
    check_devices(BundleRequest(), [None], overlap)
    with pytest.raises(MisuseError, match="--overlap was given for a bundle for cpu"):
        check_devices(BundleRequest(target="cpu"), [None], overlap)


@pytest.mark.parametrize(
    ("devices", "refused"), [(("gpu",), True), (("gpu", "cpu"), False), (("gpu", "tpu"), True), ((None,), False)]
)
def test_one_device_that_can_run_the_bundle_is_enough(
    bundle: Bundle, devices: tuple[str | None, ...], refused: bool
) -> None:
    request = BundleRequest(bundle=bundle.path)
    if not refused:
        check_devices(request, devices, OpenOptions())
        return
    with pytest.raises(MisuseError, match="device 'gpu' is not known"):
        check_devices(request, devices, OpenOptions())
