"""Run the tests of the GPU and measure speed, and write one JSON file: `make gpu-test` ends here.

The file is written at the start and again after each part, so whatever ends this program, what was known by then is
there. Everything that touches the GPU runs in a process of its own, with a time limit, and the end of what it printed
is in the file: native code that crashes or hangs takes one part with it, no more.

`--rehearse` does the same with the CPU in the GPU's place, to test the way there; the file says so.

How long it takes on an RTX 3060: about 15 minutes after the installation. An estimate, nothing of it was measured on a
GPU.
  tests      5 min: five processes that start in 15 s, four builds of 20 s (seen on two cores), per route 30 s of the
             torch network on the CPU, and 1 000 chunks of 320x180 in 30 s or less
  speed     10 min: three routes (this card has no FP8) in two sizes, each 20 s to build, 10 s to start, 30 s for the
             core, 20 s for the file. A frame of 1920x1080 is 0.6 TFLOP (docs/engines.md), of which this card does
             about 6 a second in FP32 and 12 in FP16 at half of its peak rate, so 10 and 20 frames.
Slower cards measure fewer frames, and what `SPEED_SECONDS` leave no time for is "not measured".
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tests.gpu import ROUTES
from tests.gpu.log import Log, read_log
from tests.gpu.process import Ended, run

if TYPE_CHECKING:
    from swiftvr_trt import Restorer
    from swiftvr_trt.engines.bundle.manifest import Recipe
    from swiftvr_trt.runtime.stream.session import Frame

PART_SECONDS, BUILD_SECONDS, MEASURE_SECONDS, SPEED_SECONDS = 480.0, 240.0, 150.0, 660.0
"""Limits: of the tests of a route, of one build, of measuring one bundle, of building and measuring all of `SIZES`."""
REHEARSED = 10
"""By how much longer all of it may take in a rehearsal: on whatever CPU is there, beside whatever else that does."""
SIZES, REHEARSED_SIZES = ("1280x720", "1920x1080"), ("192x108",)
CLIP_LEN = 24
NETWORK = (
    "random weights: the published autoencoder, with 4 small transformer blocks in the place of 30 large ones; "
    "the published network is slower"
)
WARM_UP, LEAST_CHUNKS, MOST_CHUNKS = 4, 3, 60
"""A stream's first chunks record and capture; from the fifth on nothing is new."""
CORE_SECONDS, REHEARSED_SECONDS = 20.0, 1.0
FILE_FRAMES = 240

Figure = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Tests that share a process: what pytest is told to run."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Work:
    """Where this run keeps its files; whether it is a rehearsal."""

    place: Path
    rehearse: bool = False

    @property
    def patience(self) -> float:
        return REHEARSED if self.rehearse else 1

    def run(self, command: list[str], limit: float) -> Ended:
        return run(command, limit * self.patience, self.place / "cache")


PARTS = (
    *(Part(route, ("tests/gpu/test_gpu.py", "-k", route)) for route in ROUTES),
    Part("video", ("tests/gpu/test_video.py",)),
)


class Report:
    """What is to be sent back, on disk and here."""

    def __init__(self, path: Path, **content: Any) -> None:
        self.path, self.content = path, content

    def add(self, **parts: Any) -> None:
        """Add parts and write. A disk that is full now may have room once the bundles are gone, so go on."""
        self.content |= parts
        with suppress(click.ClickException):
            self.write()

    def write(self) -> None:
        """Write all of it; if that fails, the file is as it was, and a `ClickException` says so in one line."""
        partial = self.path.with_name(f"{self.path.name}.part")
        for wait in (0.2, 1.0, 3.0, None):
            try:
                partial.write_text(json.dumps(self.content, indent=1, default=str), encoding="utf-8")
                os.replace(partial, self.path)
                return
            except OSError as error:
                # Windows, while a virus scanner or an editor has the file open, refuses for a moment.
                if wait is None or not isinstance(error, PermissionError):
                    raise click.ClickException(f"{self.path} cannot be written ({error.strerror or error})") from error
                time.sleep(wait)


@click.group(invoke_without_command=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("gpu-test.json"), show_default=True)
@click.option("--rehearse", is_flag=True, help="Use the CPU, to try this program out.")
@click.option("--note", multiple=True, help="Something to be kept in the file.")
@click.pass_context
def main(context: click.Context, output: Path, rehearse: bool, note: tuple[str, ...]) -> None:
    """Test this machine's GPU and write what came of it."""
    if context.invoked_subcommand is not None:
        return
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    report = Report(output, when=now, rehearsal=rehearse, passed=False, complete=False, notes=note, tests=[])
    report.write()
    try:
        # On Windows a file that is still open or mapped cannot be removed; that is no reason to lose the report.
        with tempfile.TemporaryDirectory(prefix="gpu-test-", ignore_cleanup_errors=True) as place:
            fill(report, Work(Path(place), rehearse))
    except KeyboardInterrupt:
        report.content["error"] = "interrupted"
    except Exception:  # noqa: BLE001 (whatever it is, the file must be written)
        report.content["error"] = traceback.format_exc()
    report.write()
    outcomes = [test["outcome"] for test in report.content["tests"]]
    counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in ("passed", "failed", "skipped"))
    click.echo(f"{counts}; send {output} back")
    sys.exit(0 if report.content["passed"] else 1)


def fill(report: Report, work: Work) -> None:
    """All parts, one after another; the report is on disk after each."""
    report.add(**about_this_machine())
    gpus = [] if work.rehearse else describe_gpus(work)
    report.add(gpus=gpus, parts=[], network="a miniature" if work.rehearse else NETWORK, figures=[])
    for part in PARTS:
        told, tests = run_part(part, work)
        report.add(parts=[*report.content["parts"], told], tests=[*report.content["tests"], *tests])
    free = gpus[0].get("free_bytes") if gpus else None
    for figure in measure_all(work, free):
        report.add(figures=[*report.content["figures"], figure])
    outcomes = {test["outcome"] for test in report.content["tests"]}
    ended_well = all(part["exit_codes"][-1] == 0 for part in report.content["parts"])
    passed = ended_well and "failed" not in outcomes and "passed" in outcomes  # where all is skipped nothing was tested
    report.add(passed=passed, complete=True)


def about_this_machine() -> dict[str, Any]:
    """What the doctor says of it, or why that is not known."""
    try:
        import swiftvr_trt
        from swiftvr_trt.cli.doctor import diagnose
        from swiftvr_trt.engines.bundle.cache import default_root

        return {"tool": f"swiftvr-trt {swiftvr_trt.__version__}", "machine": diagnose(default_root()).to_dict()}
    except Exception as error:  # noqa: BLE001 (a broken installation is what the file must tell of)
        return {"machine": {"error": _words(error)}}


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def describe_gpus(work: Work) -> list[dict[str, Any]]:
    """Every GPU, in the words of its driver; or why not."""
    found = work.place / "gpus.json"
    ended = work.run(_ourselves("gpus", found), 60)
    return _read(found) or [{"error": ended.why, "output": ended.output}]


def _ourselves(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "benchmarks.gpu_test", *map(str, arguments)]


def _read(path: Path) -> Any:
    """What a process of ours has left; None if it did not come so far."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@main.command(hidden=True)
@click.argument("out", type=click.Path(path_type=Path))
def gpus(out: Path) -> None:
    """Describe all GPUs."""
    from swiftvr_trt.runtime.devices.gpu import Gpu

    count = len(Gpu(0).core.Device.get_all_devices())
    all_of_them = [
        {
            "name": gpu.name,
            "compute_capability": gpu.compute_capability,
            "driver": gpu.driver_version(),
            "driver_cuda": gpu.driver_cuda(),
            "free_bytes": gpu.free_bytes(),
        }
        for gpu in map(Gpu, range(count))
    ]
    out.write_text(json.dumps(all_of_them), encoding="utf-8")


def run_part(part: Part, work: Work, limit: float = PART_SECONDS) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How the processes of a part ended, and what came of its tests. limit: seconds for all of them.

    A process that dies takes the test with it that it was at; the tests after that one get another process.
    """
    path, began = work.place / f"{part.name}.jsonl", time.monotonic()
    codes, outputs, died = list[int](), list[str](), dict[str, str]()
    log = Log({}, None, complete=False)
    while True:
        known = len(log.tests)
        left = max(limit - (time.monotonic() - began) / work.patience, 1)
        ended = work.run([*_pytest(part, path, work), *(f"--deselect={name}" for name in log.tests)], left)
        log = read_log(path)
        codes.append(ended.code)
        outputs.append(ended.output)
        if log.unfinished is not None:
            died.setdefault(log.unfinished, f"the process ended in this test, {ended.why}")
        if log.complete or ended.late or len(log.tests) == known:
            break
    for name, why in died.items():
        log.tests[name] |= {"outcome": "failed", "why": why}
    told = {"name": part.name, "exit_codes": codes, "seconds": round(time.monotonic() - began, 1)}
    return {**told, "late": ended.late, "outputs": outputs}, list(log.tests.values())


def _pytest(part: Part, log: Path, work: Work) -> list[str]:
    """Warnings are no errors here: those of an unknown machine's drivers and libraries are not ours.

    Nothing is captured: what a library says before it ends the process would be lost with the process.
    """
    command = [sys.executable, "-X", "faulthandler", "-m", "pytest", *part.arguments, "-m", "gpu"]
    command += ["-v", "-s", "--tb=short", "-W", "default", "-p", "no:cacheprovider", "-p", "tests.gpu.log"]
    command += ["-o", f"faulthandler_timeout={PART_SECONDS / 2 * work.patience:g}", f"--gpu-log={log}"]
    command += [f"--basetemp={work.place / 'pytest'}", f"--gpu-bundles={work.place / 'bundles'}"]
    return [*command, *(["--rehearse"] if work.rehearse else [])]


def measure_all(work: Work, free: int | None) -> Iterator[Figure]:
    """Speed of every bundle that the tests have built, then of others like it in sizes that people use.

    free: bytes of GPU memory. Whatever fails is a line that says so.
    """
    from swiftvr_trt.engines.bundle.files import PARTIAL, read_manifest

    recipes: list[Recipe] = []
    for path in sorted((work.place / "bundles").glob("*")):
        if path.is_dir() and PARTIAL not in path.name:  # what a killed build has left; kernels are kept beside, too
            try:
                recipe = read_manifest(path).recipe
                if recipe.target != "cpu" or work.rehearse:
                    recipes.append(recipe)
                    yield {"bundle": recipe.describe(), **measure(path, work, MEASURE_SECONDS)}
            except Exception as error:  # noqa: BLE001 (whatever it is, the others are measured)
                yield {"bundle": path.name, **_not_measured(_words(error))}
    deadline = time.monotonic() + SPEED_SECONDS * work.patience
    for size in REHEARSED_SIZES if work.rehearse else SIZES:
        for recipe in recipes:
            width, height = map(int, size.split("x"))
            wanted = replace(recipe, width=width, height=height, clip_len=CLIP_LEN)
            try:
                figure = build_and_measure(wanted, work, free, deadline)
            except Exception as error:  # noqa: BLE001 (as above)
                figure = _not_measured(_words(error))
            yield {"bundle": wanted.describe(), **figure}


def _not_measured(error: str, output: str = "") -> Figure:
    return {"status": "not measured", "error": error, **({"output": output} if output else {})}


def build_and_measure(recipe: Recipe, work: Work, free: int | None, deadline: float) -> Figure:
    """A bundle that is there only as long as it is measured."""
    from swiftvr_trt.engines.compile.estimate import count_parameters, estimate
    from swiftvr_trt.text import size as in_words

    if deadline - time.monotonic() < 60:
        return _not_measured("no time is left: slower parts took it")
    checkpoint = _checkpoint(work)
    # The estimate is for engines; float32 doubles what is not weights.
    needed = estimate(count_parameters(checkpoint), recipe).gpu_bytes * (2 if recipe.precision == "fp32" else 1)
    if free is not None and free < needed:
        return _not_measured(f"about {in_words(needed)} of GPU memory are needed, {in_words(free)} are free")
    path, began = work.place / "sizes" / f"{recipe.target}-{recipe.precision}-{recipe.resolution}", time.monotonic()
    command = [sys.executable, "-m", "swiftvr_trt.cli.export", "build-engine", "-o", str(path)]
    command += ["--checkpoint", str(checkpoint), "--resolution", str(recipe.resolution), "--target", recipe.target]
    command += ["--precision", recipe.precision, "--clip-len", str(recipe.clip_len)]
    try:
        ended = work.run(command, min(BUILD_SECONDS, deadline - time.monotonic()))
        if ended.code:
            return _not_measured(f"the build failed, {ended.why}", ended.output)
        build_s = round(time.monotonic() - began, 1)
        limit = max(min(MEASURE_SECONDS, deadline - time.monotonic()), 1)
        return {"build_s": build_s, **measure(path, work, limit)}
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _checkpoint(work: Work) -> Path:
    """The one that the tests use; made once."""
    path = work.place / "checkpoint"
    if not path.exists():
        making = [sys.executable, "tests/oracle/make_checkpoint.py", "tiny", str(path)]
        if work.rehearse:
            code = "import sys, pathlib, tests.mini as mini; mini.write_mini_checkpoint(pathlib.Path(sys.argv[1]))"
            making = [sys.executable, "-c", code, str(path)]
        ended = work.run(making, 120)
        if ended.code:
            shutil.rmtree(path, ignore_errors=True)
            raise RuntimeError(f"no checkpoint could be made, {ended.why}")
    return path


def measure(bundle: Path, work: Work, limit: float) -> Figure:
    """What a process of its own measures of a bundle, as far as it comes."""
    out = work.place / f"{bundle.name}.json"
    seconds = REHEARSED_SECONDS if work.rehearse else CORE_SECONDS
    ended = work.run(_ourselves("speed", bundle, out, "--seconds", seconds), limit)
    figure = _read(out) or {}
    status = "measured" if "core_frames_per_second" in figure else "not measured"
    return {"status": status, **figure, **({"error": ended.why, "output": ended.output} if ended.code else {})}


@main.command(hidden=True)
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--seconds", type=float, required=True, help="About how long to measure the core, and a file.")
def speed(path: Path, out: Path, seconds: float) -> None:
    """Measure the core, then a whole file; OUT is written after either."""
    from swiftvr_trt import Bundle, Restorer
    from tests.clips import moving

    bundle = Bundle.open(path)
    recipe = bundle.manifest.recipe
    height, width = recipe.height // 2, recipe.width // 2
    frames = moving(recipe.clip_len, height, width)
    figure: Figure = {"device": _device(recipe.target), "frames_in": f"{width}x{height}"}
    began = time.perf_counter()
    with Restorer.open(bundle, device="cpu" if recipe.target == "cpu" else "cuda") as restorer:
        figure["load_s"] = round(time.perf_counter() - began, 3)
        figure |= core_speed(restorer, frames, seconds)
        out.write_text(json.dumps(figure), encoding="utf-8")
        expected = int(figure["core_frames_per_second"] * seconds)
        figure |= file_speed(restorer, frames, min(FILE_FRAMES, max(3 * len(frames), expected)), out.with_suffix(""))
        out.write_text(json.dumps(figure), encoding="utf-8")


def _device(target: str) -> str:
    if target == "cpu":
        return target
    from swiftvr_trt.runtime.devices.gpu import Gpu

    return Gpu(0).name


def core_speed(restorer: Restorer, frames: list[Frame], seconds: float) -> Figure:
    """Frames per second through a session, fed from memory, after its first chunks."""
    times: list[float] = []
    with restorer.session() as session:
        while len(times) < WARM_UP + LEAST_CHUNKS or (len(times) < WARM_UP + MOST_CHUNKS and sum(times) < seconds):
            start = time.perf_counter()
            for frame in frames:
                session.feed(frame)
            times.append(time.perf_counter() - start)
        session.flush()
    steady = times[WARM_UP:]
    return {
        "first_chunks_s": [round(taken, 4) for taken in times[:WARM_UP]],
        "core_frames_per_second": round(len(steady) * len(frames) / sum(steady), 2),
        "chunk_ms_median": round(statistics.median(steady) * 1e3, 3),
        "chunk_ms_longest": round(max(steady) * 1e3, 3),
        "chunks": len(steady),
    }


def file_speed(restorer: Restorer, frames: list[Frame], count: int, place: Path) -> Figure:
    """Frames per second from a file into a file, both coded in software, with what begins and ends a stream."""
    from swiftvr_trt.runtime.media import open_sink, open_source
    from swiftvr_trt.runtime.restore.pipeline import restore_media
    from tests.clips import write_video

    size = restorer.manifest.recipe.resolution
    place.mkdir()
    write_video(place / "in.mp4", (frames[index % len(frames)] for index in range(count)), preset="veryfast")
    began = time.perf_counter()
    with (
        open_source(place / "in.mp4") as source,
        open_sink(place / "out.mp4", source.info, size.width, size.height) as sink,
        restorer.session() as session,
    ):
        restore_media(session, source, sink)
    seconds = time.perf_counter() - began
    return {"file_frames": count, "file_s": round(seconds, 3), "file_frames_per_second": round(count / seconds, 2)}


if __name__ == "__main__":
    main()
