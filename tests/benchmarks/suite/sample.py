"""A record with something in every field, as a run on a GPU would write it. The numbers are made up."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.pictures import write_picture
from swiftvr_trt.benchmarks.suite.metrics import figure, sampled
from swiftvr_trt.benchmarks.suite.record import (
    BenchRun,
    Case,
    Clip,
    Figure,
    GraphicsCard,
    HostFacts,
    How,
    KernelClass,
    Peer,
    Roofline,
    ShownFrame,
    State,
    Subject,
)

JSON = Path(__file__).with_name("sample.json")
"""`sample_run()`, written."""
PROTOCOL = "paper"
_SIZES = (("1920x1080", 16.1), ("2560x1440", 28.4), ("3840x2160", 64.2))


def sample_run(scratch: Path) -> BenchRun:
    """scratch: a folder for pictures."""
    host = HostFacts(
        cpu="Example CPU",
        cpus=16,
        memory_bytes=64 << 30,
        system="Linux 6.8 x86_64",
        load=0.1,
        versions={"swiftvr-trt": "0.1.0", "python": "3.12.1", "TensorRT-RTX": "1.7.1.116"},
        gpu=GraphicsCard("NVIDIA GeForce RTX 5090", "580.65.06", "12.0", 32 << 30, 575.0, 3090.0),
    )
    cases = [case for size, chunk in _SIZES for case in (_core(size, chunk), _file(size, chunk))]
    cases += [_memory(), *(_quality(precision, psnr, scratch) for precision, psnr in (("fp16", 58.0), ("fp8", 45.5)))]
    cases += [_broken(), *map(_in_short_chunks, (_core(_SIZES[0][0], 18.2), _memory(), _quality("fp8", 44.9)))]
    clips = (Clip("moving-640x360", "0" * 64, 640, 360, 361, 25.0),)
    argv = ("swiftvr-bench", "--preset", "rtx5090")
    return BenchRun(argv, "0.1.0", "2026-11-29T02:00:00Z", host, tuple(cases), clips, (_peer(),), 312.5, State.DONE)


def _subject(size: str, precision: str = "fp8", side: str = "bundle") -> Subject:
    width, height = map(int, size.split("x"))
    return Subject(side, "SwiftVR", "1" * 64, precision, "rtx5090", "NVIDIA GeForce RTX 5090", width, height, 24)


def _core(size: str, per_frame: float) -> Case:
    chunks = [24 * per_frame * (1 + 0.01 * np.sin(turn)) for turn in range(20)]
    figures = [
        sampled("chunk", chunks, How.MEASURED, PROTOCOL),
        sampled("core_fps", [24e3 / chunk for chunk in chunks], How.MEASURED, PROTOCOL),
        *(
            sampled(f"stage.{stage}", [part * chunk for chunk in chunks], How.MEASURED, PROTOCOL)
            for stage, part in (("encode", 0.1), ("dit", 0.55), ("decode", 0.35))
        ),
        figure("roof_fps", 1e3 / per_frame / 0.6, How.PROJECTED, "roofline"),
        figure("projected_fps", 1e3 / per_frame / 0.9, How.PROJECTED, "roofline x 0.57", "51 to 70 FPS"),
    ]
    kinds = (
        KernelClass("encode", "conv", "FP16", 40, 2 << 40, 6 << 30, 10.0, 0.6),
        KernelClass("dit", "gemm", "FP8", 210, 60 << 40, 20 << 30, 140.0, 1.0),
        KernelClass("dit", "attention", "FP8", 60, 20 << 40, 8 << 30, 50.0, 1.0),
        KernelClass("dit", "other", "FP32", 240, 0, 30 << 30, 20.0, 0.0),
        KernelClass("decode", "conv", "FP16", 60, 12 << 40, 20 << 30, 60.0, 0.9),
    )
    roofline = Roofline("RTX 5090", {"FP16": 209.5e12, "FP8": 419e12}, 1792e9, kinds)
    return _case("core", _subject(size), tuple(figures), roofline=roofline, notes=("GPU clock fell by 3 %",))


def _file(size: str, per_frame: float) -> Case:
    seconds = [361 * per_frame / 1e3 * 1.2] * 3
    return _case(
        "file",
        _subject(size),
        (
            sampled("file_s", seconds, How.MEASURED, PROTOCOL),
            sampled("file_fps", [361 / one for one in seconds], How.MEASURED, PROTOCOL),
            sampled("real_time", [361 / 25 / one for one in seconds], How.MEASURED, PROTOCOL),
            figure("frames_in", 361, How.MEASURED, PROTOCOL),
            figure("frames_out", 361, How.MEASURED, PROTOCOL),
        ),
    )


def _memory() -> Case:
    parts = {"weights": 4.2e9, "arena": 0.83e9, "frames": 0.35e9, "state": 0.46e9, "latents": 1e7}
    figures = [figure(f"memory.{part}", size, How.COMPILED, PROTOCOL) for part, size in parts.items()]
    figures.append(figure("planned_bytes", sum(parts.values()), How.COMPILED, PROTOCOL))
    figures.append(figure("device_bytes", 6.4e9, How.MEASURED, PROTOCOL))
    figures.append(figure("rss_bytes", 1.9e9, How.MEASURED, PROTOCOL))
    return _case("memory", _subject("1920x1080"), tuple(figures))


def _quality(precision: str, psnr: float, scratch: Path | None = None) -> Case:
    """scratch: where pictures are made; without it, there are none."""
    note = "against float32"
    psnrs = [psnr + 0.5 * np.sin(number) for number in range(24)]
    figures = (
        sampled("psnr", psnrs, How.MEASURED, PROTOCOL, note),
        sampled("ssim", [0.99 + 0.001 * np.sin(number) for number in range(24)], How.MEASURED, PROTOCOL, note),
        sampled("temporal_error", [0.2] * 23, How.MEASURED, PROTOCOL, note),
    )
    frames = tuple(
        ShownFrame(
            number,
            number / 25,
            _picture(scratch, 96),
            _picture(scratch, 160),
            (0, 0, 64, 36),
            (figure("psnr", psnrs[number], How.MEASURED, PROTOCOL, note),),
        )
        for number in ((0, 12) if scratch else ())
    )
    return _case("quality", _subject("1920x1080", precision), figures, frames=frames)


def _picture(scratch: Path | None, level: int) -> str:
    assert scratch is not None
    path = scratch / f"{level}.png"
    write_picture(path, np.full((36, 64, 3), level, np.uint8))
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _broken() -> Case:
    problem = "GPU memory ran out: 30.1 GB are needed, 24.0 GB are free; choose a smaller resolution"
    return _case("core", _subject("7680x4320"), (), state=State.FAILED, problem=problem)


def _in_short_chunks(case: Case) -> Case:
    """The case under a second protocol, of the same size."""
    return replace(case, protocol="short-chunks", subject=replace(case.subject, digest="2" * 64, clip_len=8))


def _case(suite: str, subject: Subject, figures: tuple[Figure, ...], **more: object) -> Case:
    name = f"{suite} {subject.side} {subject.size} {subject.precision}"
    values: dict[str, object] = {"clip": "moving-640x360", "state": State.DONE, **more}
    return Case(name, suite, subject, PROTOCOL, figures=figures, **values)  # type: ignore[arg-type]


def _peer() -> Peer:
    speed = Figure("core_fps", 22.4, "FPS", How.PUBLISHED, "core", "memory to memory, measured by others")
    address = "https://github.com/H-oliday/SwiftVR"
    return Peer("published code", address, "2026-11-29", "RTX 5090", 1920, 1080, "bf16", speed)


if __name__ == "__main__":
    import tempfile

    from swiftvr_trt.benchmarks.suite.record import write_run

    with tempfile.TemporaryDirectory() as folder:
        write_run(sample_run(Path(folder)), JSON)
