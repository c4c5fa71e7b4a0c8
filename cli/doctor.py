"""Finds out what is installed, what each target still needs, and how to install it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..engines.bundle.drivers import GET_DRIVER, driver_needs
from ..engines.bundle.targets import TARGETS, Target
from ..engines.compile.estimate import free_disk_bytes
from ..installing import PACKAGES, install_command, installed_version, missing_packages
from ..runtime.devices.driver import find_driver, has_driver, load_library

_CORE = ("numpy", "av", "click", "rich", "platformdirs")
_DECODER = {"Windows": "nvcuvid.dll", "Linux": "libnvcuvid.so.1"}
_ENCODER = {"Windows": "nvEncodeAPI64.dll", "Linux": "libnvidia-encode.so.1"}
_DRIVER = "NVIDIA driver (to run)"


@dataclass(frozen=True)
class Purpose:
    """A task, and whether this machine is ready for it.

    missing: packages and other parts. remedy: the command or the advice that helps; empty if nothing does. note: shown
    in place of "no", e.g. "to build" if the machine can build but not run. driver: the NVIDIA driver that it takes.
    """

    name: str
    ready: bool
    missing: tuple[str, ...]
    remedy: str
    note: str = ""
    driver: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What was found on this machine.

    packages: name -> installed version, None if not installed. driver: an NVIDIA driver was found. cache: root of the
    bundle cache, and `cache_free_bytes` the free space there, None if unknown.
    """

    python: str
    platform: str
    driver: bool
    packages: Mapping[str, str | None]
    purposes: tuple[Purpose, ...]
    cache: str
    cache_free_bytes: int | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def diagnose(cache: Path) -> Diagnosis:
    """Examine the machine. Changes nothing, and imports no framework but PyAV. cache: root of the bundle cache."""
    names = [*_CORE, *(name for extra in PACKAGES.values() for group in extra for name in group)]
    installed = {name: installed_version(name) for name in names}
    driver = has_driver()
    return Diagnosis(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        driver=driver,
        packages=installed,
        purposes=(
            _diagnose_export(installed),
            *(_diagnose_target(target, installed, driver) for target in TARGETS),
            _diagnose_video("decode video on the GPU (--hwaccel)", "h264_cuvid", _DECODER, driver),
            _diagnose_video("encode video on the GPU (--hwaccel)", "h264_nvenc", _ENCODER, driver),
        ),
        cache=str(cache),
        cache_free_bytes=free_disk_bytes(cache),
    )


def _diagnose_export(installed: Mapping[str, str | None]) -> Purpose:
    missing = missing_packages("export", installed)
    return Purpose("export a checkpoint", not missing, missing, install_command("export") if missing else "")


def _diagnose_target(target: Target, installed: Mapping[str, str | None], driver: bool) -> Purpose:
    """Whether bundles for a target can be built and run here. Engines for RTX cards can be built without the card."""
    found = find_driver() if driver else None
    needs = driver_needs(target.extra, target.compute_capability, installed, found.cuda if found else None)
    on_gpu = target.usual_device == "cuda"
    extras = needs.extras if on_gpu else (target.extra,)
    incomplete = [extra for extra in extras if missing_packages(extra, installed)]
    missing = [package for extra in extras for package in missing_packages(extra, installed)]
    remedy = install_command(*incomplete)
    if target.extra == "gpu" and installed["onnxruntime"]:
        # Both packages contain the module `onnxruntime`, and the one installed last overwrites the other.
        remedy = f"pip uninstall onnxruntime, then {install_command('gpu', 'cuda')}"
        missing.append("onnxruntime must be uninstalled")
    wanted = needs.wanted if on_gpu else ""
    if on_gpu and not driver:
        missing.append(f"NVIDIA driver, {wanted} (to run)")
        remedy = remedy or GET_DRIVER
    elif on_gpu and needs.too_old:
        missing.append(f"NVIDIA driver, {wanted} (this one is for CUDA {needs.offered})")
        remedy = remedy or f"{needs.instead}{GET_DRIVER}"
    note = "" if target.ready else "not yet"
    if (
        target.extra == "rtx"
        and missing
        and not (missing_packages("rtx", installed) or missing_packages("export", installed))
    ):
        note = "to build"
    return Purpose(f"target {target.name}", target.ready and not missing, tuple(missing), remedy, note, wanted)


def _diagnose_video(name: str, codec: str, libraries: Mapping[str, str], driver: bool) -> Purpose:
    """Whether `--hwaccel` works. It needs an FFmpeg with `codec`, and the driver's library for it."""
    missing, remedy = [], ""
    if not _ffmpeg_has(codec):
        missing.append(f"{codec} in FFmpeg")
        remedy = "pip install --force-reinstall av"
    if not driver:
        missing.append(_DRIVER)
        remedy = remedy or GET_DRIVER
    elif load_library(libraries) is None:
        missing.append(f"{libraries.get(platform.system(), libraries['Linux'])} of the NVIDIA driver")
        remedy = remedy or "in a container: NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
    return Purpose(name, not missing, tuple(missing), remedy)


def _ffmpeg_has(codec: str) -> bool:
    try:
        import av
    except ImportError:
        return False
    return codec in av.codecs_available
