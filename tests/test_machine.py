"""Limits of memory and CPUs, read from file trees as they look in real containers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from swiftvr_trt import machine
from swiftvr_trt.machine import Limits, available_memory, control_group_limits, core_limit, cpu_limit, has_avx512

GB = 1 << 30
NO_LIMIT = "9223372036854771712"
V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1_MEMORY = "35 31 0:32 {top} /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory"
V1_CPU = "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct"
SLICE = "sys/fs/cgroup/user.slice/user-1000.slice"
KUBE = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7.slice/cri-containerd-1.scope"

LAYOUTS: dict[str, tuple[Mapping[str, object], Limits]] = {
    "no control groups at all": ({}, Limits()),
    "version 2, nothing limited": (
        {
            "proc/self/cgroup": "0::/init.scope",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/init.scope/memory.max": "max",
            "sys/fs/cgroup/init.scope/cpu.max": "max 100000",
        },
        Limits(),
    ),
    "docker, version 2, its own namespace": (
        {
            "proc/self/cgroup": "0::/",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/memory.max": 4 * GB,
            "sys/fs/cgroup/memory.current": 3 * GB,
            "sys/fs/cgroup/memory.stat": f"anon {GB}\nfile {2 * GB}\nactive_file {GB}\ninactive_file {GB}",
            "sys/fs/cgroup/cpu.max": "150000 100000",
        },
        Limits(3 * GB, 1.5),
    ),
    "docker, version 2, the host's namespace": (
        {
            "proc/self/cgroup": "0::/system.slice/docker-1f.scope",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/system.slice/docker-1f.scope/memory.max": 2 * GB,
            "sys/fs/cgroup/system.slice/docker-1f.scope/cpu.max": "200000 100000",
        },
        Limits(2 * GB, 2.0),
    ),
    "docker, version 1: the group is the top of what is mounted": (
        {
            "proc/self/cgroup": "11:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n1:name=systemd:/docker/1f\n0::/",
            "proc/self/mountinfo": "\n".join([V1_MEMORY.format(top="/docker/1f"), V1_CPU.format(top="/docker/1f")]),
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 8 * GB,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": 5 * GB,
            "sys/fs/cgroup/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {GB}\ntotal_active_file {GB}",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": 50000,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": 100000,
        },
        Limits(5 * GB, 0.5),
    ),
    "version 1, nothing limited": (
        {
            "proc/self/cgroup": "4:memory:/user.slice\n1:cpu,cpuacct:/",
            "proc/self/mountinfo": "\n".join([V1_MEMORY.format(top="/"), V1_CPU.format(top="/")]),
            "sys/fs/cgroup/memory/user.slice/memory.limit_in_bytes": NO_LIMIT,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": -1,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": 100000,
        },
        Limits(),
    ),
    "version 1, the limit is set on a group around it": (
        {
            "proc/self/cgroup": "4:memory:/batch/job/step",
            "proc/self/mountinfo": V1_MEMORY.format(top="/"),
            "sys/fs/cgroup/memory/batch/memory.limit_in_bytes": 16 * GB,
            "sys/fs/cgroup/memory/batch/job/memory.limit_in_bytes": 6 * GB,
            "sys/fs/cgroup/memory/batch/job/memory.usage_in_bytes": 2 * GB,
            "sys/fs/cgroup/memory/batch/job/step/memory.limit_in_bytes": NO_LIMIT,
        },
        Limits(4 * GB),
    ),
    "systemd slices, version 2: each level has its own limit": (
        {
            "proc/self/cgroup": "0::/user.slice/user-1000.slice/run-r7.scope",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/user.slice/memory.max": 10 * GB,
            "sys/fs/cgroup/user.slice/memory.current": 9 * GB,
            f"{SLICE}/memory.max": "max",
            f"{SLICE}/cpu.max": "300000 100000",
            f"{SLICE}/run-r7.scope/memory.max": 4 * GB,
            f"{SLICE}/run-r7.scope/memory.current": GB,
            f"{SLICE}/run-r7.scope/cpu.max": "800000 100000",
        },
        Limits(GB, 3.0),  # the slice is fuller than the scope within it
    ),
    "systemd, MemoryHigh: above it, everything slows to a crawl": (
        {
            "proc/self/cgroup": "0::/run-r7.scope",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/run-r7.scope/memory.max": "max",
            "sys/fs/cgroup/run-r7.scope/memory.high": 3 * GB,
        },
        Limits(3 * GB),
    ),
    "Kubernetes, version 2": (
        {
            "proc/self/cgroup": f"0::{KUBE}",
            "proc/self/mountinfo": V2,
            f"sys/fs/cgroup{KUBE}/memory.max": GB,
            f"sys/fs/cgroup{KUBE}/cpu.max": "25000 100000",
        },
        Limits(GB, 0.25),
    ),
    "hybrid: version 1 holds the controllers, version 2 only names": (
        {
            "proc/self/cgroup": "4:memory:/app\n0::/app",
            "proc/self/mountinfo": "\n".join(
                [V1_MEMORY.format(top="/"), V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")]
            ),
            "sys/fs/cgroup/memory/app/memory.limit_in_bytes": GB,
            "sys/fs/cgroup/unified/app/cgroup.procs": "1",
        },
        Limits(GB),
    ),
    "a group outside of what is mounted": (
        {
            "proc/self/cgroup": "0::/../other",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/memory.max": 2 * GB,
        },
        Limits(2 * GB),
    ),
    "more is used than allowed": (
        {
            "proc/self/cgroup": "0::/",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/memory.max": GB,
            "sys/fs/cgroup/memory.current": 2 * GB,
        },
        Limits(0),
    ),
    "a mount point with a space": (
        {
            "proc/self/cgroup": "0::/",
            "proc/self/mountinfo": V2.replace("/sys/fs/cgroup", "/sys/fs/my\\040groups"),
            "sys/fs/my groups/memory.max": GB,
        },
        Limits(GB),
    ),
    "files that hold nonsense": (
        {
            "proc/self/cgroup": "what\n\n0::",
            "proc/self/mountinfo": f"short - cgroup2\n{V2}\nno dash",
            "sys/fs/cgroup/memory.max": "lots",
            "sys/fs/cgroup/memory.stat": "odd\nactive_file many",
            "sys/fs/cgroup/cpu.max": "0 0",
        },
        Limits(),
    ),
}


def tree(root: Path, files: Mapping[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", encoding="utf-8")
    return root


@pytest.mark.parametrize("name", LAYOUTS)
def test_limits_of_control_groups(tmp_path: Path, name: str) -> None:
    files, limits = LAYOUTS[name]
    assert control_group_limits(tree(tmp_path, files)) == limits


def test_available_memory_is_the_machines_where_no_group_limits_it(tmp_path: Path) -> None:
    assert available_memory(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_available_memory_is_what_the_group_leaves(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/", "proc/self/mountinfo": V2, "sys/fs/cgroup/memory.max": 1000}
    assert available_memory(tree(tmp_path, files)) == 1000


def _forbidden(*_: Any) -> Any:
    raise PermissionError("/proc/meminfo")


def _incomplete(*_: Any) -> Any:
    raise RuntimeError("MemTotal is missing")


@pytest.mark.parametrize("broken", [None, _forbidden, _incomplete])
def test_the_kernels_own_figure_where_psutil_cannot_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Any
) -> None:
    if broken is None:
        monkeypatch.setitem(sys.modules, "psutil", None)
    else:
        monkeypatch.setattr(psutil, "virtual_memory", broken)
    assert available_memory(tmp_path) is None
    tree(tmp_path, {"proc/meminfo": "MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:    2000 kB"})
    assert available_memory(tmp_path) == 2000 * 1024


@pytest.mark.parametrize(
    ("present", "allowed", "quota", "limit"),
    [
        (8, 8, None, None),
        (8, 8, "max 100000", None),
        (8, 8, "1600000 100000", None),  # a quota of more than there is
        (8, 3, None, 3),
        (8, 8, "250000 100000", 3),
        (8, 8, "10000 100000", 1),
        (8, 2, "500000 100000", 2),
    ],
)
def test_cpu_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: int, allowed: int, quota: str | None, limit: int | None
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: present)
    monkeypatch.setattr(machine, "_allowed_cpus", lambda: allowed)
    files = {"proc/self/cgroup": "0::/", "proc/self/mountinfo": V2, "sys/fs/cgroup/cpu.max": quota or ""}
    assert cpu_limit(tree(tmp_path, files)) == limit


@pytest.mark.parametrize(("limit", "cores", "threads"), [(None, 4, None), (2, 4, 2), (6, 4, 4), (6, None, 6)])
def test_core_limit_counts_no_core_twice(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, cores: int | None, threads: int | None
) -> None:
    monkeypatch.setattr(machine, "cpu_limit", lambda: limit)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else cores)
    assert core_limit() == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity to set")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs")
def test_a_process_on_one_cpu_is_limited_to_it() -> None:
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from swiftvr_trt.machine import cpu_limit, core_limit; print(cpu_limit(), core_limit())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"]


def test_avx512_is_what_the_system_says_of_the_cpu() -> None:
    if not Path("/proc/cpuinfo").exists():
        pytest.skip("only Linux says it there")
    assert has_avx512() == (" avx512vl" in Path("/proc/cpuinfo").read_text())


def test_a_real_control_group_limits_what_is_available() -> None:
    """Of version 1, and only where this process may make one."""
    group = Path(f"/sys/fs/cgroup/memory/swiftvr-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        (group / "memory.limit_in_bytes").write_text("300000000")
        code = (
            f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\nfrom swiftvr_trt.machine import available_memory"
        )
        command = [sys.executable, "-c", f"{code}\nprint(available_memory())"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert 200e6 < int(done.stdout) < 300e6
    finally:
        group.rmdir()
