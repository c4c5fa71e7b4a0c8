"""Builds, and starts: what comes before the first frame."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

from ...engines.bundle.geometry import Resolution
from ...engines.compile.memory import PeakMemory
from ...engines.report.inspect import engine_reports
from ...runtime.devices.driver import leave_only
from ...runtime.devices.gpu import gpu_index
from .metrics import figure
from .record import How
from .streams import frames_of
from .subjects import open_subject
from .work import CaseOrder, Findings


def measure_build(order: CaseOrder) -> Findings:
    """Build the bundle into the directory `order.bundle`, which does not exist yet."""
    from ...export.build import BuildOptions, build_bundles

    subject, protocol = order.subject, order.protocol.name
    leave_only(0 if subject.device == "cpu" else gpu_index(subject.device))
    options = BuildOptions(
        checkpoint=Path(order.checkpoint),
        resolutions=(Resolution(subject.width, subject.height),),
        target=subject.target,
        precision=subject.precision,
        clip_len=subject.clip_len,
        output=Path(order.bundle),
    )
    with PeakMemory() as memory:
        began = time.perf_counter()
        (bundle,) = list(build_bundles(options, lambda _line: None))
        seconds = time.perf_counter() - began
        peaks = [memory.nbytes or 0, *(report.peak_bytes or 0 for report in engine_reports(bundle))]
    size = sum(file.size for file in bundle.manifest.files)
    figures = (
        figure("build_s", seconds, How.MEASURED, protocol),
        figure("build_rss_bytes", max(peaks), How.MEASURED, protocol, "of the larger of tool and compiler"),
        figure("bundle_bytes", size, How.MEASURED, protocol),
    )
    return Findings("cpu", figures)


def measure_startup(order: CaseOrder) -> Findings:
    """From the start of this process to the first restored frame. The first process finds no compiled kernels.

    `load` is that of the others, so that no figure mixes both.
    """
    place = _copy_of(order)
    if order.subject.side != "torch" and order.first:
        shutil.rmtree(place, ignore_errors=True)
        for kept in place.parent.glob(f"{place.name}.*"):
            kept.unlink()  # compiled kernels lie beside their bundle
        shutil.copytree(order.bundle, place, copy_function=_link)
    order = order if order.subject.side == "torch" else _at(order, place)
    frames, protocol = frames_of(order), order.protocol.name
    with open_subject(order) as subject:
        next(subject.delays(frames))
        seconds = time.time() - order.began
        if order.first:
            return Findings(subject.device, (figure("cold_start", seconds, subject.how, protocol),))
        found = (("warm_start", seconds), ("load", subject.load_s))
        return Findings(subject.device, tuple(figure(name, taken, subject.how, protocol) for name, taken in found))


def _copy_of(order: CaseOrder) -> Path:
    """Where an order's bundle starts from. Several bundles take turns, so each has a place of its own."""
    return Path(order.folder) / f"startup-{hashlib.sha256(order.bundle.encode()).hexdigest()[:12]}"


def _at(order: CaseOrder, place: Path) -> CaseOrder:
    from dataclasses import replace

    return replace(order, bundle=str(place))


def _link(source: str, target: str) -> str:
    """Another name for a file: a copy of a bundle whose compiled kernels are not found costs no space."""
    try:
        os.link(source, target)
    except OSError:
        return str(shutil.copy2(source, target))
    return target
