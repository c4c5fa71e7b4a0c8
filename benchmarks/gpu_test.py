"""Run the tests of the GPU and a measurement, and write one JSON file: `make gpu-test` ends here.

`--rehearse` does the same with the CPU in the GPU's place, to test the way there; the file says so.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click

import swiftvr_trt
from swiftvr_trt import Bundle, Restorer, SwiftVRError
from swiftvr_trt.engines.cache import default_root
from swiftvr_trt.engines.doctor import diagnose

ROOT = Path(__file__).resolve().parent.parent
CHUNKS, WARM_UP = 60, 10


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=Path("gpu-test.json"), show_default=True)
@click.option("--rehearse", is_flag=True, help="Use the CPU, to try this program out.")
def main(output: Path, rehearse: bool) -> None:
    """Test this machine's GPU and write what came of it."""
    report: dict[str, Any] = {
        "tool": f"swiftvr-trt {swiftvr_trt.__version__}",
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rehearsal": rehearse,
        "gpus": [] if rehearse else list(describe_gpus()),
        "machine": diagnose(default_root()).to_dict(),
    }
    with tempfile.TemporaryDirectory() as place:
        bundles = Path(place) / "bundles"
        results = Path(place) / "results.xml"
        command = [sys.executable, "-m", "pytest", "tests/gpu", "-m", "gpu", "-v", "--tb=short"]
        command += ["-p", "no:cacheprovider", "-o", "junit_family=xunit1", f"--junitxml={results}"]
        command += [f"--gpu-bundles={bundles}", *(["--rehearse"] if rehearse else [])]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        report["pytest_exit_code"] = code
        report["tests"] = list(read_results(results)) if results.exists() else []
        report["figures"] = list(measure_all(bundles, rehearse))
    report["passed"] = code == 0
    output.write_text(json.dumps(report, indent=1), encoding="utf-8")
    counts = {kind: sum(t["outcome"] == kind for t in report["tests"]) for kind in ("passed", "failed", "skipped")}
    click.echo(f"{', '.join(f'{count} {kind}' for kind, count in counts.items())}; send {output} back")
    sys.exit(0 if code == 0 else 1)


def describe_gpus() -> Iterator[dict[str, Any]]:
    """Every GPU of this machine, in the words of its driver."""
    from swiftvr_trt.runtime.gpu import Gpu

    first = Gpu(0)
    for index in range(len(first.core.Device.get_all_devices())):
        gpu = Gpu(index)
        yield {
            "name": gpu.name,
            "compute_capability": gpu.compute_capability,
            "driver": gpu.driver_version(),
            "free_bytes": gpu.free_bytes(),
        }


def read_results(path: Path) -> Iterator[dict[str, Any]]:
    """The tests in a JUnit file: name, outcome, seconds, why, and the figures that they noted."""
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        outcome, why = "passed", ""
        for kind, called in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
            found = case.find(kind)
            if found is not None:
                outcome, why = called, f"{found.get('message', '')}\n{found.text or ''}".strip()
        yield {
            "name": case.get("name"),
            "outcome": outcome,
            "seconds": float(case.get("time", 0)),
            "why": why[:4000],
            "noted": {p.get("name"): p.get("value") for p in case.iter("property")},
        }


def measure_all(bundles: Path, rehearse: bool) -> Iterator[dict[str, Any]]:
    """Speed of every bundle that the tests have built and that runs."""
    for path in sorted(bundles.glob("*")):
        bundle = Bundle.open(path)
        recipe = bundle.manifest.recipe
        device = "cpu" if recipe.target == "cpu" else "cuda"
        if device == "cpu" and not rehearse:
            continue
        told = {"bundle": recipe.describe(), "device": device}
        try:
            yield {**told, **measure(bundle, device, CHUNKS // (6 if rehearse else 1))}
        except SwiftVRError as error:
            yield {**told, "error": str(error)}


def measure(bundle: Bundle, device: str, chunks: int) -> dict[str, Any]:
    """Seconds per chunk after a warm-up; the session alone, without video files."""
    from swiftvr_trt.export.verify import picture

    clip_len = bundle.manifest.recipe.clip_len
    frames = [picture(index, 90, 160) for index in range(clip_len)]
    began = time.perf_counter()
    with Restorer.open(bundle, device=device) as restorer, restorer.session() as session:
        loaded = time.perf_counter()
        times = []
        for _ in range(WARM_UP + chunks):
            start = time.perf_counter()
            for frame in frames:
                session.feed(frame)
            times.append(time.perf_counter() - start)
        session.flush()
    steady = times[WARM_UP:]
    return {
        "load_s": round(loaded - began, 3),
        "first_chunks_s": [round(seconds, 4) for seconds in times[:3]],
        "frames_per_second": round(len(steady) * clip_len / sum(steady), 2),
        "chunk_ms_median": round(statistics.median(steady) * 1e3, 3),
        "chunk_ms_longest": round(max(steady) * 1e3, 3),
        "chunks": len(steady),
    }


if __name__ == "__main__":
    main()
