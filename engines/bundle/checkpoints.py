"""What `--checkpoint` names.

    DIR                       a directory
    demo                      the demonstration model that comes with this package
    hf:OWNER/NAME[@REVISION]  a repository on the Hugging Face Hub, which `export.download` fetches

A path wins: `demo` means the demonstration model only where nothing else of that name exists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...errors import CheckpointError
from .foreign import CONFIG as CONFIG
from .foreign import PROMPT as PROMPT
from .foreign import REAE as REAE
from .foreign import TRANSFORMER as TRANSFORMER
from .foreign import checkpoint_root, describe_file

DEMO = "demo"
DEMO_DIRECTORY = Path(__file__).resolve().parents[2] / "export" / "demo"
HUB_PREFIX = "hf:"

_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([^\s@]+))?", re.ASCII)
_WEB_ADDRESS = re.compile(r"(?:https?://[^/]+/|hf://)?([\w.-]+/[\w.-]+?)(?:\.git)?/?", re.ASCII)


@dataclass(frozen=True)
class HubRepository:
    """A repository on the Hugging Face Hub. revision: branch, tag or commit; None is the default branch."""

    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubRepository:
        """`hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`. Raises `CheckpointError` for anything else."""
        found = _REPOSITORY.fullmatch(text.removeprefix(HUB_PREFIX)) if text.startswith(HUB_PREFIX) else None
        if found is None:
            raise CheckpointError(f"{text!r} names no repository, expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
        return cls(found[1], found[2])

    def __str__(self) -> str:
        return HUB_PREFIX + self.name + (f"@{self.revision}" if self.revision else "")


PUBLISHED = HubRepository("H-oliday/SwiftVR")
"""The published weights."""


def find_checkpoint(given: str | Path) -> Path | HubRepository:
    """The directory or repository that a user named. Raises `CheckpointError` if it is neither."""
    text, path = given if isinstance(given, str) else given.as_posix(), Path(given)
    if path.is_dir():
        root = checkpoint_root(path)
        if text == DEMO and not any(root.glob("**/*.safetensors")):
            raise CheckpointError(
                "the folder demo here holds no checkpoint, and hides the demonstration model, which has the same name; "
                "run this in another directory"
            )
        return root
    if path.exists():
        raise CheckpointError(describe_file(path))
    if text == DEMO:
        return DEMO_DIRECTORY
    if text.startswith(HUB_PREFIX) and not text.startswith("hf://"):
        return HubRepository.parse(text)
    raise CheckpointError(f"{given}: no such directory; {_hint(text)}")


def _hint(text: str) -> str:
    """What to type instead of a name that is neither a directory nor anything else."""
    address = _WEB_ADDRESS.fullmatch(text)
    if "://" in text and address:
        return f"for a repository on the Hugging Face Hub, type hf:{address[1]}"
    if text == PUBLISHED.name:
        return f"for the published weights, type {PUBLISHED}"
    return (
        f"expected a SwiftVR checkpoint directory, {PUBLISHED} for the published weights, or demo for the "
        "demonstration model"
    )
