"""`python -m swiftvr_trt.engines.compile FILE.onnx`: compile one graph and print what the compiler made of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import SwiftVRError
from ...text import printable
from ..bundle.targets import RTX, find_target
from .compiler import CompileJob, Engine, Profile, compile_engine
from .log import ATTENTION, CONV, GEMM, KINDS, by_kind, by_precision


def main(arguments: Sequence[str]) -> None:
    """Compile, print a summary or JSON, and keep the engine and the log if asked to."""
    options = _options().parse_args(arguments)
    chosen = find_target(options.target)
    engine_file = options.engine or options.onnx.with_suffix(".engine")
    profiles = tuple(_profile(text) for text in options.profile)
    sm = options.sm or (chosen.sm if chosen.compiler == RTX else None)  # TensorRT builds for the GPU that is present
    job = CompileJob(options.onnx, engine_file, chosen.compiler, sm, profiles)
    try:
        engine = compile_engine(job, (lambda _: None) if options.json else _say)
    except SwiftVRError as error:
        sys.exit(f"error: {error}")
    if options.log:
        options.log.write_text(engine.log, encoding="utf-8")
    if options.json:
        print(json.dumps(compiled_json(engine), indent=2))
    else:
        print("\n".join(map(printable, compiled_text(engine, every=options.kernels).split("\n"))))
    if not options.engine:
        engine_file.unlink()


def _say(line: str) -> None:
    print(f"  {printable(line)}", flush=True)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("swiftvr_trt.engines.compile", description=__doc__)
    parser.add_argument("onnx", type=Path)
    parser.add_argument("--target", default="rtx5090")
    parser.add_argument("--sm", help="compute capability, e.g. SM89 [default: the target's]")
    parser.add_argument("--engine", type=Path, help="keep the engine in this file")
    parser.add_argument("--log", type=Path, help="keep the compiler's log in this file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--kernels", action="store_true", help="list every kernel")
    parser.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="NAME=AxBxC[:AxBxC:AxBxC],...",
        help="optimization profile: a fixed shape, or smallest:usual:largest, per input; repeat for more profiles",
    )
    return parser


def _profile(text: str) -> Profile:
    """`"latents=6x48x68x120"` -> {"latents": (shape, shape, shape)}."""
    profile = {}
    for entry in text.split(","):
        name, _, shapes = entry.partition("=")
        parsed = [tuple(int(side) for side in shape.split("x")) for shape in shapes.split(":")]
        profile[name] = (parsed[0], parsed[len(parsed) // 2], parsed[-1])
    return profile


def compiled_json(engine: Engine) -> dict[str, Any]:
    """What was compiled, as JSON values."""
    made = engine.made
    return {
        "engine_bytes": engine.nbytes,
        "weight_bytes": made.weight_bytes,
        "arena_bytes": list(made.arena_bytes),
        "seconds": round(engine.seconds, 1),
        "peak_bytes": engine.peak_bytes,
        "profiles": [
            {
                "kernels": by_kind(made.of_profile(p)),
                "precisions": {kind: by_precision(made.of_profile(p), kind) for kind in (GEMM, ATTENTION, CONV)},
            }
            for p in range(len(made.arena_bytes))
        ],
    }


def compiled_text(engine: Engine, *, every: bool = False) -> str:
    """What was compiled, as lines of text."""
    compiled = compiled_json(engine)
    peak = f"{engine.peak_bytes / 1e9:.2f} GB" if engine.peak_bytes else "unknown"
    lines = [
        f"built in {engine.seconds:.1f} s, peak memory {peak}, engine {engine.nbytes / 1e6:,.1f} MB, "
        f"weights {engine.made.weight_bytes / 1e6:,.1f} MB"
    ]
    for number, profile in enumerate(compiled["profiles"]):
        kernels = profile["kernels"]
        arena = engine.made.arena_bytes[number] / 1e6
        lines.append(f"profile {number}: activations {arena:,.1f} MB, {sum(kernels.values())} kernels")
        for kind in KINDS:
            if kind in kernels:
                detail = ", ".join(f"{n} {dtype}" for dtype, n in profile["precisions"].get(kind, {}).items())
                lines.append(f"  {kernels[kind]:5} {kind}{f' ({detail})' if detail else ''}")
        if every:
            lines += [
                f"        {k.kind:22} {k.layer:15} {[(*t.shape, t.dtype) for t in k.inputs]} -> "
                f"{[(*t.shape, t.dtype) for t in k.outputs]}  {k.name}  {'+'.join(k.sources)}"
                for k in engine.made.of_profile(number)
            ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
