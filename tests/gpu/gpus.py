"""Describe the GPUs of this machine, in a process of its own: a broken driver may crash it.

python -m tests.gpu.gpus OUT.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from swiftvr_trt.runtime.devices.gpu import Gpu


def main() -> None:
    count = len(Gpu(0).core.Device.get_all_devices())
    found = {"gpus": [describe(Gpu(index)) for index in range(count)]}
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")


def describe(gpu: Gpu) -> dict[str, Any]:
    """Name, driver and memory of a GPU."""
    return {
        "name": gpu.name,
        "compute_capability": gpu.compute_capability,
        "driver": gpu.driver_version(),
        "driver_cuda": gpu.driver_cuda(),
        "free_bytes": gpu.free_bytes(),
    }


if __name__ == "__main__":
    main()
