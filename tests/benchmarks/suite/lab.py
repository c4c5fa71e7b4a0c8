"""What the tests of measuring share: an order for a tiny bundle, and records with given samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from swiftvr_trt import Bundle
from swiftvr_trt.benchmarks.suite.clips import obtain_clip
from swiftvr_trt.benchmarks.suite.metrics import sampled
from swiftvr_trt.benchmarks.suite.protocols import PROTOCOLS, Protocol
from swiftvr_trt.benchmarks.suite.record import BenchRun, Case, HostFacts, How, State, Subject
from swiftvr_trt.benchmarks.suite.work import CaseOrder
from swiftvr_trt.cli.trial import BUNDLE

TINY = replace(PROTOCOLS["trial"], frames=12, warm_up=1, chunks=3, seconds=0.0)


def trial_bundle() -> Bundle:
    """The tiny bundle that ships with the package: nothing has to be built."""
    return Bundle.open(BUNDLE)


def order_for(
    bundle: Bundle, folder: Path, suite: str, *, device: str = "cpu", checkpoint: Path | None = None
) -> CaseOrder:
    """An order about a bundle, on a clip in `folder`."""
    recipe = bundle.manifest.recipe
    subject = Subject(
        "bundle", "mini", "", recipe.precision, recipe.target, device, recipe.width, recipe.height, recipe.clip_len
    )
    protocol = protocol_for(bundle)
    clip, _ = obtain_clip(protocol, folder)
    return CaseOrder(
        suite, subject, protocol, str(bundle.path), str(checkpoint or ""), str(clip), "", str(folder), threads=1
    )


def protocol_for(bundle: Bundle) -> Protocol:
    recipe = bundle.manifest.recipe
    return replace(TINY, width=recipe.width, height=recipe.height, clip_len=recipe.clip_len)


def run_of(samples: Sequence[float], name: str = "chunk", how: How = How.MEASURED, side: str = "bundle") -> BenchRun:
    """A record with one case and one figure."""
    subject = Subject(side, "mini", "", "fp32", "cpu", "cpu", 96, 64, 8)
    case = Case("core", "core", subject, "trial", state=State.DONE, figures=(sampled(name, samples, how, "trial"),))
    host = HostFacts("Example CPU", 2, 1 << 33, "Linux", 0.1, {})
    return BenchRun(("swiftvr-bench",), "0.1.0", "2026-11-29T02:00:00+00:00", host, (case,), state=State.DONE)
