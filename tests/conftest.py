"""Checkpoints and bundles that the tests share.

`tests/oracle/` holds the checkpoint generator and what the published implementation computes on its checkpoints. An
export takes seconds, so each bundle is built once per test run, for all workers of pytest-xdist.
"""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, wraps
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # leave the other cores to the other workers; torch reads this
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from swiftvr_trt import Bundle
from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.targets import QUANTISED
from tests.cuda_emulator.process import (  # noqa: F401 - pytest finds its hooks here
    pytest_configure,
    pytest_runtest_protocol,
    pytest_runtest_teardown,
    pytest_runtestloop,
    pytest_sessionfinish,
    shared_directory,
)

# How long an example takes says more about the machine. The same examples every time: a change is not refused for what
# it did not bring. New ones are for the campaign.
settings.register_profile("untimed", deadline=None, derandomize=True)
settings.load_profile("untimed")
settings.register_profile("campaign", max_examples=2000, deadline=None)  # pytest --hypothesis-profile=campaign
CHILDREN_END_S = 300
"""For a child of a test, on the slowest machine."""
ORACLE = Path(__file__).parent / "oracle"
BundleFactory = Callable[..., Bundle]
NarrowBundle = Callable[[str], Bundle]
CheckpointFactory = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def signals_are_heard() -> None:
    """Stop ignoring the signals that `nohup` or a shell's `&` told this process to ignore.

    Children inherit ignored signals, and tests signal their children. A signal that has a handler here has its default
    action in a child.
    """
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", lambda *_: None)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def children_end() -> Iterator[None]:
    """Waiting for a child without a time limit ends with `TimeoutExpired`: one that hangs would hold up all tests."""

    def limited(method: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(method)

        @wraps(method)
        def within(*given: Any, **named: Any) -> Any:
            bound = signature.bind(*given, **named)
            if bound.arguments.get("timeout") is None:
                bound.arguments["timeout"] = CHILDREN_END_S
            return method(*bound.args, **bound.kwargs)

        return within

    with pytest.MonkeyPatch.context() as patch:
        for name in ("wait", "communicate"):
            patch.setattr(subprocess.Popen, name, limited(getattr(subprocess.Popen, name)))
        yield


@pytest.fixture(scope="session")
def oracle_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> CheckpointFactory:
    """(config, seed, prompt_len) -> a checkpoint with the published names and shapes, from the oracle's generator."""

    @cache
    def make(config: str = "tiny", seed: int = 0, prompt_len: int = 1) -> Path:
        out = tmp_path_factory.mktemp("oracle") / f"{config}-{seed}-{prompt_len}"
        command: list[str | Path] = [sys.executable, ORACLE / "make_checkpoint.py", config, out]
        subprocess.run([*command, "--seed", str(seed), "--prompt-len", str(prompt_len)], check=True)
        return out

    return make


@pytest.fixture(scope="session")
def mini_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the same family with tiny widths."""
    from .mini import write_mini_checkpoint

    return write_mini_checkpoint(tmp_path_factory.mktemp("mini") / "checkpoint")


@pytest.fixture(scope="session")
def shared_tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of this test run share."""
    return shared_directory(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def mini_bundle(shared_tmp: Path, mini_checkpoint: Path) -> BundleFactory:
    """(width, height, clip_len, parity) -> an exported bundle of the mini checkpoint."""
    from swiftvr_trt.export.write import write_bundle

    bundles = BundleCache(shared_tmp / "bundles")
    digest = bundles.checkpoint_digest(mini_checkpoint)

    @cache
    def make(width: int = 100, height: int = 132, clip_len: int = 8, parity: bool = False) -> Bundle:
        recipe = Recipe(digest, width, height, clip_len, "fp32", "onnx", parity)
        return bundles.get_or_build(recipe, lambda path: write_bundle(mini_checkpoint, recipe, path))[0]

    return make


@pytest.fixture(scope="session")
def narrow_bundle(shared_tmp: Path, mini_checkpoint: Path) -> NarrowBundle:
    """(precision) -> an exported bundle of the mini checkpoint for an odd size, with scales if it needs some."""
    from swiftvr_trt.export.graph.calibration import calibrate
    from swiftvr_trt.export.moving_picture import synthetic_frame
    from swiftvr_trt.export.network.checkpoint import load_checkpoint
    from swiftvr_trt.export.write import write_bundle

    bundles = BundleCache(shared_tmp / "bundles")
    digest = bundles.checkpoint_digest(mini_checkpoint)

    @cache
    def make(precision: str) -> Bundle:
        recipe = Recipe(digest, 45, 37, 4, precision, "onnx")

        def write(path: Path) -> Bundle:
            checkpoint, frames = load_checkpoint(mini_checkpoint), [synthetic_frame(at, 40, 60) for at in range(6)]
            scales = calibrate(checkpoint, recipe, frames, "a test picture") if precision in QUANTISED else None
            return write_bundle(checkpoint, recipe, path, calibration=scales)

        return bundles.get_or_build(recipe, write)[0]

    return make


LONGEST = (
    "walks",
    "test_commands.py",
    "test_on_cluster.py",
    "test_runner.py",
    "test_resumable.py",
    "test_reference.py",
    "test_graph.py",
    "test_run.py",
)
"""Folders and files whose tests take longest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: one that began last would keep one worker busy while the others have nothing."""
    items.sort(key=lambda item: not any(name in item.path.parts for name in LONGEST))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rehearse", action="store_true", help="Run the GPU tests on the CPU, to test the tests.")
    parser.addoption("--gpu-bundles", metavar="DIR", help="Keep the bundles of the GPU tests here.")
