"""A researcher who has the weights from somewhere: a hub, a mirror, another program."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from swiftvr_trt.runtime.media.colour import converted
from tests.cli.program import Said
from tests.clips import write_clip
from tests.export.network.test_layouts import as_wan
from tests.hub_server import REPOSITORY, HubServer, serve_hub

from .conftest import Venv

pytestmark = pytest.mark.slow

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
SIZE = ("--resolution", "64x48", "--clip-len", 4)


@pytest.fixture
def hub(mini_checkpoint: Path) -> Iterator[HubServer]:
    with serve_hub(mini_checkpoint) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the researcher works: a clip is there."""
    write_clip(tmp_path / "in.mp4", frames=6)
    return tmp_path


def pixels(video: Path) -> NDArray[np.uint8]:
    with av.open(video) as container:
        return np.stack([converted(frame, format="rgb24").to_ndarray() for frame in container.decode(video=0)])


def restore(venv: Venv, folder: Path, output: str, checkpoint: object) -> Said:
    line = ("swiftvr-run", "in.mp4", output, "--checkpoint", checkpoint, *SIZE, "--cache", "cache", "--codec", "ffv1")
    return venv.run(*line, cwd=folder)


def test_weights_of_a_mirror_restore_a_film(
    export_venv: Venv, folder: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    said = export_venv.run("swiftvr-export", "download", f"hf:{REPOSITORY}", "--to", "weights", cwd=folder)
    assert (said.code, said.out) == (0, "weights\n"), said.err
    assert "licence: apache-2.0" in said.err
    said = restore(export_venv, folder, "out.mkv", "weights")
    assert said.code == 0, said.err
    said = restore(export_venv, folder, "again.mkv", f"hf:{REPOSITORY}")
    assert said.code == 0, said.err
    assert "prepared" not in said.err, "the same weights need no other bundle"
    assert np.array_equal(pixels(folder / "again.mkv"), pixels(folder / "out.mkv"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = restore(export_venv, folder, "offline.mkv", f"hf:{REPOSITORY}")
    assert said.code == 0, said.err


def test_a_port_of_another_program_restores_the_same_film(
    export_venv: Venv, folder: Path, mini_checkpoint: Path
) -> None:
    """As ComfyUI names tensors, in an archive's folder, under another file name."""
    port = folder / "download" / "SwiftVR-comfy"
    shutil.copytree(mini_checkpoint, port)
    tensors = load_file(port / TRANSFORMER)
    (port / TRANSFORMER).unlink()
    save_file(
        {f"model.diffusion_model.{as_wan(name)}": tensor for name, tensor in tensors.items()},
        port / "transformer" / "swiftvr_fp32.safetensors",
    )
    for output, checkpoint in (("plain.mkv", mini_checkpoint), ("port.mkv", "download")):
        said = restore(export_venv, folder, output, checkpoint)
        assert said.code == 0, said.err
    assert np.array_equal(pixels(folder / "port.mkv"), pixels(folder / "plain.mkv"))


def test_what_cannot_be_used_is_named(export_venv: Venv, folder: Path, mini_checkpoint: Path) -> None:
    for name in ("fp8", "lfs", "pickle"):
        shutil.copytree(mini_checkpoint, folder / name)
    tensors = load_file(mini_checkpoint / TRANSFORMER)
    save_file({name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors.items()}, folder / "fp8" / TRANSFORMER)
    (folder / "lfs" / TRANSFORMER).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    (folder / "pickle" / TRANSFORMER).rename(folder / "pickle" / "transformer" / "swiftvr.pth")
    for name, words in (
        ("fp8", "FP8 weights (F8_E4M3), expected F32, F16 or BF16"),
        ("lfs", "is a Git LFS pointer"),
        ("pickle", "a pickle can run code"),
        ("pickle/transformer/swiftvr.pth", "a pickle can run code"),
        (f"https://huggingface.co/{REPOSITORY}", f"type hf:{REPOSITORY}"),
    ):
        said = restore(export_venv, folder, "out.mkv", name)
        assert said.code == 2, said.err
        assert words in said.error
        assert not (folder / "out.mkv").exists()


def test_without_a_model_each_way_can_be_pasted(export_venv: Venv, folder: Path) -> None:
    said = export_venv.run("swiftvr-run", "in.mp4", "out.mp4", "--cache", "cache", cwd=folder)
    assert said.code == 2
    for way in ("--checkpoint demo", "--checkpoint hf:H-oliday/SwiftVR", "--bundle bundle-112x68"):
        assert f"    swiftvr-run in.mp4 out.mp4 --cache cache {way}\n" in said.err
