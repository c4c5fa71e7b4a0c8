"""Memory of this process and of this machine, as far as the system tells. None where it does not."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path


def peak_memory() -> int | None:
    """The most memory, in bytes, that this process has had resident so far."""
    if sys.platform == "win32":
        return _windows_peak()
    return _field(Path("/proc/self/status"), "VmHWM")


def available_memory() -> int | None:
    """Bytes of memory that a new process may take without pushing another one out."""
    if sys.platform == "win32":
        return _windows_available()
    return _field(Path("/proc/meminfo"), "MemAvailable")


def _field(path: Path, name: str) -> int | None:
    """The value of a line such as `VmHWM:  1234 kB`, in bytes."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX."""

    _fields_ = [
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        *(
            (name, ctypes.c_uint64)
            for name in ("total", "available", "total_page", "available_page", "total_virtual", "virtual", "extended")
        ),
    ]


class _ProcessMemory(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS."""

    _fields_ = [
        ("length", ctypes.c_uint32),
        ("faults", ctypes.c_uint32),
        *((name, ctypes.c_size_t) for name in ("peak_resident", "resident", "a", "b", "c", "d", "page", "peak_page")),
    ]


def _windows_available() -> int | None:
    status = _MemoryStatus(ctypes.sizeof(_MemoryStatus))
    known = ctypes.WinDLL("kernel32").GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined,unused-ignore]
    return int(status.available) if known else None


def _windows_peak() -> int | None:
    counters = _ProcessMemory(ctypes.sizeof(_ProcessMemory))
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(kernel.GetCurrentProcess())
    known = kernel.K32GetProcessMemoryInfo(handle, ctypes.byref(counters), counters.length)
    return int(counters.peak_resident) if known else None
