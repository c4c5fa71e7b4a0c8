"""What a build of engines takes: time, and the resident memory of the tool and of the compiler. Needs no GPU.

    python -m benchmarks.build_cost --checkpoint DIR --resolution 1920x1080 --target rtx5090 -o results/build-NAME.json

Runs `swiftvr-export build-engine` as a user would and watches its processes. `engines/compile/estimate.py` is fitted to
these files, and a test compares the two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import psutil

from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.engines.bundle.pipeline_memory import count_parameters
from swiftvr_trt.engines.report.inspect import engine_reports

_INTERVAL_S = 0.05


@click.command()
@click.option("--checkpoint", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--resolution", default="1920x1080", show_default=True)
@click.option("--target", default="rtx5090", show_default=True)
@click.option("--precision", help="[default: the usual one of the target]")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="JSON file of the result.")
def main(checkpoint: Path, resolution: str, target: str, precision: str | None, output: Path) -> None:
    """Build a bundle and write down what it took."""
    options = ["--checkpoint", str(checkpoint), "--resolution", resolution, "--target", target]
    options += ["--precision", precision] if precision else []
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        seconds, cpu_seconds, peak = watch(
            [sys.executable, "-m", "swiftvr_trt.cli.export", "build-engine", *options, "-o", str(bundle)]
        )
        measured = result(checkpoint, Bundle.open(bundle))
        measured["measured"] |= {
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu_seconds, 1),
            "tool_peak_bytes": peak,
        }
    output.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    click.echo(json.dumps(measured["measured"]))


def watch(command: list[str]) -> tuple[float, float, int]:
    """Run a command.

    Returns its seconds, the CPU seconds of all its processes, and the peak of the resident bytes of the first.
    """
    began, peak = time.monotonic(), 0
    with subprocess.Popen(command) as running:
        process = psutil.Process(running.pid)
        while running.poll() is None:
            try:
                peak = max(peak, process.memory_info().rss)
            except psutil.NoSuchProcess:  # it has ended, or nobody has collected its exit code yet
                break
            time.sleep(_INTERVAL_S)
        if running.wait():
            sys.exit(f"the build ended with code {running.returncode}")
    spent = os.times()
    return time.monotonic() - began, spent.children_user + spent.children_system, peak


def result(checkpoint: Path, bundle: Bundle) -> dict[str, Any]:
    """The build and what its reports say of its costs, as JSON values."""
    reports = engine_reports(bundle)
    return {
        "checkpoint": checkpoint.name,
        "parameters": count_parameters(checkpoint),
        "checkpoint_bytes": sum(file.stat().st_size for file in checkpoint.rglob("*.safetensors")),
        "recipe": asdict(bundle.manifest.recipe),
        "cores": os.cpu_count(),
        "compiler": reports[0].compiler,
        "measured": {
            "compiler_peak_bytes": max(report.peak_bytes or 0 for report in reports),
            "compile_seconds": round(sum(report.seconds for report in reports), 1),
            "bundle_bytes": sum(file.size for file in bundle.manifest.files),
            "weight_bytes": sum(report.weight_bytes for report in reports),
        },
    }


if __name__ == "__main__":
    main()
