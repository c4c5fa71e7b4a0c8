"""Restore video with SwiftVR, without PyTorch at run time.

    from swiftvr_trt import Restorer

    with Restorer.open("bundle") as restorer:
        for restored in restorer.restore(frames):  # uint8 RGB [h, w, 3] in, as many uint8 RGB [H, W, 3] out
            ...

or a whole file, with its sound:

    from swiftvr_trt import restore_file

    restore_file("old.mp4", "new.mp4", bundle="bundle", crf=20)

`swiftvr-export` builds bundles; `swiftvr-run` restores video files.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as type checkers know it; the commands pass through here first, and `typing` takes a while

# Absolute, unlike elsewhere: pytest imports this file under the name of the clone's directory.
if TYPE_CHECKING:
    from swiftvr_trt.engines.bundle.files import Bundle
    from swiftvr_trt.engines.bundle.geometry import Resolution
    from swiftvr_trt.engines.bundle.manifest import Manifest
    from swiftvr_trt.engines.bundle.pixel_formats import pixel_format
    from swiftvr_trt.errors import (
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
    from swiftvr_trt.runtime.restore import vapoursynth
    from swiftvr_trt.runtime.restore.live.session import LiveSession
    from swiftvr_trt.runtime.restore.one_file import restore_file
    from swiftvr_trt.runtime.restore.restorer import Restorer
    from swiftvr_trt.runtime.stream.frames import FrameForm, Planes, Surface, YuvColour
    from swiftvr_trt.runtime.stream.session import Session

# Both libraries read these when they are loaded, which happens later. A value that the user has set stays.
for _variable in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_variable, "1")

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "BundleError",
    "Cancelled",
    "CheckpointError",
    "FrameForm",
    "LiveSession",
    "MachineError",
    "Manifest",
    "MediaError",
    "MissingPackageError",
    "MisuseError",
    "OutputError",
    "Planes",
    "Resolution",
    "Restorer",
    "Session",
    "StageError",
    "Surface",
    "SwiftVRError",
    "YuvColour",
    "__version__",
    "pixel_format",
    "restore_file",
    "vapoursynth",
]

_MODULES = {
    "Bundle": "engines.bundle.files",
    "FrameForm": "runtime.stream.frames",
    "LiveSession": "runtime.restore.live.session",
    "Manifest": "engines.bundle.manifest",
    "Planes": "runtime.stream.frames",
    "Resolution": "engines.bundle.geometry",
    "Restorer": "runtime.restore.restorer",
    "Session": "runtime.stream.session",
    "Surface": "runtime.stream.frames",
    "YuvColour": "runtime.stream.frames",
    "pixel_format": "engines.bundle.pixel_formats",
    "restore_file": "runtime.restore.one_file",
}
"""Where the public names come from that are not in `errors`."""


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name == "vapoursynth":  # a module of this name at the root would hide VapourSynth itself in a clone
        return import_module("swiftvr_trt.runtime.restore.vapoursynth")
    globals()[name] = found = getattr(import_module(f"swiftvr_trt.{_MODULES.get(name, 'errors')}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
