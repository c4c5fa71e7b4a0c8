"""Tries this installation: decodes, restores and encodes three frames on the CPU.

It restores with a tiny bundle of random weights that ships with the package. So it needs neither torch nor a
checkpoint, and takes a second. `scripts/make_trial_bundle.py` writes that bundle.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..errors import MachineError, message_of
from ..export.moving_picture import synthetic_frame
from ..runtime.media import Colour, Picture, SourceInfo, Stamp, open_sink, open_source
from ..runtime.restore.pipeline import restore_media
from ..runtime.restore.restorer import Restorer

BUNDLE = Path(__file__).parent / "trial_bundle"
OUT = 96, 64
"""Width and height of the restored frames. The frames to restore have half of both."""
FRAMES = 3
_FRAME_S = Fraction(1, 25)


@dataclass(frozen=True)
class Trial:
    """What worked: how the frames were decoded, restored and encoded."""

    decoded: str
    restored: str
    encoded: str

    def __str__(self) -> str:
        return (
            f"this installation works: {FRAMES} frames decoded ({self.decoded}), restored ({self.restored}) "
            f"and encoded ({self.encoded})"
        )


def try_installation() -> Trial:
    """Restore a video of three frames in a temporary folder. Raises `MachineError`, naming the step that failed."""
    step = "writing a file"
    try:
        with tempfile.TemporaryDirectory(prefix="swiftvr-") as folder:
            source, output = Path(folder) / "in.mp4", Path(folder) / "out.mp4"
            step = "encoding"
            _write(source)
            step = "restoring"
            trial = _restore(source, output)
            step = "decoding the result"
            _check(output)
            return trial
    except Exception as error:  # whatever a library raises is what the user wants to know
        raise MachineError(f"the trial failed at {step}: {message_of(error)}") from error


def _write(path: Path) -> None:
    pictures = [Picture(synthetic_frame(i, *_half()), Stamp(i, i, 1, _FRAME_S)) for i in range(FRAMES)]
    height, width = _half()
    info = SourceInfo(Path("frames"), width, height, FRAMES, 1 / _FRAME_S, _FRAME_S, Colour(), None, "a moving picture")
    with open_sink(path, info, width, height) as sink:
        for picture in pictures:
            sink.write(picture)
        sink.commit()


def _restore(path: Path, output: Path) -> Trial:
    with (
        open_source(path) as source,
        open_sink(output, source.info, *OUT) as sink,
        Restorer.open(BUNDLE, device="cpu") as restorer,
        restorer.session() as session,
    ):
        restore_media(session, source, sink)
        return Trial(source.info.description, "ONNX Runtime on the CPU", sink.description)


def _check(path: Path) -> None:
    with open_source(path) as source:
        sizes = [item.pixels.shape for item in source if isinstance(item, Picture)]
    if sizes != [(OUT[1], OUT[0], 3)] * FRAMES:
        raise MachineError(f"{sizes} came back, expected {FRAMES} frames of {OUT[0]}x{OUT[1]}: reinstall av")


def _half() -> tuple[int, int]:
    """Height and width of the frames to restore."""
    return OUT[1] // 2, OUT[0] // 2
