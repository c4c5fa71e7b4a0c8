"""Tables in README and docs that follow from files in this repository, so that they cannot be wrong for long.

    python -m benchmarks.documents      writes them again; a test fails if one is stale

A generated part lies between two lines that readers do not see:

    <!-- generated: NAME -->
    <!-- end -->
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from swiftvr_trt.benchmarks.suite.compare import sides_of
from swiftvr_trt.benchmarks.suite.projection import efficiency
from swiftvr_trt.benchmarks.suite.protocols import PROTOCOLS, SAMPLE
from swiftvr_trt.benchmarks.suite.reached import as_reached
from swiftvr_trt.benchmarks.suite.record import BenchRun, read_run
from swiftvr_trt.benchmarks.suite.statistics import RatioInterval
from swiftvr_trt.engines.bundle.card_names import named_card
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.pipeline_memory import PUBLISHED_PARAMETERS, expected_gpu_bytes
from swiftvr_trt.engines.bundle.targets import find_target

from .card_table import FACTS, PAGE, builds_for, frames_per_second, is_current, read_facts, render
from .engine_matrix import PRECISIONS as MATRIX_PRECISIONS
from .engine_matrix import TARGETS as MATRIX_TARGETS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_PART = re.compile(r"(<!-- generated: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def projection() -> Iterator[str]:
    """The efficiency factor and its checks."""
    found = efficiency()
    yield f"The factor is {found.value:.2f}, with an interval from {found.low:.2f} to {found.high:.2f}."
    yield ""
    yield "| card, size | published | projected | off | within 20 % |"
    yield "|---|---|---|---|---|"
    for check in found.checks:
        one = check.published
        where = f"{one.card}, {one.size}{'' if one.same else ' (flashdreams)'}"
        stated = f"{one.fps:g}{'' if one.measured else ' (stated)'}"
        verdict = "yes" if check.within else "**no**"
        yield f"| {where} | {stated} | {check.projected_fps:.1f} | {100 * check.off:+.0f} % | {verdict} |"


def expected() -> Iterator[str]:
    """What to expect of our engines on an RTX 5090: the roofline, then rates that are reached and the factor."""
    factor, card = efficiency(), named_card("RTX 5090")
    yield "| RTX 5090, 24-frame chunks | at most | expected | interval |"
    yield "|---|---|---|---|"
    for build in builds_for(read_facts(FACTS), "rtx5090"):
        if build["size"] in ("1920x1080", "2560x1440", "3840x2160"):
            most, reached = (frames_per_second(build, one) for one in (card, as_reached(card)))
            low, high = reached * factor.low, reached * factor.high
            name = f"{build['size']}, {build['precision']}{_age(build)}"
            yield f"| {name} | {most:.0f} | {reached * factor.value:.0f} | {low:.0f} ... {high:.0f} |"


def _age(build: Mapping[str, Any]) -> str:
    return "" if is_current(build) else " (older graphs)"


def protocols() -> Iterator[str]:
    """All protocols of `swiftvr-bench`."""
    yield "| protocol | output | input | frames of a chunk | frames |"
    yield "|---|---|---|---|---|"
    for one in PROTOCOLS.values():
        clip = ", the clip that ships with the package" if one.clip == SAMPLE else ""
        first = "; the first request does not count" if one.requests > 1 else ""
        size = f"{one.input_width}x{one.input_height}{clip}"
        yield f"| `{one.name}` | {one.size} | {size} | {one.clip_len} | {one.frames}{first} |"


def install() -> Iterator[str]:
    """What to install for which card, with the GPU memory that 1920x1080 takes."""
    fp16, fp8, nvfp4 = (_gigabytes(precision) for precision in ("fp16", "fp8", "nvfp4"))
    cards = [(target, "int8") for target in ("rtx2080", "rtx3090")]
    least, most = sorted(row["pipeline"] for row in _matrix()["rows"] if (row["target"], row["precision"]) in cards)
    with_int8 = f"or with `--precision int8`, {least / 1e9:.1f} GB ({most / 1e9:.1f} GB on RTX 20)"
    rows = (
        ("you have", "install, in a clone", "what restores"),
        ("---", "---", "---"),
        ("no NVIDIA card", '`pip install ".[cpu,export]"`', "the CPU"),
        ("RTX 20, RTX 30, A100", '`pip install ".[cuda,rtx,export]"`', f"engines in fp16, {fp16}, {with_int8}"),
        ("RTX 40, L4, L40S", "the same", f"engines in fp8, {fp8}"),
        ("RTX 50, RTX PRO", "the same", f"engines in fp8, {fp8}, or with `--precision nvfp4`, {nvfp4}"),
        (
            "H100, H200",
            '`pip install ".[gpu,cuda,export]"`',
            f"ONNX Runtime in fp16, at least {_graphs()}, or engines in fp8 with [TensorRT](docs/engines.md)",
        ),
    )
    for row in rows:
        yield f"|{'|'.join(row)}|" if row[0] == "---" else f"| {' | '.join(row)} |"


def _graphs() -> str:
    """What the published network takes in graphs, by ONNX Runtime on a GPU."""
    needed = expected_gpu_bytes(PUBLISHED_PARAMETERS, Resolution(1920, 1080), find_target("cuda"), "fp16")
    return f"{needed / 1e9:.1f} GB"


def _gigabytes(precision: str) -> str:
    build = next(
        one
        for one in read_facts(FACTS)["builds"]
        if (one["target"], one["size"], one["precision"]) == ("rtx5090", "1920x1080", precision)
    )
    return f"{build['gpu_bytes'] / 1e9:.1f} GB"


def counted() -> Iterator[str]:
    """Operations and memory at 1920x1080: the network as published against the network as exported."""
    files = [f"slice-1920x1080-{name}-rtx-1.7.1.json" for name in ("fp16", "fp8")]
    fp16, fp8 = map(_rows, files)
    names = (f"{name}{_age_of(file)}" for name, file in zip(("fp16", "fp8"), files, strict=True))
    yield f"| 1920x1080 | plain, FP16 | {' | '.join(names)} |"
    yield "|---|---|---|---|"
    for what, row in fp16.items():
        if "FP8" not in what:
            plain, cells = row["plain"], [_number(one[what]["rewritten"], row["unit"]) for one in (fp16, fp8)]
            shares = [
                f" ({100 * one[what]['rewritten'] / plain:.0f} %)" if _is_amount(row) else "" for one in (fp16, fp8)
            ]
            yield f"| {what} | {_number(plain, row['unit'])} | {cells[0]}{shares[0]} | {cells[1]}{shares[1]} |"
    yield ""
    yield _counted_large("slice-3840x2160-fp8-rtx-1.7.1.json")


def _counted_large(name: str) -> str:
    rows = {what: _number(row["rewritten"], row["unit"]) for what, row in _rows(name).items()}
    return (
        f"At 3840x2160 in fp8{_age_of(name)}: decoder {rows['decoder: activations']}, encoder "
        f"{rows['encoder: activations']}, transformer {rows['DiT, n + 1 latents: activations']} of activations, "
        f"{rows['DiT: kernels per block']} kernels per block, {rows['DiT: attention calls fused']} of the attention "
        f"fused, whole pipeline **{rows['whole pipeline on the GPU, 30 blocks (projected)']}** (projected)."
    )


_TYPES = {"Half": "FP16", "BFloat16": "BF16", "Int8": "INT8"}
"""The compiler's words where they are not people's."""


def _matrix() -> Mapping[str, Any]:
    return _result("engines.json")


def matrix() -> Iterator[str]:
    """What the compiler makes of every precision for every kind of GPU."""
    found = _matrix()
    order = {word: place for place, word in enumerate((*MATRIX_TARGETS, *MATRIX_PRECISIONS))}
    yield (
        f"| {found['size']} | activations | kernels per block | attention fused | products of a block | "
        "whole pipeline | roofline of a chunk: transformer | decoder | all |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in sorted(found["rows"], key=lambda row: (order[row["target"]], order[row["precision"]])):
        products = ", ".join(f"{count:g} {_TYPES.get(word, word)}" for word, count in row["products"].items())
        yield (
            f"| {row['sm']}, {row['precision']}{_age(row)} | {row['arena'] / 1e6:.0f} MB | "
            f"{row['kernels_per_block']:g} | {100 * row['fused'] / row['attentions']:.0f} % | {products} | "
            f"{row['pipeline'] / 1e9:.2f} GB | {row['dit']:.0f} ms | 6 x {row['decode']:.1f} ms | "
            f"**{row['chunk']:.0f} ms** |"
        )


_SUMMARY = {
    "decoder: activations": "decoder_arena",
    "DiT, n + 1 latents: activations": "arena",
    "DiT: kernels per block": "kernels_per_block",
    "whole pipeline on the GPU, 30 blocks (projected)": "pipeline",
}
"""What is shown of the network as published and as exported: rows of the comparison, and their fields in the matrix."""
_UNITS = {"MB": 1e6, "GB": 1e9}


def compiled() -> Iterator[str]:
    """Engines for an RTX 5090 in short: the network as published, and every precision of ours."""
    plain = _rows("slice-1920x1080-fp16-rtx-1.7.1.json")
    ours = {row["precision"]: row for row in _matrix()["rows"] if row["target"] == "rtx5090"}
    names = (f"{one}{_age(ours[one])}" for one in MATRIX_PRECISIONS)
    yield f"| {_matrix()['size']} | plain export, FP16 | {' | '.join(names)} |"
    yield "|---|---|" + "---|" * len(MATRIX_PRECISIONS)
    for what, name in _SUMMARY.items():
        unit = plain[what]["unit"]
        values = [plain[what]["plain"], *(ours[one][name] / _UNITS.get(unit, 1) for one in MATRIX_PRECISIONS)]
        yield f"| {what} | {' | '.join(_number(value, unit) for value in values)} |"


def _rows(name: str) -> Mapping[str, Mapping[str, Any]]:
    return {row["what"]: row for row in _result(name)["rows"]}


def _age_of(name: str) -> str:
    found = _result(name)
    return _age(found["recipe"] | {"form": found["form"]})


def _result(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return found


def _is_amount(row: Mapping[str, Any]) -> bool:
    return bool(row["unit"] in ("MB", "GFLOP", "TFLOP", "GB"))


def _number(value: float, unit: str) -> str:
    if unit == "of all":
        return f"{100 * value:.0f} %"
    return f"{value:.0f} MB" if unit == "MB" else f"{value:.4g} {unit}".strip()


def paired() -> Iterator[str]:
    """The bundle against the plain torch network, in runs in which both took turns."""
    runs = {path.stem.removeprefix("paired-"): read_run(path) for path in sorted(RESULTS.glob("paired-*.json"))}
    yield "| bundle / torch | core, processor time | file, processor time | core, time | file, time | peak RAM |"
    yield "|---|---|---|---|---|---|"
    for name, run in runs.items():
        changes = {change.before.name: change for change in sides_of(run, "torch")}
        names = ("cpu_per_frame", "file_cpu_per_frame", "chunk", "file_s", "rss_bytes")
        cells = (_ratio(changes[one].ratio) if one in changes else "" for one in names)
        yield f"| `{name}` | {' | '.join(cells)} |"
    for where in dict.fromkeys(map(_where, runs.values())):
        yield ""
        yield f"{where}."


def _where(run: BenchRun) -> str:
    one_thread = "--threads" in run.argv and run.argv[run.argv.index("--threads") + 1] == "1"
    return f"{run.host.cpu}, {run.host.cpus} CPUs{', one thread' if one_thread else ''}, {run.began[:10]}"


def _ratio(found: RatioInterval) -> str:
    return f"{found.value:.2f}" if found.low is None else f"{found.value:.2f} ({found.low:.2f} ... {found.high:.2f})"


PARTS: Mapping[str, Callable[[], Iterator[str]]] = {
    "projection": projection,
    "expected": expected,
    "paired": paired,
    "protocols": protocols,
    "install": install,
    "counted": counted,
    "compiled": compiled,
    "matrix": matrix,
}


def renewed(text: str) -> str:
    """A document with its generated parts as they should be."""
    return _PART.sub(lambda part: part[1] + "\n".join(PARTS[part[2]]()) + "\n" + part[4], text)


def documents() -> list[Path]:
    """README and all documents that have generated parts."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [path for path in paths if _PART.search(path.read_text(encoding="utf-8"))]


def main() -> None:
    """Write all generated documents."""
    PAGE.write_text(render(read_facts(FACTS)), encoding="utf-8")
    for path in documents():
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
