"""Count an engine and its arithmetic again, sharing nothing with `engines/` but the ONNX file.

NVIDIA's Polygraphy compiles the file, and its log is searched for a few words. torch counts the operations by running
the traced module on tensors without memory.

    POLYGRAPHY_USE_TENSORRT_RTX=1 python -m benchmarks.recount FILE.onnx 12.0 '{"x": [[6, 16], [6, 16], [6, 16]]}'

with one such argument, the smallest, usual and largest shape of each input, for every optimization profile.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftvr_trt.errors import MisuseError
from swiftvr_trt.outside import Door, parse_json

if TYPE_CHECKING:
    from torch import Tensor, nn

_PROFILE = Door("profile", MisuseError, "see the head of this file", max_bytes=1 << 16)

Profile = Mapping[str, Sequence[Sequence[int]]]


@dataclass(frozen=True)
class Recount:
    """Of one optimization profile: kernels, fused attention kernels and activation memory."""

    kernels: int
    attention: int
    arena_bytes: int


def recount_engine(onnx: Path, compute_capability: str, profiles: Sequence[Profile]) -> list[Recount]:
    """Compile with Polygraphy in a process of its own and count what it prints, for each profile."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.recount",
        str(onnx),
        compute_capability,
        *map(json.dumps, profiles),
    ]
    environment = {**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
    )
    if done.returncode:
        raise RuntimeError(f"{onnx.name}: Polygraphy could not compile it: {done.stderr.strip()[-300:]}")
    return read_log(done.stdout, max(len(profiles), 1))


def read_log(log: str, profiles: int) -> list[Recount]:
    """Count words. Each profile becomes a graph of its own, whose number is in the names of its kernels."""
    kernels: dict[str, list[str]] = {}
    for line in log.splitlines():
        if "LayerType: " in line and "shape_call" not in line:
            name = line.partition(",")[0]
            kernels.setdefault(name.rpartition("_myl")[2].partition("_")[0], []).append(name)
    arenas = re.findall(r"Total Activation Memory: (\d+)", log)
    if not len(arenas) == len(kernels) == profiles:
        raise RuntimeError(
            f"Polygraphy's log has {len(arenas)} profiles and {len(kernels)} graphs, expected {profiles}"
        )
    return [
        Recount(len(names), sum("_mha" in name for name in names), int(arena))
        for names, arena in zip(kernels.values(), arenas, strict=True)
    ]


def count_with_torch(module: nn.Module, example: Sequence[Tensor]) -> int:
    """Operations of the module as torch counts them, on tensors that have a shape but no content."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    # torch cannot count the CPU's fused attention kernel, but it can count the products that it consists of.
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, sdpa_kernel(SDPBackend.MATH), counter, torch.no_grad():
        module(*(fake.from_tensor(tensor) for tensor in example))
    return counter.get_total_flops()


def main(onnx: str, compute_capability: str, *profiles: str) -> None:
    """Build with Polygraphy's loaders. The compiler's log goes to standard output."""
    import tensorrt_rtx as trt
    from polygraphy.backend.tensorrt_rtx import CreateConfigRTX
    from polygraphy.backend.trt import EngineBytesFromNetwork, NetworkFromOnnxPath, Profile
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = {"": G_LOGGER.EXTRA_VERBOSE}
    major, _, minor = compute_capability.partition(".")
    config = CreateConfigRTX(
        compute_capabilities=[(int(major), int(minor))],
        profiles=[_profile(Profile(), read_profile(text)) for text in profiles] or None,
        profiling_verbosity=trt.ProfilingVerbosity.DETAILED,
        max_aux_streams=0,
    )
    EngineBytesFromNetwork(NetworkFromOnnxPath(onnx, strongly_typed=True), config=config)()


def read_profile(text: str) -> Profile:
    """A profile from the command line. Raises `MisuseError` for anything but three shapes for each name."""
    fields = parse_json(text, Path("profile"), _PROFILE)
    profile = fields.content()
    for name, shapes in profile.items():
        if not (isinstance(shapes, list) and len(shapes) == 3 and all(map(_is_shape, shapes))):
            fields.refuse(name, "three shapes, e.g. [[6, 16], [6, 16], [6, 16]]")
    return profile


def _is_shape(shape: object) -> bool:
    return isinstance(shape, list) and all(isinstance(side, int) and 0 <= side < 1 << 31 for side in shape)


def _profile(profile: Any, shapes: Profile) -> Any:
    for name, (smallest, usual, largest) in shapes.items():
        profile.add(name, smallest, usual, largest)
    return profile


if __name__ == "__main__":
    main(*sys.argv[1:])
