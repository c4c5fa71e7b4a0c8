"""Every name that this package uses of a library exists in the installed version, with the arguments that it passes.

CI runs this with the newest and with the lowest versions that pyproject.toml allows. Names that the source spells out
are found by reading the source. Methods of objects cannot be found like that, so `METHODS` lists them. TensorRT has its
own test (tests/runtime/devices/test_tensorrt_contract.py), because only NVIDIA distributes its libraries.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = {
    "av", "click", "cuda", "filelock", "huggingface_hub", "jinja2", "numpy", "onnx", "onnx_ir", "onnxruntime",
    "onnxscript", "platformdirs", "prometheus_client", "psutil", "pynvml", "ray", "rich", "safetensors", "torch",
}  # fmt: skip
OUR_OPERATORS = "torch.ops.swiftvr"
TESTED_ELSEWHERE = {"tensorrt", "tensorrt_rtx", "polygraphy", "vapoursynth"}


@dataclass(frozen=True)
class Name:
    """A name of a library, e.g. av.container.OutputContainer, and the keywords of one call of it."""

    path: str
    keywords: tuple[str, ...]
    place: str

    def __str__(self) -> str:
        return f"{self.path}({', '.join(self.keywords)})"


class _Names(ast.NodeVisitor):
    """Collects the names of libraries that a module uses: imports, and attributes of what was imported."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.bound: dict[str, str] = {}
        self.found: set[Name] = set()

    def _add(self, path: str, line: int, keywords: tuple[str, ...] = ()) -> None:
        self.found.add(Name(path, keywords, f"{self.place}:{line}"))

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":  # mypy checks those
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.split(".")[0] in LIBRARIES:
                self.bound[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
                self._add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level == 0 and node.module is not None and node.module.split(".")[0] in LIBRARIES:
            for alias in node.names:
                self.bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                self._add(f"{node.module}.{alias.name}", node.lineno)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        path = self._path(node)
        if path is not None:
            self._add(path, node.lineno)
        else:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        path = self._path(node.func)
        keywords = tuple(sorted(keyword.arg for keyword in node.keywords if keyword.arg))
        if path is not None and keywords:
            self._add(path, node.lineno, keywords)
        self.generic_visit(node)

    def _path(self, node: ast.expr) -> str | None:
        """`ort.SessionOptions` -> onnxruntime.SessionOptions; None if it does not begin with an imported name."""
        if isinstance(node, ast.Name):
            return self.bound.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self._path(node.value)
            return None if owner is None else f"{owner}.{node.attr}"
        return None


def names_in(source: str, place: str) -> set[Name]:
    """The names of libraries that a module uses."""
    visitor = _Names(place)
    for _ in range(2):  # what a function uses may be imported below it
        visitor.visit(ast.parse(source))
    return {name for name in visitor.found if not name.path.startswith(OUR_OPERATORS)}


def _all_names() -> list[Name]:
    modules = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
    found = (
        name for path in modules for name in names_in(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    )
    return sorted({(name.path, name.keywords): name for name in found}.values(), key=str)


ROOMS = ("cli", "engines", "export", "page", "runtime")
NAMES = _all_names()

# Methods and attributes of objects that libraries give us, and the arguments that we pass.
METHODS: dict[str, tuple[str, ...]] = {
    "av.open": ("mode", "format", "options", "container_options", "hwaccel"),
    "av.CodecContext.create": (),
    "av.VideoFrame.from_ndarray": (),
    "av.codec.codec.Codec": ("mode",),
    "av.codec.hwaccel.HWAccel": ("device_type", "device", "allow_software_fallback", "options", "is_hw_owned"),
    "av.container.InputContainer.decode": (),
    "av.container.InputContainer.demux": (),
    "av.container.InputContainer.chapters": (),
    "av.container.OutputContainer.add_attachment": (),
    "av.container.OutputContainer.add_stream": ("rate", "options", "hwaccel"),
    "av.container.OutputContainer.add_stream_from_template": ("opaque",),
    "av.container.OutputContainer.mux": (),
    "av.container.OutputContainer.set_chapters": (),
    "av.container.OutputContainer.start_encoding": (),
    "av.container.OutputContainer.supported_codecs": (),
    "av.container.OutputContainer.default_video_codec": (),
    "av.codec.CodecContext.flush_buffers": (),
    "av.stream.Disposition.attached_pic": (),
    "av.stream.Discard.all": (),
    "av.video.reformatter.VideoReformatter.reformat": (
        "width",
        "height",
        "format",
        "src_colorspace",
        "dst_colorspace",
        "interpolation",
        "src_color_range",
        "dst_color_range",
        "threads",
    ),
    "onnxruntime.InferenceSession.run_with_iobinding": (),
    "onnxruntime.InferenceSession.io_binding": (),
    "onnxruntime.IOBinding.bind_ortvalue_input": (),
    "onnxruntime.IOBinding.bind_ortvalue_output": (),
    "ray.actor.ActorClass.options": ("num_cpus", "num_gpus", "max_restarts", "max_task_retries"),
    "ray.cluster_utils.Cluster.add_node": ("num_cpus",),
    "ray.cluster_utils.Cluster.remove_node": ("allow_graceful",),
    "ray.exceptions.RayError": (),
    "ray.exceptions.RayTaskError": (),
    "ray.get": ("timeout",),
    "ray.init": ("log_to_driver", "logging_level", "include_dashboard", "object_store_memory", "_temp_dir"),
    "ray.kill": ("no_restart",),
    "ray.nodes": (),
    "ray.put": (),
    "ray.remote": (),
    "ray.runtime_context.RuntimeContext.get_node_id": (),
    "ray.shutdown": (),
    "ray.wait": ("num_returns", "timeout", "fetch_local"),
}


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_a_name_in_the_source_exists_with_its_arguments(name: Name) -> None:
    check(name)


@pytest.mark.parametrize(("path", "keywords"), METHODS.items(), ids=METHODS.keys())
def test_a_method_exists_with_its_arguments(path: str, keywords: tuple[str, ...]) -> None:
    check(Name(path, keywords, "METHODS"))


def check(name: Name) -> None:
    """Fails if the name is missing, or a keyword is none of its parameters."""
    found = _resolve(name)
    accepted = _parameters(name, found) if name.keywords else None
    if accepted is not None:
        refused = set(name.keywords) - accepted
        assert not refused, f"{name.place}: {name.path} takes no {', '.join(sorted(refused))}"


def _resolve(name: Name) -> object:
    parts = name.path.split(".")
    found: object = importlib.import_module(parts[0])
    for index, part in enumerate(parts[1:], 1):
        if isinstance(found, ModuleType) and not hasattr(found, part):
            try:
                importlib.import_module(".".join(parts[: index + 1]))
            except ImportError as error:
                raise AssertionError(f"{name.place}: {name.path} does not exist ({error})") from error
        assert hasattr(found, part), f"{name.place}: {name.path} does not exist"
        found = getattr(found, part)
    return found


def _parameters(name: Name, found: object) -> set[str] | None:
    """The parameters of a callable; None if it takes any keyword, or if nothing tells."""
    try:
        signature = inspect.signature(found)  # type: ignore[arg-type]  # raises TypeError if it is not callable
    except (TypeError, ValueError):
        return _parameters_in_stub(name)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        return None
    return set(signature.parameters)


def _parameters_in_stub(name: Name) -> set[str] | None:
    """The parameters by the library's own stub (.pyi): for compiled libraries such as PyAV."""
    library, *_, last = name.path.split(".")
    owner = name.path.split(".")[-2]
    accepted: set[str] = set()
    for arguments in _stub_functions(library, owner, last):
        if arguments.kwarg is not None:
            return None
        accepted |= {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    return accepted or None


def _stub_functions(library: str, owner: str, last: str) -> Iterator[ast.arguments]:
    """Every overload of a function, of a method of the class `owner`, or of the constructor of a class."""
    for tree in _stubs(library):
        classes = {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}
        bodies = [(classes.get(owner, []), last), (classes.get(last, []), "__init__")]
        if owner not in classes and owner.islower():
            bodies.append((tree.body, last))
        for body, wanted in bodies:
            yield from (node.args for node in body if isinstance(node, ast.FunctionDef) and node.name == wanted)


@cache
def _stubs(library: str) -> list[ast.Module]:
    package = Path(str(importlib.import_module(library).__file__)).parent
    return [ast.parse(stub.read_text(encoding="utf-8")) for stub in sorted(package.rglob("*.pyi"))]


def test_the_source_is_read() -> None:
    """Imports within functions, aliases and keywords are seen; everything local is not."""
    source = (
        "import onnxruntime as ort\n"
        "def f(path):\n"
        "    from av.container import OutputContainer\n"
        "    options = ort.SessionOptions()\n"
        "    options.anything = OutputContainer\n"
        "    return ort.InferenceSession(path, sess_options=options)\n"
    )
    assert {str(name) for name in names_in(source, "m.py")} == {
        "onnxruntime()", "av.container.OutputContainer()", "onnxruntime.SessionOptions()",
        "onnxruntime.InferenceSession()", "onnxruntime.InferenceSession(sess_options)",
    }  # fmt: skip
    assert len(NAMES) > 200


@pytest.mark.parametrize(
    ("path", "keywords", "message"),
    [
        ("av.opened", (), "av.opened does not exist"),
        ("av.contained.Container", (), "av.contained.Container does not exist"),
        ("av.open", ("file", "metadata"), "av.open takes no metadata"),
        ("av.container.OutputContainer.add_stream", ("quality",), None),  # takes any keyword
        ("av.video.reformatter.VideoReformatter.reformat", ("colour",), "reformat takes no colour"),
        ("platformdirs.user_cache_dir", ("author",), "user_cache_dir takes no author"),
    ],
)
def test_a_missing_name_or_argument_is_reported(path: str, keywords: tuple[str, ...], message: str | None) -> None:
    name = Name(path, keywords, "m.py:1")
    if message is None:
        check(name)
    else:
        with pytest.raises(AssertionError, match=message):
            check(name)


def test_every_library_that_the_package_requires_is_checked() -> None:
    """A dependency that is added later is found by this test, not by a user."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: found for name, found in project["optional-dependencies"].items() if name not in ("dev", "docs")}
    required = {re.split(r"[\[>]", one)[0] for found in (project["dependencies"], *extras.values()) for one in found}
    imported = {"onnxruntime-gpu": "onnxruntime", "cuda-core": "cuda", "cuda-bindings": "cuda", "onnx-ir": "onnx_ir"}
    imported |= {"tensorrt-rtx-cu12": "tensorrt_rtx", "tensorrt-cu12": "tensorrt"}
    imported |= {"prometheus-client": "prometheus_client", "nvidia-ml-py": "pynvml"}
    assert {imported.get(one, one) for one in required} == LIBRARIES | TESTED_ELSEWHERE
