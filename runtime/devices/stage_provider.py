"""What the CUDA device needs from a library that runs stages: protocols, implemented for two libraries.

`tensorrt.py` opens TensorRT execution contexts, `ort_cuda.py` ONNX Runtime sessions on CUDA. A `StageProvider` loads
the stages of a bundle, and `LoadedStages` makes one `StageContext` per stage and session. The device owns all buffers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...engines.bundle.files import Bundle
from ...engines.bundle.manifest import StageSpec
from .gpu import Gpu

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of every tensor of a stage, by name."""


@dataclass(frozen=True)
class Arena:
    """Device memory for activations. Stages that run one after another share it."""

    address: int
    nbytes: int


class StageContext(Protocol):
    """Runs one stage for one session. Valid until its `LoadedStages` is closed.

    `stream` is always the driver's handle of a CUDA stream.
    """

    def check_capturable(self, stream: int) -> None:
        """Raise `StageError` if a CUDA graph cannot hold the stage. Called after it has run once."""

    def enqueue(self, addresses: Sequence[int], stream: int) -> None:
        """Run the stage on `stream`. addresses: of its inputs, then of its outputs, as the manifest orders them."""


class LoadedStages(Protocol):
    """All stages of a bundle, loaded once for all sessions."""

    def arena_bytes(self, stages: Iterable[StageSpec]) -> int:
        """Size of the arena that the largest of these stages needs; 0 if the library allocates activations itself."""

    @property
    def compiles_kernels(self) -> bool:
        """Whether the first context of each stage takes minutes, because its kernels are compiled for this GPU."""

    def context(self, stage: StageSpec, shapes: Shapes, arena: Arena, stream: int) -> StageContext:
        """What runs `stage` for one session, ready to run.

        arena: valid for as long as the context is used. stream: handle of the CUDA stream for work on the GPU that this
        takes.
        """

    def close(self) -> None:
        """Release the stages; their contexts must not be used afterwards. A second call does nothing."""


class StageProvider(Protocol):
    """Loads the stages of a bundle on a GPU."""

    @property
    def capturable(self) -> bool:
        """Whether a CUDA graph can hold the stages of a whole chunk."""

    def check(self, bundle: Bundle, gpu: Gpu) -> None:
        """Raise if this bundle cannot run here. Called before anything is loaded or allocated.

        Raises `MissingPackageError` or `MachineError` if the machine lacks something, `BundleError` if the bundle was
        built for something else.
        """

    def load(self, bundle: Bundle, gpu: Gpu, stream: Any) -> LoadedStages:
        """Load every stage. stream: the CUDA stream that they will run on.

        Raises `BundleError` if a file contradicts the manifest, `MachineError` if memory is short.
        """
