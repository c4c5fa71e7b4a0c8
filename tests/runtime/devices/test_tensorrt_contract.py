"""Every TensorRT name that the CUDA device uses exists in TensorRT and in TensorRT-RTX, with the same arguments.

The names come from the source: attributes of variables annotated with a TensorRT type, and of `library`, the module.
They are looked up in the installed TensorRT-RTX, whose bindings list arguments in their docstrings; in the stand-in of
the tests; in a table of the documentation of TensorRT 11; and in TensorRT 11's own bindings (`trt11.py`). The names
that building engines uses are looked up there, too.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from . import fake_trt, trt11

trt = pytest.importorskip("tensorrt_rtx")

SOURCE = Path(__file__).parents[3] / "runtime" / "devices"
CLASSES = ("Runtime", "ICudaEngine", "IExecutionContext", "IRuntimeConfig", "IRuntimeCache")

TENSORRT_11 = {
    # docs.nvidia.com/deeplearning/tensorrt/11.x/_static/python-api/infer/Core/: Runtime, Engine, ExecutionContext,
    # RuntimeConfig, Logger
    "Runtime": {"__init__", "deserialize_cuda_engine"},
    "ICudaEngine": {
        "create_execution_context",
        "create_runtime_config",
        "get_device_memory_size_for_profile_v2",
        "get_tensor_dtype",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_shape",
        "num_io_tensors",
        "num_optimization_profiles",
    },
    "IExecutionContext": {
        "execute_async_v3",
        "get_tensor_shape",
        "set_device_memory",
        "set_input_shape",
        "set_optimization_profile_async",
        "set_tensor_address",
    },
    "IRuntimeConfig": {"set_execution_context_allocation_strategy"},
    "module": {
        "ExecutionContextAllocationStrategy.USER_MANAGED",
        "ILogger",
        "ILogger.Severity.ERROR",
        "ILogger.Severity.INTERNAL_ERROR",
        "ILogger.__init__",
        "Runtime",
        "TensorIOMode.INPUT",
        "TensorIOMode.OUTPUT",
        "__name__",
        "__version__",
    },
}
RTX_ONLY = {
    # listed as new or extended in TensorRT-RTX against TensorRT
    "Runtime": {"get_engine_validity"},
    "IExecutionContext": {"is_stream_capturable"},
    "IRuntimeConfig": {
        "create_runtime_cache",
        "set_runtime_cache",
        "cuda_graph_strategy",
        "dynamic_shapes_kernel_specialization_strategy",
    },
    "IRuntimeCache": {"deserialize", "reset", "serialize"},
    "module": {
        "CudaGraphStrategy.DISABLED",
        "DynamicShapesKernelSpecializationStrategy.EAGER",
        "EngineInvalidityDiagnostics.__members__",
        "EngineValidity.INVALID",
    },
}


@dataclass(frozen=True)
class Use:
    """One use of a name of TensorRT. owner: its class, or `module`. arguments: their count and keywords, if called."""

    owner: str
    name: str
    arguments: tuple[int, tuple[str, ...]] | None
    line: int


def annotated(annotation: ast.expr | None) -> str | None:
    """`trt.X` or `trt.X | None` -> X; None for containers of them."""
    match = re.fullmatch(r"trt\.(\w+)(?: \| None)?", ast.unparse(annotation) if annotation else "")
    return match[1] if match else None


def chain(node: ast.expr) -> str | None:
    """`library.A.B` or `self._library.A.B` -> `A.B`."""
    match = re.fullmatch(r"(?:self\._)?library\.([\w.]+)", ast.unparse(node))
    return match[1] if match else None


class Uses(ast.NodeVisitor):
    """Collects uses, function by function."""

    def __init__(self, tree: ast.AST) -> None:
        self.found: list[Use] = []
        self.unresolved: list[str] = []
        self.locals: dict[str, str] = {}
        self.calls: dict[ast.expr, ast.Call] = {n.func: n for n in ast.walk(tree) if isinstance(n, ast.Call)}
        self.inner: set[ast.expr] = {n.value for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        self.visit(tree)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self.locals = self.locals, dict(self.locals)
        for argument in [*node.args.args, *node.args.kwonlyargs]:
            self._declare(argument.arg, argument.annotation)
        self.generic_visit(node)
        self.locals = outer

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._declare(node.target.id, node.annotation)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        path = chain(node)
        if path is not None:
            if node not in self.inner:
                self._add("module", path, node)
        elif isinstance(node.value, ast.Name) and node.value.id in self.locals:
            self._add(self.locals[node.value.id], node.attr, node)
        elif node.attr in TRT_NAMES and ast.unparse(node) not in OURS:
            self.unresolved.append(f"line {node.lineno}: {ast.unparse(node)}")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        asked = node.args[0] if ast.unparse(node.func) == "hasattr" else None
        if isinstance(asked, ast.Name) and asked.id in self.locals:  # an object of TensorRT
            assert isinstance(node.args[1], ast.Constant)
            assert isinstance(node.args[1].value, str)
            self.found.append(Use(self.locals[asked.id], node.args[1].value, None, node.lineno))
        self.generic_visit(node)

    def _declare(self, name: str, annotation: ast.expr | None) -> None:
        cls = annotated(annotation)
        if cls:
            self.locals[name] = cls

    def _add(self, owner: str, name: str, node: ast.Attribute) -> None:
        call = self.calls.get(node)
        arguments = (len(call.args), tuple(k.arg or "**" for k in call.keywords)) if call else None
        self.found.append(Use(owner, name, arguments, node.lineno))


TRT_NAMES = {n for c in CLASSES for n in dir(getattr(trt, c)) if not n.startswith("_")} - {"name", "engine", "profile"}
OURS = {"self._log.errors.clear", "stage.profile"}


def uses() -> list[Use]:
    found: list[Use] = []
    for path in sorted(SOURCE.glob("*.py")):
        if path.name == "driver.py":  # its library is the driver's
            continue
        text = path.read_text(encoding="utf-8")
        if path.name != "tensorrt.py":
            assert not re.search(r"^\s*import tensorrt", text, re.M), f"{path.name} reaches past tensorrt.py"
        collected = Uses(ast.parse(text))
        if path.name == "tensorrt.py":
            assert not collected.unresolved, f"annotate what these belong to: {collected.unresolved}"
        found += collected.found
    return found


USED = uses()


def signatures(docstring: str | None) -> Iterator[list[tuple[str, bool]]]:
    """(name, required) of each argument after self, for each overload, as pybind11 writes them into a docstring."""
    for line in (docstring or "").splitlines():
        match = re.match(r"(?:\d+\. )?\w+\((.*)\) -> ", line)
        if match and "*args" not in match[1]:
            flat = re.sub(r"\[[^\]]*\]|<[^>]*>", "", match[1])  # commas within types and defaults
            arguments = [part.strip() for part in flat.split(",")]
            yield [(a.split(":")[0].strip(), "=" not in a) for a in arguments if not a.startswith("self")]


def accepts(signature: list[tuple[str, bool]], positional: int, keywords: tuple[str, ...]) -> bool:
    given = {name for name, _ in signature[:positional]} | set(keywords)
    names, required = {name for name, _ in signature}, {name for name, needed in signature if needed}
    return positional <= len(signature) and set(keywords) <= names and required <= given


def check_arguments(use: Use, docstring: str | None) -> None:
    assert use.arguments is not None
    positional, keywords = use.arguments
    # The base class of a logger is initialised by hand, with the object itself.
    positional -= use.name.endswith(".__init__")
    found = list(signatures(docstring))
    assert found, f"{use.name}: its docstring lists no arguments"
    assert any(accepts(s, positional, keywords) for s in found), f"{use.name} takes {found}"


BUILDING = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
}
"""Variables of `engines/compile/compiler_process.py` and what they hold."""
RTX_ONLY_BUILDING = {
    "BuilderFlag.REQUIRE_USER_ALLOCATION",
    "ComputeCapability",
    "num_compute_capabilities",
    "set_compute_capability",
}
"""To build for a GPU that is absent, which TensorRT is never asked to do, and names that are tested for before use."""


def building_uses() -> list[Use]:
    """Names of TensorRT that building engines uses."""
    tree = ast.parse((SOURCE.parents[1] / "engines" / "compile" / "compiler_process.py").read_text(encoding="utf-8"))
    calls: dict[ast.AST, ast.Call] = {n.func: n for n in ast.walk(tree) if isinstance(n, ast.Call)}
    inner = {n.value for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        match = re.fullmatch(r"(\w+)\.([\w.]+)", ast.unparse(node))
        owner = {"trt": "module", **BUILDING}.get(match[1]) if match else None
        if match and owner and node not in inner:
            call = calls.get(node)
            arguments = (len(call.args), tuple(k.arg or "**" for k in call.keywords)) if call else None
            starred = call is not None and any(isinstance(a, ast.Starred) for a in call.args)
            found.append(Use(owner, match[2], None if starred else arguments, node.lineno))
    return found


@pytest.fixture(scope="module")
def tensorrt_11(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str | None]:
    """Name, as `spelled`, -> docstring, in the bindings of TensorRT 11."""
    if importlib.util.find_spec("tensorrt_bindings") is None or shutil.which("gcc") is None:
        pytest.skip("needs tensorrt-cu12-bindings and gcc")
    return trt11.docstrings(map(spelled, [*USED, *building_uses()]), tmp_path_factory.mktemp("trt11"))


def spelled(use: Use) -> str:
    return use.name if use.owner == "module" else f"{use.owner}.{use.name}"


def test_tensorrt_11_has_every_name_that_runs_engines(tensorrt_11: Mapping[str, str | None]) -> None:
    for use in USED:
        if use.name.startswith("__") and use.owner == "module":  # of its Python package
            continue
        assert (spelled(use) in tensorrt_11) != (use.name in RTX_ONLY.get(use.owner, ())), use
        if use.arguments is not None and spelled(use) in tensorrt_11:
            check_arguments(use, tensorrt_11[spelled(use)])


def test_tensorrt_11_has_every_name_that_builds_engines(tensorrt_11: Mapping[str, str | None]) -> None:
    found = building_uses()
    assert len(found) > 20
    there = {use.name for use in found if spelled(use) in tensorrt_11}
    assert {use.name for use in found if not use.name.startswith("__")} - there == RTX_ONLY_BUILDING
    for use in found:
        if use.arguments is not None and spelled(use) in tensorrt_11:
            check_arguments(use, tensorrt_11[spelled(use)])


def test_the_source_is_read_correctly() -> None:
    names = {(use.owner, use.name) for use in USED}
    assert len(names) > 30
    assert {("IExecutionContext", "execute_async_v3"), ("module", "Runtime"), ("module", "__version__")} <= names
    assert any(use.arguments == (2, ()) for use in USED if use.name == "set_device_memory")


@pytest.mark.parametrize("use", USED, ids=lambda u: f"{u.owner}.{u.name}:{u.line}")
def test_tensorrt_rtx_has_every_name_with_these_arguments(use: Use) -> None:
    place: Any = trt if use.owner == "module" else getattr(trt, use.owner)
    for part in use.name.split("."):
        place = getattr(place, part)
    if use.arguments is None or isinstance(place, property):
        assert use.arguments is None, f"{use.name} is a property and is called"
        return
    check_arguments(use, (place.__init__ if inspect.isclass(place) else place).__doc__)


def test_every_name_is_documented_for_tensorrt_11_or_tested_for_before_use() -> None:
    for use in USED:
        documented = use.name in TENSORRT_11.get(use.owner, ())
        rtx_only = use.name in RTX_ONLY.get(use.owner, ())
        assert documented != rtx_only, f"line {use.line}: {use.owner}.{use.name} is in neither table, or in both"


def test_every_name_in_the_tables_is_used() -> None:
    names = {(use.owner, use.name) for use in USED}
    listed = {(owner, name) for table in (TENSORRT_11, RTX_ONLY) for owner, ns in table.items() for name in ns}
    assert listed - {("Runtime", "__init__")} <= names


@pytest.mark.parametrize("owner", CLASSES)
def test_the_stand_in_has_the_same_methods_with_the_same_arguments(owner: str) -> None:
    real, fake = getattr(trt, owner), getattr(fake_trt, owner)
    for name in sorted({use.name for use in USED if use.owner == owner and hasattr(fake, use.name)}):
        ours, theirs = inspect.getattr_static(fake, name), getattr(real, name)
        if isinstance(theirs, property):
            assert isinstance(ours, property), name
            continue
        arguments = list(inspect.signature(ours).parameters)[1:]
        assert arguments in [[n for n, _ in s] for s in signatures(theirs.__doc__)], name
    missing = {use.name for use in USED if use.owner == owner} - set(dir(fake))
    assert missing <= {"cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"}  # set in __init__


@pytest.mark.parametrize(
    ("positional", "keywords", "fits"),
    [(2, (), True), (1, ("size",), True), (1, (), False), (3, (), False), (2, ("bytes",), False)],
)
def test_wrong_calls_are_found(positional: int, keywords: tuple[str, ...], fits: bool) -> None:
    (signature,) = signatures(trt.IExecutionContext.set_device_memory.__doc__)
    assert accepts(signature, positional, keywords) == fits


def test_calls_on_objects_of_unknown_type_are_found() -> None:
    source = "def f(context):\n    context.execute_async_v3(1)\n"
    assert Uses(ast.parse(source)).unresolved == ["line 2: context.execute_async_v3"]
