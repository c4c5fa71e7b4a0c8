"""Restore video with SwiftVR, without PyTorch at run time.

    from swiftvr_trt import Restorer

    with Restorer.open("bundle") as restorer:
        for restored in restorer.restore(frames):  # uint8 RGB [h, w, 3] in, as many uint8 RGB [H, W, 3] out
            ...

`swiftvr-export` builds bundles; `swiftvr-run` restores video files.
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
