"""A video to restore in pieces, and what decides the bytes of its pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....engines.bundle.manifest import Manifest
from ....engines.bundle.targets import bundle_target
from ....installing import onnxruntime_version, tool_version
from ....text import printable
from ...media import SinkOptions
from ...media.file_state import FileState, state_of
from ...media.playlists import files_of_playlist
from ...media.source_options import SourceOptions
from ...media.trim import Excerpt
from .grid import PIECE_S, Grid

_SAMPLES, _SAMPLE_BYTES = 64, 1 << 20
_LONGEST = 200
"""Characters of a value that is recorded as it is. `Fields.text` takes 256."""


@dataclass(frozen=True)
class PiecesTask:
    """A video to restore in pieces.

    output: a video file. width, height: of its pictures. sink: how it is encoded. gpu: number of the GPU that decodes.
    seconds: the length of a piece. resume: go on with the pieces of an earlier run; False starts over.
    keep_going: finish the output with what there is if the input cannot be read on. excerpt: the part of the video that
    is restored; None for all. reading: how the video is read. tile: the size of the tiles that the pictures consist of,
    `WxH`; None for whole pictures.
    """

    source: Path
    output: Path
    width: int
    height: int
    sink: SinkOptions
    gpu: int | None = None
    seconds: float = PIECE_S
    resume: bool = True
    keep_going: bool = False
    excerpt: Excerpt | None = None
    reading: SourceOptions = field(default_factory=SourceOptions)
    tile: str | None = None


@dataclass(frozen=True)
class KnownInput:
    """What the pieces are made of. digest: of the input. states: of its files, when that was computed or before."""

    digest: str
    states: tuple[FileState | None, ...] = ()

    @classmethod
    def of(cls, task: PiecesTask) -> KnownInput:
        """The input as it is now. Reads up to 64 MB of it."""
        files = files_of(task)
        states = states_of_files(files)
        return cls(digest_of_files(files), states)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> KnownInput:
        """The inverse of `dataclasses.asdict`, also through JSON."""
        return cls(plain["digest"], tuple(None if state is None else (state[0], state[1]) for state in plain["states"]))


def identity_of(task: PiecesTask, grid: Grid, known: KnownInput | None = None) -> dict[str, str]:
    """Everything that decides the pieces, by names for people. A resume with anything else must not mix with them.

    known: the input, if it has been looked at. How other streams are copied is not among it: that is decided when the
    pieces are joined. Names and values are short printable texts.
    """
    import av

    recipe, sink = grid.manifest.recipe, task.sink
    manifest = hashlib.sha256(grid.manifest.to_json().encode()).hexdigest()
    options = (sink.codec, sink.crf, sink.preset, sink.pix_fmt, sink.gpu is not None, sorted(sink.extra))
    names = ("codec", "quality (crf)", "preset", "pixel format", "encoder on the GPU", "encoder options")
    decides = {
        "the input": digest_of_files(files_of(task)) if known is None else known.digest,
        "the bundle": f"{recipe.describe()} ({manifest[:16]})",
        "the part of the input": "all" if task.excerpt is None else str(task.excerpt),
        "the way to read the input": str(task.reading),
        "the output size": f"{task.width}x{task.height}",
        "the size of its tiles": task.tile or "none",
        "the container": task.output.suffix,
        "the length of a piece": f"{grid.chunks} chunks",
        "the version": f"swiftvr-trt {tool_version()}, PyAV {av.__version__}",
        "FFmpeg": av.ffmpeg_version_info,
        **({} if (runtime := runtime_of(grid.manifest)) is None else {"ONNX Runtime": runtime}),
        **{f"the {name}": value for name, value in zip(names, options, strict=True)},
    }
    return {name: _short(value) for name, value in decides.items()}


def runtime_of(manifest: Manifest) -> str | None:
    """The version of ONNX Runtime that runs the bundle here. None for engines: they run in the version that the bundle
    names, and in no other."""
    compiled = bundle_target(manifest.recipe.target).compiled
    return None if compiled else onnxruntime_version() or "not installed"


def files_of(task: PiecesTask) -> tuple[Path, ...]:
    """The input, and the files that it names if it is a playlist."""
    return (task.source, *files_of_playlist(task.source, task.reading.allow_playlist))


def states_of_files(files: Sequence[Path]) -> tuple[FileState | None, ...]:
    """The states of an input's files."""
    return tuple(map(state_of, files))


def digest_of_files(files: Sequence[Path]) -> str:
    """A short digest of an input's files. Raises `OSError`."""
    first, *others = map(input_digest, files)
    return (hashlib.sha256("".join((first, *others)).encode()).hexdigest() if others else first)[:16]


def _short(value: object) -> str:
    """A value as a short printable text: as it is, or its beginning and a digest of all."""
    text = "the default" if value is None else str(value)
    if len(text) <= _LONGEST and text.isprintable():
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{printable(text)[: _LONGEST // 2]}... ({digest})"


def input_digest(path: Path, samples: int = _SAMPLES) -> str:
    """A digest of a file's size and content: of all of it up to 64 MB, of 64 evenly spaced megabytes beyond that.

    samples: instead of 64.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    if size <= samples * _SAMPLE_BYTES:
        places = list(range(0, size, _SAMPLE_BYTES))
    else:
        places = [(size - _SAMPLE_BYTES) * number // (samples - 1) for number in range(samples)]
    with path.open("rb") as file:
        for place in places:
            try:
                file.seek(place)
                digest.update(file.read(_SAMPLE_BYTES))
            except OSError:  # a broken disk: --keep-going needs a digest all the same
                digest.update(b"unreadable")
    return digest.hexdigest()
