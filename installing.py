"""This installation of the package: its version, and how it gets its optional packages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_NAME = "swiftvr-trt"

PACKAGES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "cpu": (("onnxruntime", "onnxruntime-gpu"),),
    "gpu": (("onnxruntime-gpu",),),
    "cuda": (("cuda-core",), ("cuda-bindings",)),
    "cuda12": (("cuda-core",), ("cuda-bindings",)),
    "rtx": (("tensorrt-rtx-cu12", "tensorrt-rtx-cu13", "tensorrt-rtx"), ("polygraphy",)),
    "tensorrt": (("tensorrt-cu12", "tensorrt-cu13", "tensorrt"), ("polygraphy",)),
    "export": (("torch",), ("onnx",), ("onnxscript",), ("safetensors",), ("filelock",), ("huggingface_hub",)),
}
"""The packages of each extra; of the alternatives in a tuple, one is enough."""


_INDEX = {"tensorrt": "https://pypi.nvidia.com"}
"""Extras whose packages are in an index of their own."""


def tool_version() -> str:
    """Version of this package as installed, or `unknown`."""
    return installed_version(_NAME) or "unknown"


def installed_version(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def onnxruntime_version() -> str | None:
    """The version of ONNX Runtime, from whichever of its packages is installed; None if none is."""
    return next(filter(None, map(installed_version, PACKAGES["cpu"][0])), None)


def missing_packages(extra: str, installed: Mapping[str, str | None]) -> tuple[str, ...]:
    """The packages of an extra that are not installed. Of several alternatives, names the first."""
    return tuple(group[0] for group in PACKAGES[extra] if not any(installed[name] for name in group))


def optional_packages() -> dict[str, str | None]:
    """All packages of the extras, with the versions that are installed; None for one that is not."""
    return {name: installed_version(name) for groups in PACKAGES.values() for group in groups for name in group}


def installed_extras() -> frozenset[str]:
    """The extras whose packages are installed."""
    installed = optional_packages()
    return frozenset(extra for extra in PACKAGES if not missing_packages(extra, installed))


def install_command(*extras: str) -> str:
    """The command that installs these extras; empty if there are none.

    It installs from where the package itself came from: the clone, the wheel, or the address. If that is gone or not
    known, it names the packages of the extras, because a package index may not have this package.
    """
    if not extras:
        return ""
    root = Path(__file__).resolve().parent
    index = "".join(f" --extra-index-url {_INDEX[extra]}" for extra in extras if extra in _INDEX)
    if (root / "pyproject.toml").is_file():
        return f'pip install -e "{root}[{",".join(extras)}]"{index}'
    return f"pip install {_from_source(extras) or _by_name(extras)}{index}"


def _from_source(extras: tuple[str, ...]) -> str:
    """What pip noted as the source of the package (PEP 610), with extras, as an argument for it. Empty if unknown."""
    import json
    from importlib import metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    wanted = ",".join(extras)
    try:
        noted = json.loads(metadata.distribution(_NAME).read_text("direct_url.json") or "null")
        url = str(noted["url"])
        parts = urlsplit(url)
        if "vcs_info" in noted:
            return f'"{_NAME}[{wanted}] @ {noted["vcs_info"]["vcs"]}+{url}"'
        if parts.scheme not in ("file", ""):
            return f'"{_NAME}[{wanted}] @ {url}"'
        path = Path(url2pathname(parts.path))
    except (metadata.PackageNotFoundError, ValueError, TypeError, KeyError):
        return ""
    return f'"{path}[{wanted}]"' if path.exists() else ""


def _by_name(extras: tuple[str, ...]) -> str:
    """The packages of the extras with their bounds, as arguments for pip."""
    from importlib import metadata

    try:
        required = metadata.requires(_NAME) or []
    except metadata.PackageNotFoundError:
        required = []
    wanted = {f"extra == '{extra}'" for extra in extras}
    split = (line.partition(";") for line in required)
    found = dict.fromkeys(name.strip() for name, _, marker in split if marker.strip().replace('"', "'") in wanted)
    known = (group[0] for extra in extras for group in PACKAGES.get(extra, ()))
    return " ".join(f'"{name}"' for name in found or dict.fromkeys(known))
