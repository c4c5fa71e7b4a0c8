"""What a bundle is made of, as data: for `swiftvr-export inspect`, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .manifest import Manifest, StageSpec


@dataclass(frozen=True)
class StageReport:
    """One stage: its file, the shapes that go through it, and the bytes of its state."""

    name: str
    file: str
    file_bytes: int
    takes: str
    gives: str
    state_bytes: int


@dataclass(frozen=True)
class BundleReport:
    """All of it. `stream_bytes` is what the chunk loop allocates for one stream of the size named beside it.

    It is exact for the buffers of the loop; what a runtime needs inside a stage comes on top and is not counted here.
    """

    recipe: Mapping[str, Any]
    made_by: str
    compiler: str
    compute_capability: str | None
    stages: tuple[StageReport, ...]
    files: Mapping[str, int]
    bytes_on_disk: int
    stream_input: str
    stream_bytes: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def inspect_manifest(manifest: Manifest, *, stream_input: tuple[int, int], stream_bytes: int) -> BundleReport:
    """Describe a manifest. stream_input: (width, height) of the frames for which `stream_bytes` was planned."""
    files = {entry.name: entry.size for entry in manifest.files}
    return BundleReport(
        recipe=asdict(manifest.recipe),
        made_by=manifest.tool,
        compiler=f"{manifest.compiler} {manifest.compiler_version}",
        compute_capability=manifest.compute_capability,
        stages=tuple(_stage(stage, files[stage.file]) for stage in manifest.stages),
        files=files,
        bytes_on_disk=sum(files.values()),
        stream_input=f"{stream_input[0]}x{stream_input[1]}",
        stream_bytes=stream_bytes,
    )


def _stage(stage: StageSpec, file_bytes: int) -> StageReport:
    return StageReport(
        stage.name,
        stage.file,
        file_bytes,
        _shape(stage.inputs[0].dtype, stage.inputs[0].shape),
        _shape(stage.outputs[0].dtype, stage.outputs[0].shape),
        sum(spec.nbytes for spec in stage.inputs[1:]),
    )


def _shape(dtype: str, shape: tuple[int | None, ...]) -> str:
    return f"{dtype} [{', '.join('any' if side is None else str(side) for side in shape)}]"
