"""Memory: what the plan says, part by part, and what the process really takes while two chunks run."""

from __future__ import annotations

from itertools import islice

from ...engines.bundle.manifest import Manifest
from ...engines.compile.report import SUFFIX
from ...runtime.stream.plan import plan_memory
from .facts import find_gpu_card, how_measured
from .metrics import figure
from .record import Figure, How
from .sensors import Sensors
from .streams import frames_of
from .subjects import OpenBundle, open_subject
from .work import CaseOrder, Findings

_PLAN = "memory plan"


def measure_memory(order: CaseOrder) -> Findings:
    """The peaks include loading."""
    frames = frames_of(order)
    card, nvml = find_gpu_card(order.subject.device)
    with Sensors(nvml, how_measured(card), order.protocol.name) as sensors, open_subject(order) as subject:
        for _ in islice(subject.chunks(frames), 2):
            pass
    height, width = frames[0].shape[:2]
    planned = []
    if isinstance(subject, OpenBundle):
        planned = plan_figures(subject.bundle.manifest, height, width, overlap=subject.opened.overlap)
    return Findings(subject.device, (*planned, *sensors.memory()), sensors.notes())


def plan_figures(manifest: Manifest, height: int, width: int, *, overlap: bool = False) -> list[Figure]:
    """Bytes of each part of the plan. Graphs have no arena of their own; their weights are those of their files.

    overlap: as for `plan_memory`.
    """
    plan = plan_memory(manifest, height, width, overlap=overlap)
    parts = {name: nbytes for name, nbytes in plan.owners().items() if nbytes > 0}
    if not plan.weight_bytes:
        parts["weights"] = sum(file.size for file in manifest.files if not file.name.endswith(SUFFIX))
    found = [figure(f"memory.{name}", nbytes, How.COMPILED, _PLAN) for name, nbytes in parts.items()]
    return [*found, figure("planned_bytes", sum(parts.values()), How.COMPILED, _PLAN)]
