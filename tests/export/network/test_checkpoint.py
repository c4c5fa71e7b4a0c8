"""A checkpoint loads whole, or one line says which file and what in it is wrong."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from swiftvr_trt import CheckpointError
from swiftvr_trt.export.network.checkpoint import (
    CONFIG,
    PROMPT,
    REAE,
    TRANSFORMER,
    Checkpoint,
    load_checkpoint,
)
from swiftvr_trt.export.network.dit import Dit, widened
from swiftvr_trt.export.network.reae import Reae
from tests.mini import DIT, NARROW, write_mini_checkpoint
from tests.mini import REAE as REAE_CONFIG

INDEX = TRANSFORMER + ".index.json"
NAME = "blocks.1.attn1.to_q.weight"
GARBAGE = {
    "web page": b"<!doctype html>\n<title>404</title>\n" * 9,
    "pickle": b"\x80\x02}q\x00." * 50,
    "no tensors": b"\x02" + bytes(7) + b"{}",
    "bad header": b"\x05" + bytes(7) + b"{\nx\n}",
}
SHARDS = ("part-1.safetensors", "part-2.safetensors")


@pytest.fixture
def checkpoint(tmp_path: Path, mini_checkpoint: Path) -> Path:
    """A copy of the mini checkpoint, to be damaged."""
    return Path(shutil.copytree(mini_checkpoint, tmp_path / "checkpoint"))


def weights(loaded: Checkpoint) -> dict[str, Tensor]:
    return {**loaded.reae.state_dict(), **loaded.dit.state_dict(), "prompt": loaded.prompt}


def stored(root: Path) -> dict[str, Tensor]:
    return {
        **load_file(root / REAE),
        **load_file(root / TRANSFORMER),
        "prompt": load_file(root / PROMPT)["prompt_emb"][0],
    }


def refusal(root: Path, *culprits: object) -> str:
    """The one line, which contains the path and every culprit."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(root)
    line = str(caught.value)
    assert "\n" not in line
    for culprit in (root, *culprits):
        assert str(culprit) in line
    return line


def rewrite(path: Path, name: str, value: Tensor | None) -> None:
    """Change a tensor of a file, or take it away."""
    tensors = load_file(path)
    tensors.pop(name, None)
    save_file(tensors if value is None else {**tensors, name: value}, path)


def configure(root: Path, **changes: Any) -> None:
    raw = json.loads((root / CONFIG).read_text())
    (root / CONFIG).write_text(json.dumps({key: value for key, value in {**raw, **changes}.items() if value != "gone"}))


def shard(root: Path) -> None:
    """Spread the transformer over two files and an index."""
    tensors = load_file(root / TRANSFORMER)
    where = {name: SHARDS[k % 2] for k, name in enumerate(tensors)}
    for part in SHARDS:
        save_file(
            {name: tensors[name] for name in tensors if where[name] == part}, (root / TRANSFORMER).with_name(part)
        )
    (root / TRANSFORMER).unlink()
    (root / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_every_tensor_but_those_of_blocks_is_loaded_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    """Blocks stay as they are stored, so that a checkpoint larger than the memory loads."""
    root = write_mini_checkpoint(tmp_path / "checkpoint", dtype=dtype)
    loaded = load_checkpoint(str(root))
    expected = stored(root)
    assert weights(loaded).keys() == expected.keys()
    for name, tensor in weights(loaded).items():
        assert tensor.dtype == (dtype if name.startswith("blocks.") else torch.float32), name
        assert torch.equal(tensor.float(), expected[name].float()), name
    assert (loaded.reae.config, loaded.dit.config) == (REAE_CONFIG, DIT)
    assert loaded.parameters == sum(tensor.numel() for name, tensor in expected.items() if name != "prompt")
    assert not any(p.requires_grad for module in (loaded.reae, loaded.dit) for p in module.parameters())


def test_a_block_stored_in_16_bits_is_widened_into_a_copy(tmp_path: Path) -> None:
    narrow, wide = (
        load_checkpoint(write_mini_checkpoint(tmp_path / str(dtype), dtype=dtype)).dit.blocks[0]
        for dtype in (torch.bfloat16, torch.float32)
    )
    copy = dict(widened(narrow).named_parameters())
    assert all(parameter.dtype == torch.float32 for parameter in copy.values())
    assert all(torch.equal(copy[name], parameter.float()) for name, parameter in narrow.named_parameters())
    assert widened(wide) is wide


def test_memblocks_may_be_narrower_inside(tmp_path: Path) -> None:
    root = write_mini_checkpoint(tmp_path / "checkpoint", reae_config=NARROW)
    loaded = load_checkpoint(root)
    assert loaded.reae.config == NARROW
    assert dict(loaded.reae.named_parameters())["encoder.4.conv.0.weight"].shape == (4, 16, 3, 3)
    rewrite(root / REAE, "encoder.5.conv.2.weight", torch.ones(8, 8, 3, 3))
    refusal(root, REAE, "encoder.5.conv.2.weight has shape [8, 8, 3, 3], expected [5, 5, 3, 3]")


def test_hidden_widths_left_out_are_those_of_the_level() -> None:
    short = replace(REAE_CONFIG, encoder_hidden=None, decoder_hidden=None)
    ours, theirs = (dict(Reae(config).state_dict()) for config in (short, REAE_CONFIG))
    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in theirs.items()}


def test_shards_load_as_one_file_does(checkpoint: Path, mini_checkpoint: Path) -> None:
    shard(checkpoint)
    ours, theirs = weights(load_checkpoint(checkpoint)), weights(load_checkpoint(mini_checkpoint))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("written", "read"), [([16, 16], (16, 16)), ([8, 12], (8, 12)), ("gone", (16, 16))])
def test_the_window_is_that_of_the_config(checkpoint: Path, written: object, read: tuple[int, int]) -> None:
    configure(checkpoint, self_attn_window_hw=written)
    assert load_checkpoint(checkpoint).dit.config == replace(DIT, window=read)


@pytest.mark.parametrize("name", ["nothing", "file", "empty"])
def test_a_path_without_a_checkpoint(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    refusal(tmp_path / name, "expected", "SwiftVR checkpoint")


@pytest.mark.parametrize("name", [CONFIG, TRANSFORMER, REAE, PROMPT])
def test_a_file_that_is_missing(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    refusal(checkpoint, f"{name} is missing")


@pytest.mark.parametrize("name", ["transformer/pytorch_model.bin", "transformer/model.pt", "transformer/model.pth"])
def test_a_pickle_is_not_opened(checkpoint: Path, name: str) -> None:
    (checkpoint / TRANSFORMER).rename(checkpoint / name)
    refusal(checkpoint, name, "a pickle can run code", TRANSFORMER)


@pytest.mark.parametrize("name", [TRANSFORMER, REAE, PROMPT])
@pytest.mark.parametrize("keep", [0, 1, 8, 9, 0.01, 0.5, -1])
def test_a_truncated_file(checkpoint: Path, name: str, keep: float) -> None:
    data = (checkpoint / name).read_bytes()
    part = data[: int(keep * len(data))] if isinstance(keep, float) else data[:keep]
    (checkpoint / name).write_bytes(part)
    refusal(checkpoint, name, "download it again", f"{len(part)} bytes")


@pytest.mark.parametrize("name", [TRANSFORMER, REAE, PROMPT])
@pytest.mark.parametrize("kind", GARBAGE)
def test_a_file_of_something_else(checkpoint: Path, name: str, kind: str) -> None:
    (checkpoint / name).write_bytes(GARBAGE[kind])
    refusal(checkpoint, name)


@pytest.mark.parametrize(
    ("name", "tensor", "value", "said"),
    [
        (TRANSFORMER, NAME, None, f"{NAME} [48, 48] is missing"),
        (TRANSFORMER, NAME, torch.ones(48, 47), f"{NAME} has shape [48, 47], expected [48, 48]"),
        (TRANSFORMER, "blocks.2.extra", torch.ones(1), "blocks.2.extra is not part of this network"),
        (TRANSFORMER, NAME, torch.ones(48, 48, dtype=torch.int32), f"{NAME} is torch.int32, expected F32"),
        (TRANSFORMER, NAME, torch.ones(48, 48, dtype=torch.float64), f"{NAME} is torch.float64, expected F32"),
        (REAE, "encoder.0.bias", None, "encoder.0.bias [8] is missing"),
        (REAE, "encoder.17.weight", None, "encoder.17.weight is missing or not a convolution"),
        (REAE, "decoder.8.weight", torch.ones(3), "decoder.8.weight is missing or not a convolution"),
        (REAE, "extra", torch.ones(1), "extra is not part of this network"),
        (PROMPT, "prompt_emb", None, "prompt_emb is missing"),
        (PROMPT, "prompt_emb", torch.ones(1, 6, 17), "[1, 6, 17], expected [1, rows, 16]"),
        (PROMPT, "prompt_emb", torch.ones(2, 6, 16), "[2, 6, 16], expected [1, rows, 16]"),
        (PROMPT, "prompt_emb", torch.ones(6, 16), "[6, 16], expected [1, rows, 16]"),
        (PROMPT, "prompt_emb", torch.ones(1, 0, 16), "[1, 0, 16], expected [1, rows, 16]"),
        (PROMPT, "prompt_emb", torch.ones(1, 6, 16, dtype=torch.int64), "prompt_emb is torch.int64"),
    ],
)
def test_a_tensor_that_is_wrong(checkpoint: Path, name: str, tensor: str, value: Tensor | None, said: str) -> None:
    rewrite(checkpoint / name, tensor, value)
    refusal(checkpoint, name, said)


def test_tensors_that_are_missing_are_counted(checkpoint: Path) -> None:
    configure(checkpoint, num_layers=3)
    refusal(checkpoint, "blocks.2.scale_shift_table", "is missing (and ", "more)")


def test_parts_of_two_checkpoints_are_refused(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / REAE)
    tensors["encoder.17.weight"], tensors["encoder.17.bias"] = torch.ones(13, 16, 3, 3), torch.ones(13)
    first = tensors["decoder.1.weight"]
    tensors["decoder.1.weight"] = torch.ones(first.shape[0], 13, *first.shape[2:])
    save_file(tensors, checkpoint / REAE)
    refusal(checkpoint, "13 latent channels", "takes 12")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_attention_heads", "gone"),
        ("num_attention_heads", "24"),
        ("num_layers", 0),
        ("num_layers", 1 << 20),
        ("ffn_dim", True),
        ("text_dim", 2.0),
        ("in_channels", -1),
        ("attention_head_dim", 25),
        ("attention_head_dim", 1 << 16),
        ("attention_head_dim", 1 << 70),
        ("freq_dim", 33),
        ("out_channels", 13),
        ("patch_size", [1, 2, 1]),
        ("cross_attn_norm", False),
        ("qk_norm", "layer_norm"),
        ("eps", 0),
        ("eps", math.nan),
        ("eps", "1e-6"),
        ("self_attn_window_hw", [16]),
        ("self_attn_window_hw", [16, 0]),
        ("self_attn_window_hw", "16\n16"),
        ("enable_swa", False),
    ],
)
def test_a_config_outside_the_family(checkpoint: Path, field: str, value: object) -> None:
    configure(checkpoint, **{field: value})
    refusal(checkpoint, CONFIG, field)


@pytest.mark.parametrize(
    "text", [b"", b"{\n", b"\xff\xfe{}", b"[" * 100_000, b"[]", b"null"], ids=lambda text: str(text[:9])
)
def test_a_config_that_is_not_a_json_object(checkpoint: Path, text: bytes) -> None:
    (checkpoint / CONFIG).write_bytes(text)
    refusal(checkpoint, CONFIG, "JSON")


@pytest.mark.parametrize("name", ["../reae.safetensors", "/etc/passwd", "..", ".", "", "a/b", 5, None, ["x"]], ids=repr)
def test_a_shard_cannot_lie_outside_the_directory(checkpoint: Path, name: object) -> None:
    shard(checkpoint)
    (checkpoint / INDEX).write_text(json.dumps({"weight_map": {NAME: name}}))
    refusal(checkpoint, "index" if isinstance(name, list) or name == ".." else f"{name!r} is not a file name")


def test_a_shard_that_is_missing(checkpoint: Path) -> None:
    shard(checkpoint)
    (checkpoint / "transformer" / SHARDS[1]).unlink()
    refusal(checkpoint, SHARDS[1], "is missing; download it again")


def test_a_tensor_that_two_shards_hold(checkpoint: Path) -> None:
    shard(checkpoint)
    shutil.copy(checkpoint / "transformer" / SHARDS[0], checkpoint / "transformer" / SHARDS[1])
    refusal(checkpoint, SHARDS[1], "is stored twice")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"weight_map": []}', '{"weight_map": {"a": {}}}'])
def test_a_malformed_index(checkpoint: Path, text: str) -> None:
    shard(checkpoint)
    (checkpoint / INDEX).write_text(text)
    refusal(checkpoint, INDEX, "weight_map")


MEASURE = """
import sys, psutil
from swiftvr_trt.export.network.checkpoint import load_checkpoint
load_checkpoint(sys.argv[1])
resident = lambda: psutil.Process().memory_info().rss
before = resident()
loaded = load_checkpoint(sys.argv[2])
after = resident()
total = sum(float(p.sum()) for p in loaded.dit.parameters())
print(after - before, resident() - before, loaded.parameters * 4)
"""


def test_loading_maps_the_weights_and_does_not_read_them(
    tmp_path: Path, checkpoint: Path, mini_checkpoint: Path
) -> None:
    config = replace(DIT, heads=16, head_dim=64, ffn_dim=4096, layers=4)
    configure(checkpoint, num_attention_heads=16, attention_head_dim=64, ffn_dim=4096, num_layers=4)
    with torch.device("meta"):
        shapes = {name: list(tensor.shape) for name, tensor in Dit(config).state_dict().items()}
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (checkpoint / TRANSFORMER).open("wb") as file:  # a hole: zeros that take no disk
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    command = [sys.executable, "-c", MEASURE, str(mini_checkpoint), str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    loading, using, size = map(int, done.stdout.split())
    assert size > 200e6
    assert loading < size / 10
    assert using > size / 2, "the measurement sees weights once they are used"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -float("nan")], ids=str)
@pytest.mark.parametrize("file", ["reae.safetensors", "transformer/diffusion_pytorch_model.safetensors", PROMPT])
def test_a_weight_that_is_not_finite_is_named(tmp_path: Path, dtype: torch.dtype, value: float, file: str) -> None:
    root = write_mini_checkpoint(tmp_path / "checkpoint", dtype=dtype)
    assert load_checkpoint(root).not_finite() is None
    tensors = load_file(root / file)
    name = "prompt_emb" if file == PROMPT else sorted(tensors)[-1]
    tensors[name].view(-1)[-1] = value
    save_file(tensors, root / file)
    assert load_checkpoint(root).not_finite() == name
