"""The names and docstrings of TensorRT 11's Python bindings, without TensorRT.

Only NVIDIA distributes its libraries. The bindings are on PyPI (`tensorrt-cu12-bindings`) and load with empty libraries
of the same names. Calling them would crash, so they are loaded in a separate process: run as a program, this prints a
JSON object with the docstring of every name in its arguments (`Class.method`, or a name of the module); null for a name
that is not a function. Names that do not exist are left out.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_LIBRARIES = ("libnvinfer.so.11", "libnvinfer_plugin.so.11", "libnvonnxparser.so.11")
_FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
"""Functions that the bindings need when they are loaded."""


def docstrings(names: Iterable[str], folder: Path) -> dict[str, str | None]:
    """Name -> docstring in TensorRT 11. folder: for the empty libraries."""
    source = folder / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in _FUNCTIONS))
    for library in _LIBRARIES:
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library), str(source)]
        subprocess.run(command, check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    command = [sys.executable, __file__, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    found: dict[str, str | None] = json.loads(done.stdout)
    return found


def _load() -> Any:
    package = importlib.util.find_spec("tensorrt_bindings")
    assert package is not None
    assert package.origin is not None
    spec = importlib.util.spec_from_file_location("tensorrt", Path(package.origin).with_name("tensorrt.so"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _main(names: list[str]) -> None:
    module = _load()
    found: dict[str, str | None] = {}
    for name in names:
        place: Any = module
        try:
            for part in name.split("."):
                place = getattr(place, part)
        except AttributeError:
            continue
        function = place.__init__ if inspect.isclass(place) else place
        found[name] = function.__doc__ if callable(function) else None
    print(json.dumps(found))


if __name__ == "__main__":
    _main(sys.argv[1:])
