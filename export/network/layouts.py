"""Names of tensors in checkpoints that other programs have saved, mapped to the published ones.

Only names are mapped, never values: a checkpoint in such a layout gives the same network, bit for bit. What would need
other values (quantised weights) is named and refused.

    blocks.0.attn1.to_q.weight                  published, as diffusers names the transformer of Wan
    blocks.0.self_attn.q.weight                 as Wan and LightX2V name it
    model.diffusion_model.blocks.0. ...         a prefix that all names have, as ComfyUI writes it
    module.blocks.0._orig_mod. ...              wrappers of torch: DDP, FSDP, compile, checkpointing
    transformer.blocks.0. ..., reae.encoder.0.  both networks in one file, each with its prefix
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from ...errors import CheckpointError

PROMPT_KEY = "prompt_emb"
PREFIXES = ("model", "diffusion_model", "transformer", "dit", "net", "ema", "state_dict", "params_ema", "reae", "vae")
"""First components that may be common to all names."""
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Components that torch inserts anywhere."""

WAN: Mapping[str, str] = {
    # The name of Wan, without `.weight` or `.bias` -> the published one
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}
WAN_BLOCK: Mapping[str, str] = {
    # The same after `blocks.N.`
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "modulation": "scale_shift_table",
}

_BLOCK = re.compile(r"(blocks\.\d+\.)(.+)")
_PARAMETER = re.compile(r"(.+)\.(weight|bias)")
_SCALES = re.compile(
    r"(^|.*[._])(scaled_fp8|comfy_quant|qweight|qzeros|\w*zero_point|\w*weight_scale\w*|scale_weight"
    r"|scale_input|input_scale|weight_absmax|absmax|quant_map|quant_state\w*)(\..*)?$"
)


def published_names(found: Iterable[str], expected: Collection[str]) -> dict[str, str]:
    """published name -> the name in the file. Names that no layout explains stay as they are.

    expected: the published names. Raises `CheckpointError` if two names of the file mean the same tensor.
    """
    names = _one_network(list(found), expected)
    prefix = _common_prefix(names, expected)
    known = set(expected)
    mapped: dict[str, str] = {}
    for name in names:
        published = name if name in known else _published(_unwrapped(name)[len(prefix) :])
        if published in mapped:
            raise CheckpointError(f"{mapped[published]} and {name} are both {published}; expected each tensor once")
        mapped[published] = name
    return mapped


def quantised_weights(dtypes: Mapping[str, str]) -> str | None:
    """What is quantised in a file, in words; None if nothing is. dtypes: name -> dtype, as safetensors spells it."""
    eight_bits = next((dtype for dtype in dtypes.values() if dtype.startswith("F8")), None)
    scales = next((name for name in dtypes if _SCALES.match(name)), None)
    if scales is not None:
        return f"quantised weights ({scales} is a scale{f', weights are {eight_bits}' if eight_bits else ''})"
    return f"FP8 weights ({eight_bits})" if eight_bits else None


def _one_network(names: list[str], expected: Collection[str]) -> list[str]:
    """Of the names of a file that holds several networks, those of the one that has the `expected` names."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_unwrapped(name).partition(".")[0], []).append(name)
    if len(groups) < 2 or not groups.keys() <= {*PREFIXES, PROMPT_KEY} or PROMPT_KEY in expected:
        return names
    known = set(expected)
    return max(groups.values(), key=lambda group: len(known & published_names(group, expected).keys()))


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _common_prefix(names: Collection[str], expected: Collection[str]) -> str:
    """The prefix that all names share, without wrappers; it ends in a dot, or is empty."""
    firsts = {name.split(".")[0] for name in expected}
    rest, prefix = [_unwrapped(name) for name in names], ""
    while rest:
        first, dot, _ = rest[0].partition(".")
        if not dot or first in firsts or first not in PREFIXES:
            break
        if not all(name.startswith(first + dot) for name in rest):
            break
        prefix += first + dot
        rest = [name[len(first + dot) :] for name in rest]
    return prefix


def _published(name: str) -> str:
    block = _BLOCK.fullmatch(name)
    if block:
        return block[1] + _renamed(block[2], WAN_BLOCK)
    return _renamed(name, WAN)


def _renamed(name: str, table: Mapping[str, str]) -> str:
    """`name` by the table, with or without `.weight` or `.bias` at its end."""
    if name in table:
        return table[name]
    parameter = _PARAMETER.fullmatch(name)
    return f"{table[parameter[1]]}.{parameter[2]}" if parameter and parameter[1] in table else name
