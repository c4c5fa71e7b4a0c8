"""What `write_bundle` records about the machine it ran on."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from swiftvr_trt import CheckpointError
from swiftvr_trt.engines.bundle.manifest import Recipe, Toolchain
from swiftvr_trt.engines.bundle.targets import find_target
from swiftvr_trt.export import write
from swiftvr_trt.runtime.devices.driver import Driver
from tests.mini import write_mini_checkpoint


@pytest.mark.parametrize(
    ("name", "driver", "capability", "offered"),
    [
        ("rtx4090", None, "8.9", None),
        ("rtx4090", Driver("13.0", "12.0"), "8.9", "13.0"),  # compiled ahead of time, for another GPU
        ("local", Driver("13.0", "12.0"), "12.0", "13.0"),
        ("local", None, None, None),
        ("h100", Driver("13.0", "9.0"), "9.0", "13.0"),
        ("h100", Driver("13.0", "8.9"), "8.9", "13.0"),  # TensorRT builds for the GPU that is there
        ("h100", None, None, None),
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


@pytest.mark.parametrize("name", ["decoder.22.bias", "encoder.8.weight"])
def test_a_checkpoint_with_a_weight_that_is_not_finite_gives_no_bundle(tmp_path: Path, name: str) -> None:
    root = write_mini_checkpoint(tmp_path / "checkpoint")
    tensors = load_file(root / "reae.safetensors")
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, root / "reae.safetensors")
    recipe = Recipe("c0" * 32, 32, 32, 8, "fp32", "onnx")
    with pytest.raises(CheckpointError, match=f"checkpoint: tensor {name} holds NaN or infinity; download"):
        write.write_bundle(root, recipe, tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
