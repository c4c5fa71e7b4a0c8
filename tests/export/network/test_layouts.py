"""Names that other programs give to tensors: each row of the tables, and checkpoints in each layout, bit for bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from swiftvr_trt import CheckpointError
from swiftvr_trt.engines.bundle.checkpoints import CONFIG, PROMPT, REAE, TRANSFORMER
from swiftvr_trt.export.network.checkpoint import Checkpoint, load_checkpoint
from swiftvr_trt.export.network.dit import Dit
from swiftvr_trt.export.network.layouts import (
    PREFIXES,
    WAN,
    WAN_BLOCK,
    WRAPPERS,
    published_names,
    quantised_weights,
)
from tests.mini import DIT

with torch.device("meta"):
    EXPECTED = list(Dit(DIT).state_dict())
LEAVES = (".weight", ".bias", "")


def as_wan(name: str) -> str:
    """The published name of a tensor as Wan names it, by the tables read backwards."""
    head, table = "", {there: here for here, there in WAN.items()}
    if name.startswith("blocks."):
        _, number, name = name.split(".", 2)
        head, table = f"blocks.{number}.", {there: here for here, there in WAN_BLOCK.items()}
    leaf = next(leaf for leaf in LEAVES if name.endswith(leaf))
    stem = name.removesuffix(leaf)
    return head + table.get(stem, stem) + leaf


@pytest.mark.parametrize(("wan", "published"), WAN.items())
@pytest.mark.parametrize("leaf", [".weight", ".bias"])
def test_each_name_of_wan(wan: str, published: str, leaf: str) -> None:
    if wan == "head.modulation":
        leaf = ""
    assert published_names([wan + leaf], EXPECTED) == {published + leaf: wan + leaf}
    assert published + leaf in EXPECTED


@pytest.mark.parametrize(("wan", "published"), WAN_BLOCK.items())
@pytest.mark.parametrize("leaf", [".weight", ".bias"])
def test_each_name_of_a_block_of_wan(wan: str, published: str, leaf: str) -> None:
    leaf = "" if wan == "modulation" else ".weight" if "norm_" in wan else leaf
    assert published_names([f"blocks.1.{wan}{leaf}"], EXPECTED) == {
        f"blocks.1.{published}{leaf}": f"blocks.1.{wan}{leaf}"
    }
    assert f"blocks.1.{published}{leaf}" in EXPECTED


def test_the_tables_cover_the_whole_network() -> None:
    wan = [as_wan(name) for name in EXPECTED]
    same = {"patch_embedding.weight", "patch_embedding.bias"}
    assert set(wan) & set(EXPECTED) == same, "all others are named differently"
    assert published_names(wan, EXPECTED) == dict(zip(EXPECTED, wan, strict=True))


@pytest.mark.parametrize("prefix", [*PREFIXES, *WRAPPERS, "model.diffusion_model", "module._orig_mod", "module.model"])
@pytest.mark.parametrize("style", [str, as_wan], ids=["published", "wan"])
def test_each_prefix(prefix: str, style: Callable[[str], str]) -> None:
    stored = [f"{prefix}.{style(name)}" for name in EXPECTED]
    assert published_names(stored, EXPECTED) == dict(zip(EXPECTED, stored, strict=True))


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_each_wrapper_of_a_block(wrapper: str) -> None:
    stored = [name.replace("blocks.0.", f"blocks.0.{wrapper}.") for name in EXPECTED]
    assert published_names(stored, EXPECTED) == dict(zip(EXPECTED, stored, strict=True))


def test_only_what_all_names_share_is_a_prefix() -> None:
    names = ["model.blocks.0.norm2.weight", "other.encoder.0.weight"]
    assert published_names(names, EXPECTED) == {name: name for name in names}


def test_two_names_of_one_tensor_are_refused() -> None:
    with pytest.raises(CheckpointError, match="expected each tensor once"):
        published_names(["proj_out.bias", "head.head.bias"], EXPECTED)


PARTS = st.sampled_from(["model", "module", "blocks", "0", "norm3", "norm2", "modulation", "weight", "x"])


@given(st.sets(st.lists(PARTS, min_size=1, max_size=5).map(".".join), max_size=8))
def test_names_of_nothing_stay_apart(names: set[str]) -> None:
    """Whatever a file holds, no name is lost or taken for two."""
    try:
        mapped = published_names(names, EXPECTED)
    except CheckpointError:
        return
    assert sorted(mapped.values()) == sorted(names)


Tensors = dict[str, Tensor]
LAYOUTS: Mapping[str, Callable[[str], str]] = {
    "wan": as_wan,
    "comfy": lambda name: "model.diffusion_model." + as_wan(name),
    "data parallel": lambda name: "module." + name,
    "compiled blocks": lambda name: name.replace("blocks.1.", "blocks.1._orig_mod."),
    "lightning": lambda name: "model." + name,
}


def weights(loaded: Checkpoint) -> Tensors:
    return {**loaded.reae.state_dict(), **loaded.dit.state_dict(), "prompt": loaded.prompt}


def assert_same(ours: Checkpoint, theirs: Checkpoint) -> None:
    assert (ours.dit.config, ours.reae.config) == (theirs.dit.config, theirs.reae.config)
    left, right = weights(ours), weights(theirs)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype, name
        assert torch.equal(tensor, right[name]), name


@pytest.fixture
def checkpoint(tmp_path: Path, mini_checkpoint: Path) -> Path:
    return Path(shutil.copytree(mini_checkpoint, tmp_path / "checkpoint"))


def rename(path: Path, style: Callable[[str], str]) -> None:
    save_file({style(name): tensor for name, tensor in load_file(path).items()}, path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_transformer_in_each_layout_is_the_same_network(checkpoint: Path, mini_checkpoint: Path, layout: str) -> None:
    rename(checkpoint / TRANSFORMER, LAYOUTS[layout])
    assert_same(load_checkpoint(checkpoint), load_checkpoint(mini_checkpoint))


@pytest.mark.parametrize("prefix", ["model", "module", "reae", "vae"])
def test_an_autoencoder_and_a_prompt_with_a_prefix(checkpoint: Path, mini_checkpoint: Path, prefix: str) -> None:
    rename(checkpoint / REAE, lambda name: f"{prefix}.{name}")
    save_file({f"{prefix}.prompt_emb": load_file(checkpoint / PROMPT)["prompt_emb"]}, checkpoint / PROMPT)
    assert_same(load_checkpoint(checkpoint), load_checkpoint(mini_checkpoint))


def test_shards_in_another_layout(checkpoint: Path, mini_checkpoint: Path) -> None:
    tensors = {f"model.{as_wan(name)}": tensor for name, tensor in load_file(checkpoint / TRANSFORMER).items()}
    folder = (checkpoint / TRANSFORMER).parent
    (checkpoint / TRANSFORMER).unlink()
    parts = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    where = {name: parts[k % 2] for k, name in enumerate(tensors)}
    for part in parts:
        save_file({name: tensors[name] for name in tensors if where[name] == part}, folder / part)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    assert_same(load_checkpoint(checkpoint), load_checkpoint(mini_checkpoint))


@pytest.mark.parametrize("prefixes", [("transformer", "reae"), ("model.diffusion_model", "vae")])
def test_both_networks_in_one_file(checkpoint: Path, mini_checkpoint: Path, prefixes: tuple[str, str]) -> None:
    dit, reae = (load_file(checkpoint / name) for name in (TRANSFORMER, REAE))
    merged = {f"{prefixes[0]}.{as_wan(name)}": tensor for name, tensor in dit.items()}
    merged |= {f"{prefixes[1]}.{name}": tensor for name, tensor in reae.items()}
    merged["prompt_emb"] = load_file(checkpoint / PROMPT)["prompt_emb"]
    save_file(merged, checkpoint / "transformer" / "swiftvr.safetensors")
    for name in (TRANSFORMER, REAE, PROMPT):
        (checkpoint / name).unlink()
    assert_same(load_checkpoint(checkpoint), load_checkpoint(mini_checkpoint))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda name, tensor: {name: tensor.to(torch.float8_e4m3fn)}, "FP8 weights (F8_E4M3)"),
        (lambda name, tensor: {name: tensor.to(torch.float8_e5m2)}, "FP8 weights (F8_E5M2)"),
        (
            lambda name, tensor: {name: tensor.to(torch.float8_e4m3fn), f"{name[:-6]}scale_weight": torch.ones(1)},
            "scale_weight is a scale, weights are F8_E4M3",
        ),
        (lambda name, tensor: {name: tensor, f"{name}_scale": torch.ones(1)}, "weight_scale is a scale"),
        (lambda name, tensor: {name: tensor.to(torch.int8), f"{name}_scale": torch.ones(1)}, "weight_scale is a scale"),
        (lambda name, tensor: {name: tensor, "scaled_fp8": torch.ones(0)}, "scaled_fp8 is a scale"),
        (lambda name, tensor: {name: tensor, f"{name[:-6]}comfy_quant": torch.ones(1)}, "comfy_quant is a scale"),
        (lambda name, tensor: {f"{name[:-6]}qweight": tensor}, "qweight is a scale"),
    ],
)
def test_quantised_weights_are_named(checkpoint: Path, change: Callable[[str, Tensor], Tensors], words: str) -> None:
    name = "blocks.1.attn1.to_q.weight"
    tensors = load_file(checkpoint / TRANSFORMER)
    tensors |= change(name, tensors.pop(name))
    save_file(tensors, checkpoint / TRANSFORMER)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(checkpoint)
    assert words in str(caught.value)
    assert "export the 16 or 32-bit checkpoint" in str(caught.value)


def test_no_published_name_looks_quantised() -> None:
    assert quantised_weights(dict.fromkeys(EXPECTED, "BF16")) is None


def test_another_model_is_told_by_its_names(checkpoint: Path) -> None:
    rename(checkpoint / TRANSFORMER, lambda name: name.replace("attn1", "img_attn"))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(checkpoint)
    assert "tensor blocks.0.attn1." in str(caught.value)
    assert "is missing (and " in str(caught.value)
    assert "the file has blocks.0.img_attn.norm_k.weight (and " in str(caught.value)
    assert (checkpoint / CONFIG).is_file()
