"""Run the GPU tests, measure speed and write one JSON file: `make gpu-test` ends here.

The file is written at the start and after each part, so it is complete up to there if this program is killed.
Everything that touches the GPU runs in a process of its own with a time limit, so native code that crashes or hangs
costs one part only. The file holds the end of what each process printed.

`--rehearse` does the same on the CPU, to test this program; the file says so.

Estimated time on an RTX 3060, after the installation: 25 minutes. Nothing of it was measured on a GPU.
  tests      5 min: five processes that start in 15 s, four builds of 20 s (seen on two cores), per route 30 s of the
             torch network on the CPU, and 1 000 chunks of 320x180 in 30 s or less
  speed     10 min: three routes (this card has no FP8) in two sizes, each 20 s to build, 10 s to start, 30 s for the
             core, 20 s for the file. A frame of 1920x1080 is 0.6 TFLOP (docs/engines.md), of which this card does
             about 6 a second in FP32 and 12 in FP16 at half of its peak rate, so 10 and 20 frames.
  widths    10 min: the same routes at 1920x1080 with the published widths and two of thirty blocks, each two minutes
             to build; what thirty blocks would take is extrapolated, and stands apart; engines once more with
             --overlap, 30 s each
Slower cards measure fewer frames. Whatever exceeds its time limit is reported as "not measured".
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from benchmarks.gpu_speed import measure_all, read_figures
from benchmarks.processes import Sandbox
from tests.gpu import REHEARSED, ROUTES

from .report import Report, ReportError, TestLog, read_log

MAKE_CHECKPOINT = "tests/oracle/make_checkpoint.py"
PART_SECONDS = 480.0
"""Time limit of one part's tests."""
NETWORK = (
    "random weights: the published autoencoder, with 4 small transformer blocks in the place of 30 large ones; "
    "the published network is slower"
)


@dataclass(frozen=True)
class Part:
    """Tests that share a process. arguments: of pytest, to select them. rehearsed: whether a rehearsal runs them."""

    name: str
    arguments: tuple[str, ...]
    rehearsed: bool = True


PARTS = (
    *(Part(route, ("tests/gpu/test_gpu.py", "-k", route), rehearsed=route in REHEARSED) for route in ROUTES),
    Part("torch", ("tests/gpu/test_torch_trt.py",), rehearsed=False),
    Part("video", ("tests/gpu/test_video.py",)),
)


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=Path("gpu-test.json"), show_default=True)
@click.option("--rehearse", is_flag=True, help="Use the CPU, to try this program out.")
@click.option("--note", "notes", multiple=True, help="A remark to keep in the file.")
def main(output: Path, rehearse: bool, notes: tuple[str, ...]) -> None:
    """Test this machine's GPU and write the results to one file."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    report = Report(output, when=now, rehearsal=rehearse, passed=False, complete=False, notes=notes, tests=[])
    try:
        report.write()
        _fill_whatever_happens(report, rehearse)
        report.write()
    except ReportError as error:
        raise click.ClickException(str(error)) from error
    outcomes = [test["outcome"] for test in report.content["tests"]]
    counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in ("passed", "failed", "skipped"))
    click.echo(f"{counts}; send {output} back")
    sys.exit(0 if report.content["passed"] else 1)


def _fill_whatever_happens(report: Report, rehearse: bool) -> None:
    try:
        # Windows cannot remove files that are open or mapped; that must not cost the report.
        with tempfile.TemporaryDirectory(prefix="gpu-test-", ignore_cleanup_errors=True) as folder:
            fill(report, Sandbox(Path(folder), rehearse))
    except KeyboardInterrupt:
        report.content["error"] = "interrupted"
    except Exception:  # noqa: BLE001 (the report must be written)
        report.content["error"] = traceback.format_exc()


def fill(report: Report, sandbox: Sandbox) -> None:
    """Run all parts, one after another. The report is on disk after each."""
    report.add(**describe_machine())
    gpus = [] if sandbox.rehearsal else describe_gpus(sandbox)
    report.add(gpus=gpus, parts=[], network="a miniature" if sandbox.rehearsal else NETWORK, figures=[])
    for part in (each for each in PARTS if each.rehearsed or not sandbox.rehearsal):
        summary, tests = run_part(part, sandbox)
        report.add(parts=[*report.content["parts"], summary], tests=[*report.content["tests"], *tests])
    free_bytes = gpus[0].get("free_bytes") if gpus else None
    checkpoints = partial(_checkpoint, sandbox), partial(_published_widths, sandbox)
    for row in measure_all(sandbox, sandbox.folder / "bundles", checkpoints[0], free_bytes, checkpoints[1]):
        report.add(figures=[*report.content["figures"], row])
    outcomes = {test["outcome"] for test in report.content["tests"]}
    ended_well = all(part["exit_codes"][-1] == 0 for part in report.content["parts"])
    passed = ended_well and "failed" not in outcomes and "passed" in outcomes  # all skipped: nothing was tested
    report.add(passed=passed, complete=True)


def describe_machine() -> dict[str, Any]:
    """What the doctor finds, or why it does not run."""
    try:
        import swiftvr_trt
        from swiftvr_trt.cli.doctor import diagnose
        from swiftvr_trt.engines.bundle.cache import default_root

        return {"tool": f"swiftvr-trt {swiftvr_trt.__version__}", "machine": diagnose(default_root()).to_dict()}
    except Exception as error:  # noqa: BLE001 (the report must name a broken installation)
        return {"machine": {"error": f"{type(error).__name__}: {error}"}}


def describe_gpus(sandbox: Sandbox) -> list[dict[str, Any]]:
    """Every GPU as its driver describes it, or why that is not known."""
    out = sandbox.folder / "gpus.json"
    ended = sandbox.run([sys.executable, "-m", "tests.gpu.gpus", str(out)], 60)
    return read_figures(out).get("gpus") or [{"error": ended.why, "output": ended.output}]


def run_part(part: Part, sandbox: Sandbox, limit: float = PART_SECONDS) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How the processes of a part ended, and the outcome of each test. limit: seconds for all processes together.

    When a test ends its process, that test has failed and the tests after it run in another process.
    """
    began = time.monotonic()
    tests: dict[str, dict[str, Any]] = {}
    codes, outputs = list[int](), list[str]()
    while True:
        left = max(limit - (time.monotonic() - began) / sandbox.patience, 1)
        log, started = (sandbox.folder / f"{part.name}-{len(codes)}.{suffix}" for suffix in ("jsonl", "started"))
        ended = sandbox.run([*_pytest(part, sandbox, log, started), *(f"--deselect={name}" for name in tests)], left)
        found: TestLog = read_log(log, started)
        tests |= found.tests
        codes.append(ended.code)
        outputs.append(ended.output)
        if found.unfinished is not None:
            tests[found.unfinished] |= {
                "outcome": "failed",
                "why": f"the process ended in this test, {ended.why}",
            }
        if found.complete or ended.late or not found.tests:
            break
    summary = {"name": part.name, "exit_codes": codes, "seconds": round(time.monotonic() - began, 1)}
    return {**summary, "late": ended.late, "outputs": outputs}, list(tests.values())


def _pytest(part: Part, sandbox: Sandbox, log: Path, started: Path) -> list[str]:
    """The command for one process of a part.

    Warnings are not errors here: those of an unknown machine's drivers and libraries are not ours. Nothing is captured:
    what a library prints before it ends the process would be lost with the process.
    """
    command = [sys.executable, "-X", "faulthandler", "-m", "pytest", *part.arguments, "-m", "gpu"]
    command += ["-v", "-s", "--tb=native", "-W", "default", "-p", "no:cacheprovider"]
    command += [f"--report-log={log}", "-p", "tests.gpu.started", f"--started={started}"]
    command += ["-o", f"faulthandler_timeout={PART_SECONDS / 2 * sandbox.patience:g}"]
    command += [f"--basetemp={sandbox.folder / 'pytest'}", f"--gpu-bundles={sandbox.folder / 'bundles'}"]
    return [*command, *(["--rehearse"] if sandbox.rehearsal else [])]


def _checkpoint(sandbox: Sandbox) -> Path:
    """The checkpoint that the tests use, made on the first call."""
    mini = "import sys, pathlib, tests.mini as mini; mini.write_mini_checkpoint(pathlib.Path(sys.argv[1]))"
    return _made(sandbox, "checkpoint", ["-c", mini] if sandbox.rehearsal else [MAKE_CHECKPOINT, "tiny"])


def _published_widths(sandbox: Sandbox) -> Path:
    """A checkpoint of 0.9 GB, made on the first call."""
    return _made(sandbox, "widths", [MAKE_CHECKPOINT, "slice", "--dtype", "bfloat16"])


def _made(sandbox: Sandbox, name: str, command: list[str]) -> Path:
    path = sandbox.folder / name
    if not path.exists():
        ended = sandbox.run([sys.executable, *command, str(path)], 300)
        if ended.code:
            shutil.rmtree(path, ignore_errors=True)
            raise RuntimeError(f"no checkpoint could be made, {ended.why}")
    return path


if __name__ == "__main__":
    main()
