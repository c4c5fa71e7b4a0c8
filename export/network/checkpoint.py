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

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ...errors import CheckpointError
from .dit import Dit, DitConfig
from .reae import Reae, ReaeConfig

CONFIG = "transformer/config.json"
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
REAE = "reae.safetensors"
PROMPT = "prompt_embedding.safetensors"
PROMPT_KEY = "prompt_emb"

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
_DEFAULT_WINDOW = [16, 16]
_BLOCKS = "blocks."


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


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load a checkpoint directory. Raises `CheckpointError` with one line that names the file and the problem."""
    root = Path(path)
    _require_layout(root)
    config = read_dit_config(root / CONFIG)
    with torch.device("meta"):
        dit = Dit(config)
    _fill(dit, root / TRANSFORMER)
    reae = _load_reae(root / REAE)
    if reae.config.latent_channels != config.latent_channels:
        raise CheckpointError(
            f"{root}: the autoencoder makes {reae.config.latent_channels} latent channels, the transformer takes "
            f"{config.latent_channels}; take both from one checkpoint"
        )
    prompt = _load_prompt(root / PROMPT, config.text_dim)
    return Checkpoint(root, reae.requires_grad_(False).eval(), dit.requires_grad_(False).eval(), prompt)


def read_dit_config(path: Path) -> DitConfig:
    """The transformer's sizes from its `config.json`. Raises `CheckpointError` for another kind of model."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable JSON file ({error})") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(raw).__name__}")
    sizes = {field: _integer(path, raw, key) for field, key in _INTEGERS.items()}
    if sizes["heads"] * sizes["head_dim"] > _MAX_SIZE:
        raise CheckpointError(
            f"{path}: num_attention_heads x attention_head_dim is over {_MAX_SIZE}; this is not a SwiftVR config"
        )
    for key, expected in _FIXED.items():
        if raw.get(key, expected) != expected:
            raise CheckpointError(f"{path}: {key} is {raw[key]!r}, expected {expected!r}")
    if raw.get("out_channels", sizes["latent_channels"]) != sizes["latent_channels"]:
        raise CheckpointError(
            f"{path}: out_channels is {raw['out_channels']!r}, expected {sizes['latent_channels']} as in_channels"
        )
    for field in ("head_dim", "freq_dim"):
        if sizes[field] % 2:
            raise CheckpointError(f"{path}: {_INTEGERS[field]} is {sizes[field]}, expected an even number")
    eps = raw.get("eps", 1e-6)
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise CheckpointError(f"{path}: eps is {eps!r}, expected a number between 0 and 1")
    return DitConfig(**sizes, eps=eps, window=_window_size(path, raw))


def _integer(path: Path, raw: Mapping[str, Any], key: str) -> int:
    value = raw.get(key)
    limit = _MAX_LAYERS if key == "num_layers" else _MAX_SIZE
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
        found = "is missing" if key not in raw else f"is {value!r}"
        raise CheckpointError(f"{path}: {key} {found}, expected a whole number from 1 to {limit}")
    return value


def _window_size(path: Path, raw: Mapping[str, Any]) -> tuple[int, int]:
    value = raw.get("self_attn_window_hw", _DEFAULT_WINDOW)
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(n, int) and n > 0 for n in value)):
        raise CheckpointError(f"{path}: self_attn_window_hw is {value!r}, expected two positive whole numbers")
    if not raw.get("enable_swa", True):
        raise CheckpointError(f"{path}: enable_swa is false, expected true: only the windowed model is supported")
    return value[0], value[1]


def _require_layout(root: Path) -> None:
    if not root.is_dir():
        raise CheckpointError(f"{root}: no such directory; expected a SwiftVR checkpoint directory")
    for name in (CONFIG, REAE, PROMPT, TRANSFORMER):
        found = root / name
        if found.is_file() or (name == TRANSFORMER and _index_of(found).is_file()):
            continue
        pickles = sorted(found.parent.glob("*.bin")) + sorted(found.parent.glob("*.pt*"))
        if pickles and name != CONFIG:
            raise CheckpointError(
                f"{pickles[0]}: not read, because a pickle can run code; "
                f"expected {name} (convert the file with safetensors)"
            )
        raise CheckpointError(f"{root}: {name} is missing; expected the files of a SwiftVR checkpoint")


class _Tensors:
    """The tensors of one safetensors file, or of the shards that an index names, by name."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self._files: dict[str, Any] = {}
        for shard in [path] if path.is_file() else _shards(_index_of(path)):
            handle = stack.enter_context(_open_shard(shard))
            for name in handle.keys():  # noqa: SIM118 (a safetensors handle is no mapping)
                if name in self._files:
                    raise CheckpointError(f"{shard}: {name} is stored twice")
                self._files[name] = handle

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(handle.get_slice(name).get_shape()) for name, handle in self._files.items()}

    def read(self, name: str, *, as_stored: bool) -> Tensor:
        """The tensor, memory-mapped if possible: as stored, or as float32, which copies other dtypes."""
        tensor: Tensor = self._files[name].get_tensor(name)
        if tensor.dtype not in _FLOATS:
            raise CheckpointError(f"{self.path}: {name} is {tensor.dtype}, expected F32, F16 or BF16")
        return tensor if as_stored else tensor.float()


def _index_of(path: Path) -> Path:
    return path.with_name(path.name + ".index.json")


def _open_shard(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: not a complete safetensors file ({error}); download it again ({_size(path)} bytes are here)"
        ) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _shards(index: Path) -> Iterator[Path]:
    """The shard files that an index names, each once, sorted by name."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: not a safetensors index with a weight_map ({error})") from error
    for name in names:
        if not isinstance(name, str) or not name or Path(name).name != name:
            raise CheckpointError(f"{index}: {name!r} is not a file name in this directory")
        shard = index.with_name(name)
        if not shard.is_file():
            raise CheckpointError(f"{shard}: named by {index.name}, but is missing; download it again")
        yield shard


def _fill(module: nn.Module, path: Path) -> None:
    """Load the tensors at `path` into the meta-device `module`, after comparing all names and shapes."""
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    with ExitStack() as stack:
        tensors = _Tensors(path, stack)
        _compare(path, expected, tensors.shapes())
        loaded = {name: tensors.read(name, as_stored=name.startswith(_BLOCKS)) for name in expected}
        module.load_state_dict(loaded, assign=True)


def _compare(path: Path, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in expected.items():
        if name not in found:
            count = sum(1 for other in expected if other not in found)
            raise CheckpointError(f"{path}: tensor {name} {list(shape)} is missing{_and_more(count)}")
        if found[name] != shape:
            raise CheckpointError(f"{path}: tensor {name} has shape {list(found[name])}, expected {list(shape)}")
    unknown = sorted(set(found) - set(expected))
    if unknown:
        raise CheckpointError(f"{path}: tensor {unknown[0]} is not part of this network{_and_more(len(unknown))}")


def _and_more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""


def _load_reae(path: Path) -> Reae:
    with ExitStack() as stack:
        shapes = _Tensors(path, stack).shapes()
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
        shape = tensors.shapes().get(PROMPT_KEY)
        if shape is None:
            raise CheckpointError(f"{path}: tensor {PROMPT_KEY} is missing")
        if len(shape) != 3 or shape[0] != 1 or shape[1] < 1 or shape[2] != text_dim:
            raise CheckpointError(
                f"{path}: tensor {PROMPT_KEY} has shape {list(shape)}, expected [1, rows, {text_dim}] (text_dim)"
            )
        return tensors.read(PROMPT_KEY, as_stored=False)[0]
