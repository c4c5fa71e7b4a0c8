"""How much of the roofline kernels reach on this machine's GPU: the shapes that decide, run by torch.

    python -m benchmarks.gpu_kernels                    # the published network at 1920x1080
    python -m benchmarks.gpu_kernels BUNDLE...          # folders of bundles, or their files STAGE.report.json
    python -m benchmarks.gpu_kernels --json kernels.json

Needs an NVIDIA GPU and torch with CUDA; neither TensorRT nor the weights. The shapes are those of the kernels that the
compiler listed in the reports of a bundle: every matrix product (in 16 bits, FP8 and INT8), fused attention,
convolution (channels last) and norm, and copies from pinned memory, alone and beside a product. torch's kernels stand
for those of TensorRT, so this says what the GPU can do with a shape, not what an engine does.

The efficiency is the time by the roofline of docs/roofline.md divided by the measured one. It is missing where a peak
rate is not known. Runs follow each other on the same tensors, which stay in the GPU's cache if they are small: such a
shape may come out above its roofline. `--device cpu` tests this program with the smallest shapes, and says that it is
no figure.

The shapes of the published network are in `results/gpu-kernel-shapes-1920x1080.json`, from engines of two of its blocks
in fp16 (`tests/oracle/make_checkpoint.py slice`). `--shapes FILE` writes those of other bundles.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch

from swiftvr_trt.engines.bundle.card_names import find_card
from swiftvr_trt.engines.bundle.cards import Card
from swiftvr_trt.engines.compile.log import ATTENTION, CONV, ELEMENTWISE, GEMM
from swiftvr_trt.engines.compile.report import SUFFIX, CompiledKernel, read_report
from swiftvr_trt.engines.report.roofline import kernel_seconds_of
from swiftvr_trt.errors import MisuseError, SwiftVRError

SHAPES = Path(__file__).parent / "results" / "gpu-kernel-shapes-1920x1080.json"
REPEATS = 20
LEAST_SECONDS, MOST_RUNS = 2e-3, 20
"""Runs that follow each other until they have taken so long are timed together, but not more than so many."""
HEAD_START = 20_000_000
"""Cycles for which the GPU waits (10 ms at 2 GHz) while the host launches what is timed; a launch takes up to 40 us."""
CPU_FLOPS, CPU_BYTES = 10**7, 10**6
"""The largest cases that `--device cpu` runs."""
COPY, COPY_BESIDE = "pinned copy", "pinned copy beside a product"
_BYTES = {"FP8": 1, "Int8": 1, "Float": 4}
NOT_A_GPU = "NOT A FIGURE OF A GPU: run on the CPU with the smallest shapes, to test this program"


@dataclass(frozen=True)
class Case:
    """One shape, and what torch does with it.

    sizes: of a product M, N, K; of attention batch, queries, keys, head; of a convolution batch, inputs, outputs,
    height and width of the input, side of the kernel, stride (negative: transposed); else elements.
    flops, nbytes: of one run, each tensor read or written once. count: how often one run of the reported stages has it.
    """

    kind: str
    precision: str
    sizes: tuple[int, ...]
    flops: int
    nbytes: int
    count: int = 1


@dataclass(frozen=True)
class Timed:
    """A case and its median time. roofline: the least time in seconds, None if the peak rates are not known."""

    case: Case
    seconds: float
    roofline: float | None

    @property
    def efficiency(self) -> float | None:
        return None if self.roofline is None else self.roofline / self.seconds


def cases_of(kernels: Iterable[CompiledKernel]) -> list[Case]:
    """The cases that these kernels stand for, equal ones counted, the one with most operations first."""
    counts: dict[Case, int] = {}
    for kernel in kernels:
        for case in _cases_of_one(kernel):
            counts[case] = counts.get(case, 0) + 1
    cases = [Case(**{**vars(case), "count": count}) for case, count in counts.items()]
    return sorted(cases, key=lambda case: (case.kind, -case.flops, -case.nbytes, case.sizes, case.precision))


def _cases_of_one(kernel: CompiledKernel) -> Iterator[Case]:
    ins, constants, outs = (
        [_dims(words) for words in part] for part in (kernel.inputs, kernel.constants, kernel.outputs)
    )
    if kernel.kind == GEMM:
        weights = max((dims for dims in constants if len(dims) == 2), key=math.prod, default=())
        if len(weights) == 2 and kernel.flops:
            yield from products(kernel.flops // (2 * math.prod(weights)), weights[1], weights[0])
    elif kernel.kind == ATTENTION and len(ins) > 1 and len(ins[0]) == 3:
        batch, queries, head = ins[0]
        keys = math.prod(ins[1]) // (batch * head)
        nbytes = 2 * batch * head * 2 * (queries + keys)
        yield Case(ATTENTION, "Half", (batch, queries, keys, head), 4 * batch * queries * keys * head, nbytes)
    elif kernel.kind == CONV:
        filters = next((dims for dims in constants if len(dims) == 4 and dims[2] > 1), ())
        if filters and ins and len(ins[0]) == 4:
            yield convolution(ins[0], filters, outs[0])
    elif kernel.kind == ELEMENTWISE and ins:
        elements = max(map(math.prod, ins))
        for precision in ("Float", "BFloat16"):
            size = _BYTES.get(precision, 2)
            yield Case(ELEMENTWISE, precision, (elements,), 0, 2 * elements * size)


def products(m: int, n: int, k: int) -> Iterator[Case]:
    """A matrix product in every precision that torch can multiply in."""
    for precision in ("BFloat16", "FP8", "Int8"):
        nbytes = _BYTES.get(precision, 2) * (m * k + k * n) + (4 if precision == "Int8" else 2) * m * n
        yield Case(GEMM, precision, (m, n, k), 2 * m * n * k, nbytes)


def convolution(image: Sequence[int], weights: Sequence[int], result: Sequence[int]) -> Case:
    """A convolution in FP16; transposed if its result is larger than the image."""
    batch, channels, height, width = image
    side, grows = weights[2], result[2] > height
    stride = -(result[2] // height) if grows else height // result[2]
    flops = 2 * math.prod(weights) * batch * (height * width if grows else result[2] * result[3])
    nbytes = 2 * (math.prod(image) + math.prod(weights) + math.prod(result))
    return Case(CONV, "Half", (batch, channels, result[1], height, width, side, stride), flops, nbytes)


def _dims(words: str) -> tuple[int, ...]:
    """`Half 6x16` -> (6, 16); a scalar has none."""
    sides = words.partition(" ")[2]
    return () if sides == "scalar" else tuple(map(int, sides.split("x")))


def make(case: Case, device: torch.device) -> Callable[[], object]:
    """What runs a case once. Raises RuntimeError if torch or the GPU cannot do it in this precision."""
    if case.kind == GEMM:
        return _product(case, device)
    if case.kind == ATTENTION:
        batch, queries, keys, head = case.sizes
        q = torch.randn(batch, 1, queries, head, device=device, dtype=torch.float16)
        k, v = (torch.randn(batch, 1, keys, head, device=device, dtype=torch.float16) for _ in range(2))
        return lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v)
    if case.kind == CONV:
        return _convolution(case, device)
    dtype = torch.float32 if case.precision == "Float" else torch.bfloat16
    last = math.gcd(case.sizes[0], 1 << 10)
    stream = torch.randn(case.sizes[0] // last, last, device=device, dtype=dtype)
    return lambda: torch.nn.functional.layer_norm(stream, (last,))  # converting its result would be a second kernel


def _product(case: Case, device: torch.device) -> Callable[[], object]:
    m, n, k = case.sizes
    if case.precision == "Int8":
        a, b = (torch.randint(-8, 8, shape, device=device, dtype=torch.int8) for shape in ((m, k), (n, k)))
        return lambda: torch._int_mm(a, b.t())
    wide = [torch.randn(shape, device=device, dtype=torch.bfloat16) for shape in ((m, k), (n, k))]
    if case.precision == "BFloat16":
        return lambda: wide[0] @ wide[1].t()
    narrow = [each.to(torch.float8_e4m3fn) for each in wide]
    one = torch.ones((), device=device)
    return lambda: torch._scaled_mm(narrow[0], narrow[1].t(), one, one, out_dtype=torch.bfloat16)


def _convolution(case: Case, device: torch.device) -> Callable[[], object]:
    batch, channels, outputs, height, width, side, stride = case.sizes
    image = torch.randn(batch, channels, height, width, device=device, dtype=torch.float16)
    image = image.to(memory_format=torch.channels_last)
    kind = torch.nn.ConvTranspose2d if stride < 0 else torch.nn.Conv2d
    padding = (side - abs(stride) + 1) // 2 if stride < 0 else (side - 1) // 2
    layer: torch.nn.Module = kind(channels, outputs, side, abs(stride), padding, bias=False).to(device, torch.float16)
    layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda: layer(image)


def seconds_of(run: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """The median time of a run, after three that are not counted. On a GPU by events of its stream."""
    with torch.inference_mode():
        for _ in range(3):
            run()
        if device.type != "cuda":
            return statistics.median(_by_clock(run) for _ in range(repeats))
        together = runs_together(_by_events(run, 1))
        return statistics.median(_by_events(run, together) for _ in range(repeats))


def runs_together(seconds: float) -> int:
    """How many runs are timed as one: the more, the shorter a run is."""
    return max(1, min(MOST_RUNS, math.ceil(LEAST_SECONDS / max(seconds, 1e-9))))


def _by_events(run: Callable[[], object], runs: int) -> float:
    """The time of one of so many runs. The GPU waits until all are launched, so that this counts no launches."""
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(HEAD_START)
    began.record()
    for _ in range(runs):
        run()
    ended.record()
    ended.synchronize()
    return float(began.elapsed_time(ended)) / 1e3 / runs


def _by_clock(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def copies(device: torch.device, nbytes: int, beside: Case) -> list[Timed]:
    """Copies to a GPU from pinned memory, alone, and while it computes a product on another stream."""
    host, target = (
        torch.empty(nbytes, dtype=torch.uint8).pin_memory(),
        torch.empty(nbytes, dtype=torch.uint8).to(device),
    )
    product, other = make(beside, device), torch.cuda.Stream()

    def copy() -> None:
        target.copy_(host, non_blocking=True)

    def copy_beside() -> None:
        other.wait_stream(torch.cuda.current_stream())  # or else the product would be over before the copy begins
        with torch.cuda.stream(other):
            product()
        copy()

    return [
        Timed(Case(kind, "UInt8", (nbytes,), 0, nbytes), seconds_of(run, device), None)
        for kind, run in ((COPY, copy), (COPY_BESIDE, copy_beside))
    ]


def by_class(timed: Sequence[Timed]) -> dict[tuple[str, str], float]:
    """The efficiency of each kind and precision: the sum of the least times over that of the measured ones."""
    least: dict[tuple[str, str], float] = {}
    taken: dict[tuple[str, str], float] = {}
    for each in timed:
        if each.roofline is not None:
            key = each.case.kind, each.case.precision
            least[key] = least.get(key, 0.0) + each.roofline * each.case.count
            taken[key] = taken.get(key, 0.0) + each.seconds * each.case.count
    return {key: least[key] / taken[key] for key in least}


def table(timed: Sequence[Timed]) -> list[str]:
    """Lines for people."""
    lines = [
        f"{'kind':28} {'type':9} {'shape':32} {'runs':>4} {'ms':>9} {'TFLOP/s':>8} {'GB/s':>7} {'of roofline':>11}"
    ]
    for each in timed:
        case, share = each.case, each.efficiency
        rate, speed = case.flops / each.seconds / 1e12, case.nbytes / each.seconds / 1e9
        shape, part = "x".join(map(str, case.sizes)), "-" if share is None else f"{share:.0%}"
        lines.append(
            f"{case.kind:28} {case.precision:9} {shape:32} {case.count:4} {each.seconds * 1e3:9.4f} {rate:8.1f} "
            f"{speed:7.0f} {part:>11}"
        )
    return lines + [
        f"all {kind} in {name}: {share:.0%} of the roofline" for (kind, name), share in by_class(timed).items()
    ]


def read_cases(places: Sequence[Path]) -> list[Case]:
    """The cases of bundles or reports. Raises `MisuseError` if there is no report, `BundleError` if one is damaged."""
    files = [file for place in places for file in (sorted(place.glob(f"*{SUFFIX}")) if place.is_dir() else [place])]
    if not files:
        raise MisuseError(
            f"{places[0]} has no files *{SUFFIX}, expected a bundle of engines; build one for any RTX card"
        )
    return cases_of(kernel for file in files for stage in read_report(file).stages for kernel in stage.kernels)


def write_shapes(cases: Sequence[Case]) -> str:
    """The cases as JSON, one a line."""
    return "[\n" + ",\n".join(json.dumps(list(vars(case).values())) for case in cases) + "\n]\n"


def read_shapes(path: Path) -> list[Case]:
    """What `write_shapes` wrote."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Case(kind, precision, tuple(sizes), *counts) for kind, precision, sizes, *counts in rows]


def choose_device(name: str) -> torch.device:
    """Raises `MisuseError` if torch finds no GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise MisuseError(
            f"torch {torch.__version__} finds no NVIDIA GPU, and this measures one: run it on a machine with a GPU, "
            "its driver and torch with CUDA"
        )
    return torch.device(name)


def measure(cases: Sequence[Case], device: torch.device, card: Card | None) -> Iterator[Timed | str]:
    """Each case timed, or a line that says why it is not."""
    for case in cases:
        if device.type == "cpu" and (case.flops > CPU_FLOPS or case.nbytes > CPU_BYTES):
            continue
        try:
            seconds = seconds_of(make(case, device), device)
        except (RuntimeError, ValueError, NotImplementedError) as error:  # what torch raises for what a GPU lacks
            yield f"{case.kind} in {case.precision}, {case.sizes}: not measured ({str(error).splitlines()[0][:120]})"
            continue
        yield Timed(case, seconds, _roofline(case, card))


def _roofline(case: Case, card: Card | None) -> float | None:
    """None if the peak rate of this precision is not known."""
    if card is None or (case.precision == "Int8" and card.rate("Int8") == card.fp32):
        return None
    return kernel_seconds_of(case.precision, case.flops, case.nbytes, card)


@click.command()
@click.argument("places", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--device", "name", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures to this file.")
@click.option("--shapes", type=click.Path(path_type=Path), help="Only write the shapes to this file.")
def main(places: tuple[Path, ...], name: str, output: Path | None, shapes: Path | None) -> None:
    """Time the kernels of compiled bundles, by torch, on this machine's GPU."""
    try:
        cases = read_cases(places) if places else read_shapes(SHAPES)
        if shapes is not None:
            shapes.write_text(write_shapes(cases), encoding="utf-8")
            return
        device = choose_device(name)
        gpu = torch.cuda.get_device_name() if device.type == "cuda" else NOT_A_GPU
        card = find_card(gpu.removeprefix("NVIDIA ").removeprefix("GeForce ")) if device.type == "cuda" else None
    except SwiftVRError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{gpu}, torch {torch.__version__}{'' if card else '; peak rates not known'}")
    found = list(measure(cases, device, card))
    timed = [each for each in found if isinstance(each, Timed)]
    largest = next((case for case in cases if case.kind == GEMM and case.precision == "BFloat16"), None)
    if device.type == "cuda" and largest is not None:
        timed += copies(device, 24 * 1920 * 1080 * 3 // 2, largest)
    for line in (*table(timed), *(each for each in found if isinstance(each, str))):
        click.echo(line)
    if output is not None:
        output.write_text(json.dumps(_record(gpu, timed), indent=1) + "\n", encoding="utf-8")


def _record(gpu: str, timed: Sequence[Timed]) -> dict[str, Any]:
    """The figures as JSON, with what is needed to obtain them again."""
    rows = [{**asdict(each.case), "seconds": each.seconds, "of_roofline": each.efficiency} for each in timed]
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "command": " ".join(sys.argv)}
    return {"gpu": gpu, **versions, "kernels": rows}


if __name__ == "__main__":
    main()
