"""How things are measured, as data: protocols say on which frames, presets say what a machine is asked.

`docs/benchmarking.md` describes both in words.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...engines.bundle.checkpoints import DEMO, PUBLISHED
from ...errors import MisuseError
from .record import SUITES

SAMPLE = "sample"
"""The clip that ships with this package: small, noisy and compressed."""
MOVING = "moving"
"""A made-up clip of any size: gradients and edges that move."""


@dataclass(frozen=True)
class Protocol:
    """The frames of a case, and how often what is done to them.

    width, height     of the output; input_width, input_height of the input
    clip_len          frames of a chunk in the middle of a stream
    frames            of the clip
    warm_up, chunks   chunks that are not counted, and the most that are. A stream's first chunks record and capture
    seconds           no further chunk is begun after that long, but three are always counted
    requests          how often the whole clip is restored; the first time does not count if there are several
    clip              `SAMPLE` or `MOVING`
    """

    name: str
    text: str
    width: int
    height: int
    input_width: int
    input_height: int
    clip_len: int = 24
    frames: int = 361
    warm_up: int = 4
    chunks: int = 60
    seconds: float = 20.0
    requests: int = 2
    clip: str = MOVING

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"


def _paper(name: str, width: int, height: int) -> Protocol:
    text = f"the paper's: 24-frame chunks, {width}x{height} from half of both sides"
    return Protocol(name, text, width, height, width // 2, height // 2)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        _paper("paper-1080p", 1920, 1080),
        _paper("paper-1440p", 2560, 1440),
        _paper("paper-2160p", 3840, 2160),
        Protocol("ports", "the ports': 640x360 to 2560x1440, 361 frames, first request dropped", 2560, 1440, 640, 360),
        Protocol("short-chunks", "8-frame chunks at 1920x1080, for live use", 1920, 1080, 960, 540, clip_len=8),
        Protocol(
            "gpu-test",
            "what make gpu-test measures: half a minute for each bundle",
            *(1920, 1080, 960, 540),
            frames=120,
            requests=1,
        ),
        Protocol(
            "cpu", "24-frame chunks at 512x288, for processors", 512, 288, 256, 144, frames=52, warm_up=1, chunks=3
        ),
        Protocol(
            "small",
            "8-frame chunks at 256x144, to compare programs on a processor",
            *(256, 144, 128, 72),
            clip_len=8,
            frames=28,
            warm_up=1,
            chunks=4,
            requests=1,
        ),
        Protocol(
            "quick",
            "8-frame chunks of the sample clip at 640x360: a look, not a result",
            *(640, 360, 320, 180),
            clip_len=8,
            frames=20,
            warm_up=1,
            chunks=4,
            requests=1,
            clip=SAMPLE,
        ),
        Protocol(
            "trial",
            "two short chunks of tiny frames: shows that the tool works",
            *(96, 64, 48, 32),
            clip_len=8,
            frames=20,
            warm_up=1,
            chunks=3,
            requests=1,
        ),
    )
}


@dataclass(frozen=True)
class Preset:
    """What a machine is asked. precisions: None stands for the usual one of the target."""

    name: str
    text: str
    checkpoint: str
    target: str
    precisions: tuple[str | None, ...]
    protocols: tuple[str, ...]
    suites: tuple[str, ...] = SUITES


_PAPER = ("paper-1080p", "paper-1440p", "paper-2160p", "ports", "short-chunks")
PRESETS = {
    preset.name: preset
    for preset in (
        Preset("rtx5090", "an RTX 50 with the published weights", str(PUBLISHED), "rtx5090", ("fp8", "fp16"), _PAPER),
        Preset("h100", "an H100 with the published weights", str(PUBLISHED), "h100", ("fp8", "fp16"), _PAPER),
        Preset("cpu", "a processor with the demonstration model", DEMO, "cpu", (None,), ("cpu",)),
        Preset("quick", "a look at this machine, with the demonstration model", DEMO, "auto", (None,), ("quick",)),
    )
}


def find_protocol(name: str) -> Protocol:
    """Raises `MisuseError` for an unknown name."""
    if name not in PROTOCOLS:
        raise MisuseError(f"the protocol {name!r} is not known, expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
