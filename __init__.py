"""SwiftVR video restoration without PyTorch at run time.

    from swiftvr_trt import Restorer

    with Restorer.open(bundle) as r:
        for restored in r.restore(frames):      # uint8 [h, w, 3] RGB in, uint8 [H, W, 3] RGB out, same count
            ...

Bundles are made by `swiftvr-export`; whole video files are restored by `swiftvr-run`.
"""

from __future__ import annotations

from .engines.bundle import Bundle
from .engines.geometry import Resolution
from .engines.manifest import Manifest
from .errors import (
    BundleError,
    CheckpointError,
    MachineError,
    MediaError,
    MissingPackageError,
    MisuseError,
    OutputError,
    StageError,
    SwiftVRError,
)
from .runtime.restorer import Restorer
from .runtime.session import Session

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "BundleError",
    "CheckpointError",
    "MachineError",
    "Manifest",
    "MediaError",
    "MissingPackageError",
    "MisuseError",
    "OutputError",
    "Resolution",
    "Restorer",
    "Session",
    "StageError",
    "SwiftVRError",
    "__version__",
]
