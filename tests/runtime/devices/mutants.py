"""The modules of the CUDA device and the session, with one wait removed from their source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from swiftvr_trt import Session, runtime

_WAITS = ("wait", "sync", "_sync", "finish_releases", "wait_uploaded")
_MODULES = ("devices.cuda_recording", "devices.cuda")
_SESSION = "stream.session"
_ALL = (*_MODULES, _SESSION)
_ORDERS_NOTHING = {"GpuTracing.start"}
"""Functions whose waits only read a clock."""


@dataclass(frozen=True)
class Site:
    """A statement that waits: where it is, and its text."""

    module: str
    function: str
    text: str
    number: int

    def __str__(self) -> str:
        return f"{self.module}.{self.function}: {self.text}"


def _source(module: str) -> ast.Module:
    return ast.parse(
        (Path(next(iter(runtime.__path__))) / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    )


def _waits(node: ast.AST, path: str = "") -> Iterator[tuple[str, ast.Expr]]:
    """Statements that only wait, each with the function that it is in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
            function = child.value.func
            if isinstance(function, ast.Attribute) and function.attr in _WAITS:
                yield path, child
        inner = child.name if isinstance(child, ast.FunctionDef | ast.ClassDef) else ""
        yield from _waits(child, ".".join(filter(None, (path, inner))))


def sites() -> list[Site]:
    """Every wait of the device and of the session."""
    return [
        Site(module, function, ast.unparse(statement), number)
        for module in _ALL
        for number, (function, statement) in enumerate(_waits(_source(module)))
        if function not in _ORDERS_NOTHING
    ]


def session_without(site: Site) -> type:
    """The class `Session`, without the wait if its module has it."""
    if site.module != _SESSION:
        return Session
    tree = _source(site.module)
    _remove(tree, list(_waits(tree))[site.number][1])
    session: type = _load(site.module, tree).Session
    return session


def device_without(site: Site) -> type:
    """The class `CudaDevice`, without the wait if one of its modules has it."""
    made: dict[str, ModuleType] = {}
    for module in _MODULES:
        tree = _source(module)
        if module == site.module:
            _, statement = list(_waits(tree))[site.number]
            _remove(tree, statement)
        made[module] = _load(module, tree)
        for earlier in list(made.values())[:-1]:  # what a later module imports from an earlier one
            for name, value in vars(earlier).items():
                if getattr(value, "__module__", None) == earlier.__name__ and name in vars(made[module]):
                    setattr(made[module], name, value)
    device: type = made["devices.cuda"].CudaDevice
    return device


def _remove(tree: ast.AST, statement: ast.Expr) -> None:
    for node in ast.walk(tree):
        for body in (getattr(node, "body", None), getattr(node, "finalbody", None)):
            if isinstance(body, list) and statement in body:
                body[body.index(statement)] = ast.copy_location(_rest(statement), statement)
                return
    raise AssertionError("the statement was not found")


def _rest(statement: ast.Expr) -> ast.stmt:
    """The statement without its wait: `f()` for `f().wait()`, nothing for `x.wait()`."""
    assert isinstance(statement.value, ast.Call)
    assert isinstance(statement.value.func, ast.Attribute)
    waited = statement.value.func.value
    return ast.Expr(waited) if isinstance(waited, ast.Call) else ast.Pass()


def _load(original: str, tree: ast.Module) -> ModuleType:
    package, _, leaf = f"swiftvr_trt.runtime.{original}".rpartition(".")
    name = f"{package}._mutant_{leaf}"
    module = ModuleType(name)
    module.__package__ = package
    sys.modules[name] = module  # dataclasses look their annotations up there
    exec(compile(tree, name, "exec"), vars(module))
    return module
