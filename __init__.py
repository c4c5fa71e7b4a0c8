"""SwiftVR video restoration without PyTorch at run time.

    from . import Restorer

    with Restorer.open(bundle) as r:
        for restored in r.restore(frames):      # uint8 [h, w, 3] RGB in, uint8 [H, W, 3] RGB out, same count
            ...

Bundles are made by `swiftvr-export`; whole video files are restored by `swiftvr-run`.
"""

from __future__ import annotations

# Absolute, unlike elsewhere: pytest imports this file under the name of the clone's directory.
from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.manifest import Manifest
from swiftvr_trt.runtime.restore.restorer import Restorer
from swiftvr_trt.runtime.stream.session import Session

from .errors import (
    BundleError,
    Cancelled,
    CheckpointError,
    MachineError,
    MediaError,
    MissingPackageError,
    MisuseError,
    OutputError,
    StageError,
    SwiftVRError,
)

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "BundleError",
    "Cancelled",
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
