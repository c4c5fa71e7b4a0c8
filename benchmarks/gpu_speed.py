"""Speed of this machine's GPU: every bundle that is there already, then the same kinds in sizes that people use, and
with the published widths.

Each bundle is built and measured in processes of their own (`swiftvr-bench`), with time limits. Whatever fails becomes
a row that says why.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swiftvr_trt.benchmarks.suite.record import How, read_run
from swiftvr_trt.engines.bundle.files import PARTIAL, read_manifest
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.targets import find_target
from swiftvr_trt.errors import MisuseError, SwiftVRError
from swiftvr_trt.outside import Door, read_json
from swiftvr_trt.text import format_bytes

from .processes import Sandbox

BUILD_SECONDS, MEASURE_SECONDS, ALL_SIZES_SECONDS, WIDTHS_SECONDS = 240.0, 150.0, 660.0, 900.0
"""Time limits: of one build, of measuring one bundle, and of building and measuring all of `SIZES`, all widths."""
SIZES, REHEARSAL_SIZES = ("1280x720", "1920x1080"), ("192x108",)
PROTOCOL, REHEARSAL_PROTOCOL = "gpu-test", "trial"
CLIP_LEN = 24
WIDTHS_SIZE, WIDTHS_BLOCKS, PUBLISHED_BLOCKS = "1920x1080", 2, 30
_FIGURES = Door("file of figures", MisuseError, "measure again", max_bytes=1 << 22)
_CORE = "core_frames_per_second"
_NAMES = {"core_fps": _CORE, "file_fps": "file_frames_per_second"}

Figures = dict[str, Any]


def measure_all(
    sandbox: Sandbox, bundles: Path, checkpoint: Callable[[], Path], free_bytes: int | None, widths: Callable[[], Path]
) -> Iterator[Figures]:
    """One row for each bundle in the folder `bundles`, then for each of them one in each size of `SIZES` and of
    `measure_widths`.

    checkpoint     makes the checkpoint of these bundles, or finds it
    free_bytes     memory of the GPU, None if not known
    widths         makes the checkpoint with the published widths
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
        for recipe in in_size(size, recipes):
            yield build.row(recipe)
    if not sandbox.rehearsal:
        deadline = time.monotonic() + WIDTHS_SECONDS
        yield from measure_widths(Builds(sandbox, widths, free_bytes, deadline, overlap=True), recipes)


def measure_widths(build: Builds, recipes: Iterable[Recipe]) -> Iterator[Figures]:
    """One row for each kind of bundle, with the published widths and two of their thirty blocks."""
    network = f"the published widths, {WIDTHS_BLOCKS} of {PUBLISHED_BLOCKS} blocks"
    for recipe in in_size(WIDTHS_SIZE, recipes):
        row = build.row(recipe)
        yield {**row, "network": network, **extrapolated(row)}


def in_size(size: str, recipes: Iterable[Recipe]) -> Iterable[Recipe]:
    """The same kinds of bundles in another size, each once."""
    width, height = map(int, size.split("x"))
    return dict.fromkeys(replace(recipe, width=width, height=height, clip_len=CLIP_LEN) for recipe in recipes)


def extrapolated(figures: Figures) -> Figures:
    """What all blocks would take, from the measured times of a chunk and of its transformer; nothing without those.

    Everything in the transformer is taken for blocks. Its first and last layer, some 3 % of its operations with two
    blocks, thus count fifteen times, so the figures are slightly too slow.
    """
    if figures.get("status") != "measured" or not {"chunk", "stage.dit"} <= figures.keys():
        return {}
    more = figures["stage.dit"] * (PUBLISHED_BLOCKS / WIDTHS_BLOCKS - 1)
    chunk = figures["chunk"] + more
    return {
        "extrapolated": {
            "stage.dit": round(figures["stage.dit"] + more, 4),
            "chunk": round(chunk, 4),
            _CORE: round(CLIP_LEN * 1000 / chunk, 4),
        }
    }


def not_measured(error: str, output: str = "") -> Figures:
    """A row that says why it has no figures. output: what the failed process printed."""
    return {"status": "not measured", "error": error, **({"output": output} if output else {})}


@dataclass(frozen=True)
class Builds:
    """Bundles that exist only while they are measured.

    deadline     on the clock of `time.monotonic`, for all of them together
    overlap      measure engines also as `--overlap` runs them
    """

    sandbox: Sandbox
    checkpoint: Callable[[], Path]
    free_bytes: int | None
    deadline: float
    overlap: bool = False

    def row(self, recipe: Recipe) -> Figures:
        """`measure`, with the name of the bundle, whatever happens."""
        try:
            figures = self.measure(recipe)
        except Exception as error:  # noqa: BLE001 (one row fails, the others are still measured)
            figures = not_measured(f"{type(error).__name__}: {error}")
        return {"bundle": recipe.describe(), **figures}

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
            limit = max(min(MEASURE_SECONDS, self._left()), 1)
            overlap = self.overlap and find_target(recipe.target).compiled
            return {"build_s": build_s, **measure(path, self.sandbox, limit, overlap=overlap)}
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _left(self) -> float:
        return self.deadline - time.monotonic()


def _gpu_bytes(checkpoint: Path, recipe: Recipe) -> int:
    """About what a bundle needs on the GPU."""
    from swiftvr_trt.engines.bundle.pipeline_memory import count_parameters, expected_gpu_bytes

    target, parameters = find_target(recipe.target), count_parameters(checkpoint)
    return expected_gpu_bytes(parameters, recipe.resolution, target, recipe.precision, recipe.clip_len)


def _build_command(recipe: Recipe, checkpoint: Path, out: Path) -> list[str]:
    command = [sys.executable, "-m", "swiftvr_trt.cli.export", "build-engine", "-y", "-o", str(out)]
    command += ["--checkpoint", str(checkpoint), "--resolution", str(recipe.resolution), "--target", recipe.target]
    return [*command, "--precision", recipe.precision, "--clip-len", str(recipe.clip_len)]


def measure(bundle: Path, sandbox: Sandbox, limit: float, *, overlap: bool = False) -> Figures:
    """What `swiftvr-bench` measures within `limit` seconds, as far as it comes.

    overlap: under this name, also what it measures with `--overlap` in the time that is left. With two blocks, the
    decoder is a much larger part of a chunk than with thirty, which gain less.
    """
    began = time.monotonic()
    figures = _measured(bundle, sandbox, limit, "core,file,memory")
    left = limit - (time.monotonic() - began)
    if overlap and left > 0:
        figures["overlap"] = _measured(bundle, sandbox, left, "core,memory", "--overlap")
    return figures


def _measured(bundle: Path, sandbox: Sandbox, limit: float, suites: str, *options: str) -> Figures:
    out = sandbox.folder / f"{bundle.name}{''.join(options)}.json"
    protocol = REHEARSAL_PROTOCOL if sandbox.rehearsal else PROTOCOL
    command = [sys.executable, "-m", "swiftvr_trt.cli.bench", "-y", "--bundle", str(bundle), "-o", str(out)]
    ended = sandbox.run([*command, "--protocol", protocol, "--suite", suites, *options], limit)
    figures = figures_of(out)
    status = "measured" if _CORE in figures else "emulated" if "emulated" in figures else "not measured"
    return {"status": status, **figures, **({"error": ended.why, "output": ended.output} if ended.code else {})}


def figures_of(path: Path) -> Figures:
    """The figures in a record, by name; samples stay there. Nothing if it does not exist.

    Those that were not measured stand under how they were obtained, e.g. `projected`. If several suites have a figure,
    the one that it belongs to is taken.
    """
    try:
        run = read_run(path)
    except MisuseError:
        return {}
    found: dict[How, Figures] = {}
    for case in run.cases:
        for one in case.figures:
            figures, name = found.setdefault(one.how, {}), _NAMES.get(one.name, one.name)
            if one.scope == case.suite or name not in figures:
                figures[name] = round(one.value, 4)
    notes = list(dict.fromkeys(note for case in run.cases for note in case.notes))
    device = next((case.subject.device for case in run.cases if case.figures), None)
    return {
        **found.pop(How.MEASURED, {}),
        **{how.value: figures for how, figures in found.items()},
        **({"device": device} if device else {}),
        **({"notes": notes} if notes else {}),
    }


def read_figures(path: Path) -> Figures:
    """What a child process has written; nothing if it did not get that far."""
    try:
        return read_json(path, _FIGURES).content()
    except MisuseError:
        return {}
