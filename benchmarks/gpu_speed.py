"""Speed of this machine's GPU: every bundle that is there already, then the same kinds in sizes that people use.

Each bundle is built and measured in processes of their own (`bundle_speed`), with time limits. Whatever fails becomes a
row that says why.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swiftvr_trt.engines.bundle.files import PARTIAL, read_manifest
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.errors import SwiftVRError
from swiftvr_trt.text import format_bytes

from .bundle_speed import Figures
from .processes import Sandbox

BUILD_SECONDS, MEASURE_SECONDS, ALL_SIZES_SECONDS = 240.0, 150.0, 660.0
"""Time limits: of one build, of measuring one bundle, and of building and measuring all of `SIZES`."""
SIZES, REHEARSAL_SIZES = ("1280x720", "1920x1080"), ("192x108",)
CORE_SECONDS, REHEARSAL_CORE_SECONDS = 20.0, 1.0
CLIP_LEN = 24


def measure_all(
    sandbox: Sandbox, bundles: Path, checkpoint: Callable[[], Path], free_bytes: int | None
) -> Iterator[Figures]:
    """One row for each bundle in the folder `bundles`, and for each of them one in each size of `SIZES`.

    checkpoint     makes the checkpoint of these bundles, or finds it
    free_bytes     memory of the GPU, None if not known
    """
    recipes: list[Recipe] = []
    for path in sorted(bundles.glob("*")):
        if not path.is_dir() or PARTIAL in path.name:
            continue  # compiled kernels, which lie next to a bundle, and what a killed build has left
        try:
            recipe = read_manifest(path).recipe
        except SwiftVRError as error:
            yield {"bundle": path.name, **not_measured(str(error))}
            continue
        if recipe.target != "cpu" or sandbox.rehearsal:
            recipes.append(recipe)
            yield {"bundle": recipe.describe(), **measure(path, sandbox, MEASURE_SECONDS)}
    build = Builds(sandbox, checkpoint, free_bytes, time.monotonic() + ALL_SIZES_SECONDS * sandbox.patience)
    for size in REHEARSAL_SIZES if sandbox.rehearsal else SIZES:
        width, height = map(int, size.split("x"))
        for recipe in recipes:
            wanted = replace(recipe, width=width, height=height, clip_len=CLIP_LEN)
            try:
                figures = build.measure(wanted)
            except Exception as error:  # noqa: BLE001 (one row fails, the others are still measured)
                figures = not_measured(f"{type(error).__name__}: {error}")
            yield {"bundle": wanted.describe(), **figures}


def not_measured(error: str, output: str = "") -> Figures:
    """A row that says why it has no figures. output: what the failed process printed."""
    return {"status": "not measured", "error": error, **({"output": output} if output else {})}


@dataclass(frozen=True)
class Builds:
    """Bundles that exist only while they are measured.

    deadline     on the clock of `time.monotonic`, for all of them together
    """

    sandbox: Sandbox
    checkpoint: Callable[[], Path]
    free_bytes: int | None
    deadline: float

    def measure(self, recipe: Recipe) -> Figures:
        """Build a bundle, measure it and remove it."""
        if self._left() < 60:
            return not_measured("no time is left: slower parts took it")
        checkpoint = self.checkpoint()
        needed = _gpu_bytes(checkpoint, recipe)
        if self.free_bytes is not None and self.free_bytes < needed:
            return not_measured(
                f"about {format_bytes(needed)} of GPU memory are needed, {format_bytes(self.free_bytes)} are free"
            )
        path = self.sandbox.folder / "sizes" / f"{recipe.target}-{recipe.precision}-{recipe.resolution}"
        began = time.monotonic()
        try:
            ended = self.sandbox.run(_build_command(recipe, checkpoint, path), min(BUILD_SECONDS, self._left()))
            if ended.code:
                return not_measured(f"the build failed, {ended.why}", ended.output)
            build_s = round(time.monotonic() - began, 1)
            return {"build_s": build_s, **measure(path, self.sandbox, max(min(MEASURE_SECONDS, self._left()), 1))}
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _left(self) -> float:
        return self.deadline - time.monotonic()


def _gpu_bytes(checkpoint: Path, recipe: Recipe) -> int:
    """About what a bundle needs on the GPU. The estimate is for engines; float32 doubles what is not weights."""
    from swiftvr_trt.engines.compile.estimate import count_parameters, estimate

    return estimate(count_parameters(checkpoint), recipe).gpu_bytes * (2 if recipe.precision == "fp32" else 1)


def _build_command(recipe: Recipe, checkpoint: Path, out: Path) -> list[str]:
    command = [sys.executable, "-m", "swiftvr_trt.cli.export", "build-engine", "-o", str(out)]
    command += ["--checkpoint", str(checkpoint), "--resolution", str(recipe.resolution), "--target", recipe.target]
    return [*command, "--precision", recipe.precision, "--clip-len", str(recipe.clip_len)]


def measure(bundle: Path, sandbox: Sandbox, limit: float) -> Figures:
    """What `bundle_speed` measures within `limit` seconds, as far as it comes."""
    out = sandbox.folder / f"{bundle.name}.json"
    seconds = REHEARSAL_CORE_SECONDS if sandbox.rehearsal else CORE_SECONDS
    command = [sys.executable, "-m", "benchmarks.bundle_speed", str(bundle), str(out), "--seconds", str(seconds)]
    ended = sandbox.run(command, limit)
    figures = read_json(out) or {}
    status = "measured" if "core_frames_per_second" in figures else "not measured"
    return {"status": status, **figures, **({"error": ended.why, "output": ended.output} if ended.code else {})}


def read_json(path: Path) -> Any:
    """What a child process has written, None if it did not get that far."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
