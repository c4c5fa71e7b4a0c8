"""How much of this machine the process may use: memory and CPUs, within the limits of its container.

    available_memory()   bytes it may still take
    cpu_limit()          CPUs it is limited to; None if it may use them all

A container, a systemd slice or a batch scheduler sets its limits through Linux control groups, which neither psutil nor
`os.cpu_count` know. Every room may use this module.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath

_UNLIMITED = 1 << 60
"""Version 1 has no word for "no limit"; it shows the largest number of pages."""


@dataclass(frozen=True)
class Limits:
    """What control groups leave to a process. None where nothing limits it.

    memory: bytes that it may still take. cpus: how many CPUs it may keep busy, e.g. 1.5.
    """

    memory: int | None = None
    cpus: float | None = None


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may take without pushing anything out of memory; None if unknown.

    root: of the file system that describes the process.
    """
    amounts = (_free_memory(root), control_group_limits(root).memory)
    return min((amount for amount in amounts if amount is not None), default=None)


def cpu_limit(root: Path = Path("/")) -> int | None:
    """CPUs that this process is limited to, at least 1; None if it may use all of the machine.

    The limit comes from its affinity (`taskset`, a cpuset) or from a quota (`docker --cpus`), rounded up.
    """
    quota = control_group_limits(root).cpus
    allowed, present = _allowed_cpus(), os.cpu_count() or 1
    limit = min(allowed, math.ceil(quota) if quota else allowed)
    return limit if limit < present else None


def core_limit() -> int | None:
    """Like `cpu_limit`, for work that gains nothing from two threads on one core. None if it may use all cores."""
    limit = cpu_limit()
    if limit is None:
        return None
    with suppress(ImportError):
        import psutil

        return min(limit, psutil.cpu_count(logical=False) or limit)
    return limit


def control_group_limits(root: Path = Path("/")) -> Limits:
    """The tightest limits of the control groups that this process is in, of version 1, version 2, or both.

    root: of the file system with `proc/self` and the mounted control groups.
    """
    memory: list[int] = []
    cpus: list[float] = []
    for group in _groups(root):
        if group.holds("memory"):
            memory += _memory_left(group)
        if group.holds("cpu"):
            cpus += _cpu_quota(group)
    return Limits(min(memory, default=None), min(cpus, default=None))


@dataclass(frozen=True)
class _Group:
    """A control group of this process, or one of those around it. controllers: None in version 2, for all."""

    path: Path
    controllers: frozenset[str] | None

    def holds(self, controller: str) -> bool:
        return self.controllers is None or controller in self.controllers

    def read(self, name: str) -> list[str]:
        """The words of one of its files; none if it has no such file."""
        try:
            return (self.path / name).read_text(encoding="ascii", errors="replace").split()
        except OSError:
            return []

    def number(self, name: str) -> int | None:
        """The first number in one of its files; None for a word such as `max`."""
        words = self.read(name)
        return int(words[0]) if words and re.fullmatch(r"-?[0-9]+", words[0]) else None


def _memory_left(group: _Group) -> Iterator[int]:
    """The bytes that each limit of a group leaves. The file cache counts as free: the kernel gives it up."""
    new = group.controllers is None
    limits = ("memory.max", "memory.high") if new else ("memory.limit_in_bytes",)
    used = group.number("memory.current" if new else "memory.usage_in_bytes") or 0
    words = group.read("memory.stat")
    statistics = dict(zip(words[::2], words[1::2], strict=False))
    prefix = "" if new else "total_"
    cached = (statistics.get(f"{prefix}{kind}_file", "") for kind in ("active", "inactive"))
    cache = sum(int(nbytes) for nbytes in cached if nbytes.isdecimal())
    for name in limits:
        limit = group.number(name)
        if limit is not None and 0 <= limit < _UNLIMITED:
            yield max(limit - max(used - cache, 0), 0)


def _cpu_quota(group: _Group) -> Iterator[float]:
    """The CPUs that a group may keep busy, if it has a quota: CPU time per period."""
    if group.controllers is None:
        quota, period = (*group.read("cpu.max"), "max", "max")[:2]
    else:
        quota, period = (str(group.number(f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
    if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
        yield int(quota) / int(period)


def _groups(root: Path) -> Iterator[_Group]:
    """The groups of this process and all groups around them, as far as they are mounted."""
    own = dict(_own_groups(root))
    for controllers, top, mounted_at in _mounts(root):
        names = [""] if controllers is None else sorted(controllers & own.keys())
        for path in {own[name] for name in names if name in own}:
            place = root / mounted_at.lstrip("/")
            below = _below(path, top)
            for depth in range(len(below) + 1):
                yield _Group(place.joinpath(*below[:depth]), controllers)


def _own_groups(root: Path) -> Iterator[tuple[str, str]]:
    """The path of this process's group for each controller of version 1, and for "" in version 2."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        for name in controllers.split(","):
            yield name, path


def _mounts(root: Path) -> Iterator[tuple[frozenset[str] | None, str, str]]:
    """Every mounted hierarchy: its controllers (None in version 2), the group that is its top, and where it is."""
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        controllers = None if kind[0] == "cgroup2" else frozenset(kind[2].split(","))
        yield controllers, _unescape(fields[3]), _unescape(fields[4])


def _below(path: str, top: str) -> tuple[str, ...]:
    """The parts of a group's path below the group that is mounted; none if it is outside, as in some containers."""
    group, mounted = PurePosixPath(path), PurePosixPath(top)
    if ".." in group.parts or not group.is_relative_to(mounted):
        return ()
    return group.relative_to(mounted).parts


def _unescape(path: str) -> str:
    """`mountinfo` writes spaces and the like as \\040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return []


def _free_memory(root: Path) -> int | None:
    """Bytes that the machine has available, as psutil says; else as the kernel does; None if neither can tell."""
    try:
        import psutil

        return int(psutil.virtual_memory().available)
    except (ImportError, OSError, RuntimeError, ValueError):  # e.g. a container that hides parts of /proc
        pass
    for line in _lines(root / "proc/meminfo"):
        if match := re.fullmatch(r"MemAvailable:\s*([0-9]+) kB", line.strip()):
            return int(match[1]) * 1024
    return None


def _allowed_cpus() -> int:
    """CPUs that the scheduler lets this process use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    with suppress(ImportError, AttributeError, OSError):  # macOS has no affinity
        import psutil

        return len(psutil.Process().cpu_affinity())
    return os.cpu_count() or 1


def has_avx512() -> bool:
    """Whether the CPU has the AVX-512 instructions of servers since Skylake; False if nobody knows."""
    for core in ("numpy._core", "numpy.core"):  # the second is NumPy 1's
        with suppress(ImportError, AttributeError):
            return bool(import_module(f"{core}._multiarray_umath").__cpu_features__.get("AVX512_SKX"))
    return False
