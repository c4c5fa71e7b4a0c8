"""What is installed, what is missing for which target, and how to get it."""

from __future__ import annotations

import ctypes
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from .targets import TARGETS

_PACKAGES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    # extra -> what it must bring; alternatives in one tuple
    "cpu": (("onnxruntime", "onnxruntime-gpu"),),
    "gpu": (("onnxruntime-gpu",),),
    "cuda": (("cuda-core",), ("cuda-bindings",)),
    "rtx": (("tensorrt-rtx-cu12", "tensorrt-rtx-cu13", "tensorrt-rtx"), ("polygraphy",)),
    "tensorrt": (("tensorrt-cu12", "tensorrt-cu13", "tensorrt"), ("polygraphy",)),
    "export": (("torch",), ("onnx",), ("onnxscript",), ("safetensors",), ("filelock",)),
}
_CORE = ("numpy", "av", "click", "rich", "platformdirs")
_DRIVERS = {"Windows": "nvcuda.dll", "Linux": "libcuda.so.1"}


@dataclass(frozen=True)
class Purpose:
    """Something one may want to do. `missing` names packages or parts; `remedy` is what to type, empty if nothing."""

    name: str
    ready: bool
    missing: tuple[str, ...]
    remedy: str
    note: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The machine as this tool sees it."""

    python: str
    platform: str
    driver: bool
    packages: Mapping[str, str | None]
    purposes: tuple[Purpose, ...]
    cache: str
    cache_free_bytes: int | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def diagnose(cache: Path) -> Diagnosis:
    """Look around; changes nothing and loads no framework."""
    names = [*_CORE, *(name for extra in _PACKAGES.values() for group in extra for name in group)]
    installed = {name: _version(name) for name in names}
    driver = has_driver()
    return Diagnosis(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        driver=driver,
        packages=installed,
        purposes=(_export(installed), *(_target(t.name, t.extra, t.ready, installed, driver) for t in TARGETS)),
        cache=str(cache),
        cache_free_bytes=_free(cache),
    )


def has_driver() -> bool:
    """True if an NVIDIA driver can be loaded."""
    try:
        ctypes.CDLL(_DRIVERS.get(platform.system(), "libcuda.so.1"))
    except OSError:
        return False
    return True


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _missing(extra: str, installed: Mapping[str, str | None]) -> tuple[str, ...]:
    return tuple(group[0] for group in _PACKAGES[extra] if not any(installed[name] for name in group))


def _install(*extras: str) -> str:
    return f'pip install "swiftvr-trt[{",".join(extras)}]"' if extras else ""


def _export(installed: Mapping[str, str | None]) -> Purpose:
    missing = _missing("export", installed)
    return Purpose("export a checkpoint", not missing, missing, _install("export") if missing else "")


def _target(name: str, extra: str, ready: bool, installed: Mapping[str, str | None], driver: bool) -> Purpose:
    """A target is ready if this version builds and runs it and everything for it is there."""
    needed = (extra, "cuda") if extra in ("rtx", "tensorrt") else (extra,)
    lacking = [part for part in needed if _missing(part, installed)]
    missing = [package for part in needed for package in _missing(part, installed)]
    if name != "cpu" and not driver:
        missing.append("NVIDIA driver (to run)")
    note = "" if ready else "not yet"
    return Purpose(f"target {name}", ready and not missing, tuple(missing), _install(*lacking), note)


def _free(cache: Path) -> int | None:
    """Free bytes where the cache is or will be."""
    place = cache
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None
