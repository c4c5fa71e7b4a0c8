"""Checkpoints that other programs have saved: finds their files, or says what to do with them.

Loaded as the published layout is:

    DIR/x/transformer/config.json ...       one or two folders deeper, as archives and the hub's cache have it
    DIR/config.json, DIR/*.safetensors      without the folder transformer/
    transformer/NAME.safetensors            the transformer under another name, if there is only one

Named, with what to do: pickles, GGUF, Git LFS pointers, single files. Nothing here reads a tensor; names of tensors are
for `export.network.layouts`.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import CheckpointError

CONFIG = "transformer/config.json"
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
REAE = "reae.safetensors"
PROMPT = "prompt_embedding.safetensors"
INDEX_SUFFIX = ".index.json"

_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
_GGUF = ".gguf"
UNREADABLE = (_GGUF, *_PICKLES)
"""Suffixes of files that hold weights and are never read."""
_LFS_POINTER = b"version https://git-lfs"
_DOWNLOAD = "download the published weights: swiftvr-export download"


def checkpoint_root(given: Path) -> Path:
    """The directory with the files of the checkpoint: `given`, or the only one in it, at most two folders deeper.

    Raises `CheckpointError` if several are in it, or what is in it cannot be read.
    """
    if _transformer_folder(given) is None:
        deeper = sorted({file.parent.parent for level in ("*", "*/*") for file in given.glob(f"{level}/{CONFIG}")})
        if len(deeper) > 1:
            raise CheckpointError(f"{given} holds several checkpoints, name one of them: {deeper[0]}, {deeper[1]}, ...")
        if deeper:
            given = deeper[0]
        elif _transformer_folder(given.resolve().parent) == given.resolve():
            raise CheckpointError(
                f"{given} is the transformer of a checkpoint; name the directory that holds it: "
                f"{given.resolve().parent}"
            )
    _refuse_foreign_files(given)
    return given


def config_file(root: Path) -> Path:
    """The transformer's configuration."""
    return root / CONFIG if (root / CONFIG).exists() or not (root / "config.json").exists() else root / "config.json"


def transformer_file(root: Path) -> Path:
    """The transformer in one file, or the file that its shards would be in if they were one: `PATH.index.json` exists.

    If there is none, the published name.
    """
    published = config_file(root).parent / Path(TRANSFORMER).name
    if published.is_file() or index_of(published).is_file():
        return published
    folder = published.parent
    indices = [file.with_name(file.name.removesuffix(INDEX_SUFFIX)) for file in folder.glob(f"*{INDEX_SUFFIX}")]
    single = [file for file in folder.glob("*.safetensors") if file.name not in (REAE, PROMPT)]
    candidates = indices or single
    if len(candidates) > 1:
        first, second, *_ = sorted(candidates)
        raise CheckpointError(
            f"{folder} holds several transformers ({first.name}, {second.name}); rename the one to use to "
            f"{published.name}"
        )
    return candidates[0] if candidates else published


def index_of(file: Path) -> Path:
    """The index of the shards that make up `file`."""
    return file.with_name(file.name + INDEX_SUFFIX)


def describe_file(path: Path) -> str:
    """One line about a file that was named as a checkpoint, with what to do."""
    if path.suffix == _GGUF:
        return f"{path}: GGUF files hold quantised weights, which cannot be exported; {_DOWNLOAD}"
    if path.suffix in _PICKLES:
        return f"{path}: not read, because a pickle can run code; convert it to safetensors, or {_DOWNLOAD}"
    if is_lfs_pointer(path):
        return lfs_advice(path)
    if path.suffix == ".safetensors":
        return (
            f"{path} is one file, expected the directory of a checkpoint: put it into DIR as {TRANSFORMER}, with the "
            f"published {CONFIG}, {REAE} and {PROMPT}, and name DIR"
        )
    return f"{path} is a file, expected the directory of a SwiftVR checkpoint"


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is what Git leaves in place of a large file that it has not fetched."""
    try:
        with path.open("rb") as file:
            return file.read(len(_LFS_POINTER)) == _LFS_POINTER
    except OSError:
        return False


def lfs_advice(path: Path) -> str:
    """One line about such a file."""
    return (
        f"{path} is a Git LFS pointer of {path.stat().st_size} bytes, not the weights: run `git lfs install` and "
        f"`git lfs pull` in {path.parent}, or {_DOWNLOAD}"
    )


def _transformer_folder(root: Path) -> Path | None:
    """The folder of the transformer if the directory looks like a checkpoint."""
    if (root / CONFIG).is_file() or (root / TRANSFORMER).parent.is_dir():
        return root / "transformer"
    return root if (root / REAE).is_file() or (root / PROMPT).is_file() else None


def _refuse_foreign_files(root: Path) -> None:
    """Raise for files that stand in for those of a checkpoint."""
    here = [file for folder in (root, root / "transformer") for file in sorted(folder.glob("*")) if file.is_file()]
    for file in here:
        if file.suffix == ".safetensors" and is_lfs_pointer(file):
            raise CheckpointError(lfs_advice(file))
    for file in here:
        if file.suffix in UNREADABLE and not any(other.suffix == ".safetensors" for other in here):
            raise CheckpointError(describe_file(file))
