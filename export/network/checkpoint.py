"""Read a checkpoint directory in the published layout, strictly and without loading all of it into memory.

    DIR/transformer/config.json
    DIR/transformer/diffusion_pytorch_model.safetensors     or its shards and *.safetensors.index.json
    DIR/reae.safetensors
    DIR/prompt_embedding.safetensors                        key "prompt_emb" [1, rows, text_dim]

Sizes come from `config.json` and from tensor shapes, so every member of the family loads through the same code. Every
tensor of the network must be there with the shape that the sizes imply, and nothing else may be. A checkpoint of
another model therefore fails here with one line instead of producing noise later.

Tensors are memory-mapped. Those of the transformer's blocks keep their stored dtype, so that a checkpoint larger than
the memory loads; `dit.widened` widens one block for computing. All other tensors become float32.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ...engines.bundle.checkpoints import CONFIG as CONFIG
from ...engines.bundle.checkpoints import PROMPT as PROMPT
from ...engines.bundle.checkpoints import REAE as REAE
from ...engines.bundle.checkpoints import TRANSFORMER as TRANSFORMER
from ...engines.bundle.foreign import (
    UNREADABLE,
    checkpoint_root,
    config_file,
    describe_file,
    index_of,
    is_lfs_pointer,
    lfs_advice,
    transformer_file,
)
from ...errors import CheckpointError
from ...outside import Door, Fields, read_json
from .dit import Dit, DitConfig
from .finite import all_finite
from .layouts import PROMPT_KEY as PROMPT_KEY
from .layouts import published_names, quantised_weights
from .reae import Reae, ReaeConfig

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_INTEGERS = {
    "heads": "num_attention_heads",
    "head_dim": "attention_head_dim",
    "layers": "num_layers",
    "ffn_dim": "ffn_dim",
    "text_dim": "text_dim",
    "freq_dim": "freq_dim",
    "latent_channels": "in_channels",
}
_MAX_SIZE, _MAX_LAYERS = 1 << 16, 1024
_FIXED: dict[str, Any] = {"patch_size": [1, 2, 2], "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads"}
_DEFAULT_WINDOW = (16, 16)
_DOOR = Door("checkpoint's JSON file", CheckpointError, "download the checkpoint again", max_bytes=1 << 24)
_INDEX = replace(_DOOR, what="safetensors index with a weight_map")
_MAX_NAMES = 1 << 16
_BLOCKS = "blocks."
_REAE_NAMES = ("encoder.0.weight", "decoder.1.weight")
"""Enough of them to tell a prefix."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint. Everything is float32, except that blocks stored in 16 bits stay so.

    prompt: embedding of the constant prompt, [rows, text_dim].
    """

    path: Path
    reae: Reae
    dit: Dit
    prompt: Tensor

    @property
    def parameters(self) -> int:
        """Number of parameters in both networks."""
        return sum(p.numel() for module in (self.reae, self.dit) for p in module.parameters())

    def not_finite(self) -> str | None:
        """The name of the first tensor that holds NaN or infinity; None if there is none. Reads all of them."""
        modules = (self.reae.named_parameters(), self.dit.named_parameters(), [(PROMPT_KEY, self.prompt)])
        for name, tensor in chain(*modules):
            data = tensor.detach().contiguous().flatten().view(torch.uint8).numpy()
            if not all_finite(data, str(tensor.dtype).removeprefix("torch.")):
                return name
        return None


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load a checkpoint directory. Raises `CheckpointError` with one line that names the file and the problem."""
    if not Path(path).is_dir():
        raise CheckpointError(f"{path}: no such directory; expected a SwiftVR checkpoint directory")
    root = checkpoint_root(Path(path))
    transformer = transformer_file(root)
    reae_file = _own_or_merged(root / REAE, transformer, _REAE_NAMES)
    prompt_file = _own_or_merged(root / PROMPT, transformer, (PROMPT_KEY,))
    _require_layout(root, {TRANSFORMER: transformer, REAE: reae_file, PROMPT: prompt_file})
    config = read_dit_config(config_file(root))
    with torch.device("meta"):
        dit = Dit(config)
    _fill(dit, transformer)
    reae = _load_reae(reae_file)
    if reae.config.latent_channels != config.latent_channels:
        raise CheckpointError(
            f"{root}: the autoencoder makes {reae.config.latent_channels} latent channels, the transformer takes "
            f"{config.latent_channels}; take both from one checkpoint"
        )
    prompt = _load_prompt(prompt_file, config.text_dim)
    return Checkpoint(root, reae.requires_grad_(False).eval(), dit.requires_grad_(False).eval(), prompt)


def read_dit_config(path: Path) -> DitConfig:
    """The transformer's sizes from its `config.json`. Raises `CheckpointError` for another kind of model."""
    config = read_json(path, _DOOR)
    sizes = {
        field: config.integer(key, 1, _MAX_LAYERS if key == "num_layers" else _MAX_SIZE)
        for field, key in _INTEGERS.items()
    }
    if sizes["heads"] * sizes["head_dim"] > _MAX_SIZE:
        raise CheckpointError(
            f"{path}: num_attention_heads x attention_head_dim is over {_MAX_SIZE}; this is not a SwiftVR config"
        )
    for key, expected in {**_FIXED, "out_channels": sizes["latent_channels"]}.items():
        if config.value(key, expected) != expected:
            config.refuse(key, f"{expected!r}" + (" as in_channels" if key == "out_channels" else ""))
    for field in ("head_dim", "freq_dim"):
        if sizes[field] % 2:
            config.refuse(_INTEGERS[field], "an even number")
    eps = config.number("eps", 0, 1) if "eps" in config else 1e-6
    if not 0 < eps < 1:
        config.refuse("eps", "a number between 0 and 1")
    return DitConfig(**sizes, eps=eps, window=_window_size(config))


def _window_size(config: Fields) -> tuple[int, int]:
    sides = config.shape("self_attn_window_hw") if "self_attn_window_hw" in config else _DEFAULT_WINDOW
    if len(sides) != 2 or not all(side is not None and side <= _MAX_SIZE for side in sides):
        config.refuse("self_attn_window_hw", "two positive whole numbers")
    if not config.value("enable_swa", True):
        config.refuse("enable_swa", "true: only the windowed model is supported")
    return int(sides[0] or 0), int(sides[1] or 0)


def _own_or_merged(own: Path, merged: Path, names: Collection[str]) -> Path:
    """The file `own`; without it, the file of the transformer if that one has tensors of these names, too."""
    if own.is_file() or not merged.is_file():
        return own
    with ExitStack() as stack:
        tensors = _Tensors(merged, stack)
        tensors.rename(names)
        return merged if set(names) <= tensors.shapes().keys() else own


def _require_layout(root: Path, places: Mapping[str, Path]) -> None:
    for name, found in {CONFIG: config_file(root), **places}.items():
        if found.is_file() or (name == TRANSFORMER and index_of(found).is_file()):
            continue
        others = [file for file in sorted(found.parent.glob("*")) if file.suffix in UNREADABLE and name != CONFIG]
        if others:
            raise CheckpointError(f"{describe_file(others[0])} (expected {name})")
        raise CheckpointError(
            f"{root}: {name} is missing; expected the files of a SwiftVR checkpoint, which swiftvr-export download "
            "brings"
        )


class _Tensors:
    """The tensors of one safetensors file, or of the shards that an index names, by name."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self._files: dict[str, Any] = {}
        for shard in [path] if path.is_file() else _shards(index_of(path)):
            handle = stack.enter_context(_open_shard(shard))
            for name in handle.keys():  # noqa: SIM118 (a safetensors handle is no mapping)
                if name in self._files:
                    raise CheckpointError(f"{shard}: {name} is stored twice")
                self._files[name] = handle
        quantised = quantised_weights({name: h.get_slice(name).get_dtype() for name, h in self._files.items()})
        if quantised:
            raise CheckpointError(
                f"{path}: {quantised}, expected F32, F16 or BF16; export the 16 or 32-bit checkpoint, with --precision "
                "fp8 or nvfp4 for fewer bits"
            )
        self._stored = {name: name for name in self._files}

    def rename(self, expected: Collection[str]) -> None:
        """From now on, tensors have their published names, of which `expected` is the list."""
        self._stored = published_names(self._files, expected)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(self._files[at].get_slice(at).get_shape()) for name, at in self._stored.items()}

    def read(self, name: str, *, as_stored: bool) -> Tensor:
        """The tensor, memory-mapped if possible: as stored, or as float32, which copies other dtypes."""
        stored = self._stored[name]
        tensor: Tensor = self._files[stored].get_tensor(stored)
        if tensor.dtype not in _FLOATS:
            raise CheckpointError(f"{self.path}: {name} is {tensor.dtype}, expected F32, F16 or BF16")
        return tensor if as_stored else tensor.float()


def _open_shard(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        if is_lfs_pointer(path):
            raise CheckpointError(lfs_advice(path)) from error
        raise CheckpointError(
            f"{path}: not a complete safetensors file ({error}); download it again ({_size(path)} bytes are here)"
        ) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _shards(index: Path) -> Iterator[Path]:
    """The shard files that an index names, each once, sorted by name."""
    weights = read_json(index, _INDEX).child("weight_map")
    names = [weights.value(tensor, None) for tensor in weights.names_of_fields(_MAX_NAMES)]
    for name in names:
        if not isinstance(name, str) or not name or name == ".." or Path(name).name != name:
            raise CheckpointError(f"{index}: {repr(name)[:60]} is not a file name in this directory (weight_map)")
    for name in sorted(set(map(str, names))):
        shard = index.with_name(name)
        if not shard.is_file():
            raise CheckpointError(f"{shard}: named by {index.name}, but is missing; download it again")
        yield shard


def _fill(module: nn.Module, path: Path) -> None:
    """Load the tensors at `path` into the meta-device `module`, after comparing all names and shapes."""
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    with ExitStack() as stack:
        tensors = _Tensors(path, stack)
        tensors.rename(expected)
        _compare(path, expected, tensors.shapes())
        loaded = {name: tensors.read(name, as_stored=name.startswith(_BLOCKS)) for name in expected}
        module.load_state_dict(loaded, assign=True)


def _compare(path: Path, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    unknown = sorted(set(found) - set(expected))
    unknown_name = f"; the file has {unknown[0]}{_and_more(len(unknown))}, which SwiftVR has not" if unknown else ""
    for name, shape in expected.items():
        if name not in found:
            count = sum(1 for other in expected if other not in found)
            raise CheckpointError(f"{path}: tensor {name} {list(shape)} is missing{_and_more(count)}{unknown_name}")
        if found[name] != shape:
            raise CheckpointError(f"{path}: tensor {name} has shape {list(found[name])}, expected {list(shape)}")
    if unknown:
        raise CheckpointError(f"{path}: tensor {unknown[0]} is not part of this network{_and_more(len(unknown))}")


def _and_more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""


def _load_reae(path: Path) -> Reae:
    with ExitStack() as stack:
        tensors = _Tensors(path, stack)
        tensors.rename(_REAE_NAMES)
        shapes = tensors.shapes()
    with torch.device("meta"):
        reae = Reae(_reae_config(path, shapes))
    _fill(reae, path)
    return reae


def _reae_config(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> ReaeConfig:
    """Widths, read from the convolutions that determine them; `_compare` checks all other shapes against these."""

    def out(name: str) -> int:
        shape = shapes.get(f"{name}.weight", ())
        if len(shape) != 4:
            raise CheckpointError(
                f"{path}: tensor {name}.weight is missing or not a convolution; expected the ReAE autoencoder"
            )
        return shape[0]

    return ReaeConfig(
        latent_channels=out("encoder.17"),
        encoder=(out("encoder.0"), out("encoder.3"), out("encoder.8"), out("encoder.13")),
        decoder=(out("decoder.1"), out("decoder.8"), out("decoder.14"), out("decoder.20")),
        encoder_hidden=tuple(out(f"encoder.{layer}.conv.0") for layer in (4, 5, 6, 9, 10, 11, 14, 15, 16)),
        decoder_hidden=tuple(out(f"decoder.{layer}.conv.0") for layer in (3, 4, 5, 9, 10, 11, 15, 16, 17)),
    )


def _load_prompt(path: Path, text_dim: int) -> Tensor:
    """The prompt's embedding, float32 [rows, text_dim]. Other tensors in the file are ignored."""
    with ExitStack() as stack:
        tensors = _Tensors(path, stack)
        tensors.rename((PROMPT_KEY,))
        shape = tensors.shapes().get(PROMPT_KEY)
        if shape is None:
            raise CheckpointError(f"{path}: tensor {PROMPT_KEY} is missing")
        if len(shape) != 3 or shape[0] != 1 or shape[1] < 1 or shape[2] != text_dim:
            raise CheckpointError(
                f"{path}: tensor {PROMPT_KEY} has shape {list(shape)}, expected [1, rows, {text_dim}] (text_dim)"
            )
        return tensors.read(PROMPT_KEY, as_stored=False)[0]
