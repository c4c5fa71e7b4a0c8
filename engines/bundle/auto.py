"""`--target auto`: which bundle suits a machine. A pure function of what the machine has.

Engines come first: those of the GPU's series (TensorRT-RTX), or those for the machine's own GPU (TensorRT, for cards in
data centres). Then graphs in ONNX Runtime on the GPU, then graphs on the CPU. Each needs its packages, and enough free
memory on the GPU; among the precisions of a target, the usual one is taken if it fits, then the next smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ...errors import MachineError, MisuseError
from ...installing import install_command
from ...text import LineCallback, format_bytes
from .drivers import GET_DRIVER, driver_needs, oldest_driver
from .targets import BYTES_PER_WEIGHT, RTX, TARGETS, Target, choose_target, find_target, multiplies_in

AUTO = "auto"
_CPU, _CUDA, _LOCAL = (find_target(name) for name in ("cpu", "cuda", "local"))

BytesNeeded = Callable[[Target, str], int]
"""The GPU memory that a bundle for this target in this precision takes, with one stream."""


@dataclass(frozen=True)
class Host:
    """What decides which bundles run best on a machine.

    gpu: name of the GPU that is to restore; None if there is none. why_cpu: if so, the reason, as the beginning of a
    sentence. compute_capability: of that GPU, e.g. `8.9`. free_bytes: of its memory; None if unknown. extras: those of
    this package whose packages are installed. engines: False if only graphs will do. overlap: only engines will do,
    and they take the memory of `--overlap`. driver_cuda: the CUDA version that the driver offers; None if unknown.
    packages: those of the extras, with the versions that are installed.
    """

    gpu: str | None = None
    why_cpu: str = "no NVIDIA GPU was found"
    compute_capability: str = ""
    free_bytes: int | None = None
    extras: frozenset[str] = frozenset()
    engines: bool = True
    overlap: bool = False
    driver_cuda: str | None = None
    packages: Mapping[str, str | None] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Choice:
    """A target and a precision for a machine. reason: one line for its user, with what would be faster."""

    target: Target
    precision: str
    reason: str


def choose_for(host: Host, precision: str | None, needed: BytesNeeded) -> tuple[Choice, ...]:
    """The bundles that the machine can run, the best first; the others are for the case that its build fails.

    precision: the one that is wanted; None for what suits. Raises `MisuseError` if nothing here takes that precision.
    """
    found: list[Choice] = []
    better: list[str] = []
    for target in _by_speed(host) if host.gpu is not None else ():
        fitting = [p for p in _precisions(target, host) if precision in (None, p)]
        if not fitting:
            continue
        chosen = next((p for p in fitting if host.free_bytes is None or needed(target, p) <= host.free_bytes), None)
        if chosen is None:
            smallest = format_bytes(min(needed(target, p) for p in fitting))
            free = format_bytes(host.free_bytes or 0)
            better.append(
                f"{_describe(target)} would need {smallest} of GPU memory, {free} are free: choose a smaller "
                "--resolution or --clip-len, or close other programs"
            )
        elif lacking := _lacking(target, host):
            better.append(lacking)
        else:
            found.append(_choice(target, chosen, f"{_describe(target)} in {chosen} on the {host.gpu}", better))
    if host.overlap and not found:
        raise _no_engines(host, precision, better)
    if precision in (None, *_CPU.precisions) and not host.overlap:
        restores = f"the CPU restores with ONNX Runtime in {_CPU.usual_precision}"
        why = f"{host.why_cpu}: {restores}" if host.gpu is None else restores
        found.append(_choice(_CPU, _CPU.usual_precision, why, better))
    if not found:
        raise _nothing_takes(host, str(precision), better)
    return tuple(found)


def make_way(error: MachineError, others: Sequence[object], report: LineCallback) -> None:
    """A build failed: report it, so that the others can be tried. Raises the error if there are none."""
    if not others:
        raise error
    report(f"this bundle cannot be built: {error}")


def _choice(target: Target, precision: str, reason: str, better: Sequence[str]) -> Choice:
    """better: what would have been chosen before this, the fastest first."""
    return Choice(target, precision, f"{reason} ({better[0]})" if better else reason)


def _by_speed(host: Host) -> Iterator[Target]:
    """The targets that run on the GPU of a machine, the fastest first."""
    if host.engines:
        own = [t for t in TARGETS if t.compute_capability == host.compute_capability]
        yield from own
        if all(target.compiler == RTX for target in own):
            yield _LOCAL
    if not host.overlap:
        yield _CUDA


def _lacking(target: Target, host: Host) -> str:
    """What has to be installed for a target, or why its packages would not run; empty if nothing is missing."""
    needs = driver_needs(target.extra, host.compute_capability, host.packages, host.driver_cuda)
    missing = [extra for extra in needs.extras if extra not in host.extras]
    if needs.too_old:
        return (
            f"{_describe(target)} would need NVIDIA driver {oldest_driver(needs.cuda)}, this one is for CUDA "
            f"{needs.offered}: {needs.instead}update the driver, {GET_DRIVER}"
        )
    return f"{_describe(target)} should be faster: {install_command(*missing)}" if missing else ""


def _precisions(target: Target, host: Host) -> list[str]:
    """The precisions to try: the usual one, and smaller ones after it. Others are for those who ask for them."""
    able = [p for p in target.precisions if multiplies_in(p, host.compute_capability)]
    usual = "fp8" if target.compiled and "fp8" in able else target.usual_precision
    smaller = [p for p in able if BYTES_PER_WEIGHT[p] < BYTES_PER_WEIGHT[usual]]
    others = [p for p in able if p != usual and p not in smaller]
    return [usual, *sorted(smaller, key=lambda p: -BYTES_PER_WEIGHT[p]), *others]


def _describe(target: Target) -> str:
    """What runs, in the user's words."""
    if not target.compiled:
        return "ONNX Runtime"
    return f"{target.compiler} engines (target {target.name})"


def _no_engines(host: Host, precision: str | None, better: Sequence[str]) -> MisuseError:
    """Why `--overlap` cannot be had."""
    if better:
        why = better[0]
    elif host.gpu is None:
        why = host.why_cpu
    else:
        why = f"the {host.gpu} has none in {precision}" if host.engines and precision else "one device runs graphs only"
    return MisuseError(f"--overlap takes engines, and none can run here ({why}); leave it out, frames are the same")


def _nothing_takes(host: Host, precision: str, better: Sequence[str]) -> MisuseError:
    """Why no bundle in this precision runs on a machine."""
    if better:
        return MisuseError(f"precision {precision} cannot be used on this machine now: {better[0]}")
    try:
        choose_target(next(_by_speed(host), _CPU).name if host.gpu else _CPU.name, precision)
    except MisuseError as error:
        return error
    return MisuseError(f"precision {precision} is not available on the {host.gpu}, choose another or --target")
