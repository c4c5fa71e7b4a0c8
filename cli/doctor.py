"""What is installed, what is missing for which target, and how to get it."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from swiftvr_trt.engines.bundle.targets import TARGETS
from swiftvr_trt.runtime.devices.driver import GET_DRIVER, has_driver, load_library

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
_DECODER = {"Windows": "nvcuvid.dll", "Linux": "libnvcuvid.so.1"}
_ENCODER = {"Windows": "nvEncodeAPI64.dll", "Linux": "libnvidia-encode.so.1"}
_DRIVER = "NVIDIA driver (to run)"


@dataclass(frozen=True)
class Purpose:
    """Something one may want to do. `missing` names packages or parts; `remedy` is what to type, empty if nothing.

    note: how far it goes without them, e.g. `to build`.
    """

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
        purposes=(
            _export(installed),
            *(_target(t.name, t.extra, t.ready, installed, driver) for t in TARGETS),
            _video("decode video on the GPU (--hwaccel)", "h264_cuvid", _DECODER, driver),
            _video("encode video on the GPU (--hwaccel)", "h264_nvenc", _ENCODER, driver),
        ),
        cache=str(cache),
        cache_free_bytes=_free(cache),
    )


def _loads(names: Mapping[str, str]) -> bool:
    return load_library(names) is not None


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
    """A target is ready if this version builds and runs it and everything for it is there.

    Engines for RTX cards can be built where there is no card; then the note says so.
    """
    needed = (extra, "cuda") if extra in ("rtx", "tensorrt", "gpu") else (extra,)
    lacking = [part for part in needed if _missing(part, installed)]
    missing = [package for part in needed for package in _missing(part, installed)]
    remedy = _install(*lacking)
    if extra == "gpu" and installed["onnxruntime"]:  # both bring the same module, and the last one installed wins
        remedy = f"pip uninstall onnxruntime, then {_install('gpu', 'cuda')}"
        missing.append("onnxruntime out of the way")
    if name != "cpu" and not driver:
        missing.append(_DRIVER)
        remedy = remedy or GET_DRIVER
    note = "" if ready else "not yet"
    if extra == "rtx" and missing and not (_missing("rtx", installed) or _missing("export", installed)):
        note = "to build"
    return Purpose(f"target {name}", ready and not missing, tuple(missing), remedy, note)


def _video(name: str, codec: str, libraries: Mapping[str, str], driver: bool) -> Purpose:
    """What `--hwaccel` needs: a driver with its video libraries, and an FFmpeg that knows them."""
    missing, remedy = [], ""
    if not _ffmpeg_has(codec):
        missing.append(f"{codec} in FFmpeg")
        remedy = "pip install --force-reinstall av"
    if not driver:
        missing.append(_DRIVER)
        remedy = remedy or GET_DRIVER
    elif not _loads(libraries):
        missing.append(f"{libraries.get(platform.system(), libraries['Linux'])} of the NVIDIA driver")
        remedy = remedy or "in a container: NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
    return Purpose(name, not missing, tuple(missing), remedy)


def _ffmpeg_has(codec: str) -> bool:
    try:
        import av
    except ImportError:
        return False
    return codec in av.codecs_available


def _free(cache: Path) -> int | None:
    """Free bytes where the cache is or will be."""
    place = cache
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None
