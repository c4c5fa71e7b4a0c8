"""`restore_file`: what `swiftvr-run INPUT OUTPUT` does, as one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypedDict, Unpack

from ...errors import MisuseError
from ...text import parse_seconds
from ..media import SinkOptions
from ..media.source_options import SourceOptions
from ..media.trim import Trim
from .bundle_request import BundleRequest
from .display import Result
from .inputs import find_inputs
from .job import Restored
from .run import RunOptions, restore_one

OnProgress = Callable[[int, int | None, float | None], None]
"""Called with the frames done, the frames expected, and the seconds to go; the last two are None while unknown."""


class RestoreOptions(TypedDict, total=False):
    """The options of `restore_file`, named and meant as those of `swiftvr-run`; see the classes they belong to."""

    # BundleRequest
    bundle: str | Path | None
    checkpoint: str | Path | None
    resolution: str | None
    upscale: float | None
    precision: str | None
    target: str
    clip_len: int
    cache: str | Path | None
    # SinkOptions
    codec: str | None
    crf: float | None
    preset: str | None
    audio_fallback: str
    pix_fmt: str | None
    extra: tuple[tuple[str, str], ...]
    overwrite: bool
    audio: bool
    subtitles: bool
    data: bool
    metadata: bool
    out_format: str | None
    # SourceOptions
    in_format: str | None
    deinterlace: str
    vf: str | None
    allow_playlist: bool
    alpha: str | None
    assume_sdr: bool
    tonemap: bool
    # Trim; times in seconds, or as text such as "1:30"
    start: Fraction | float | str | None
    duration: Fraction | float | str | None
    frames: int | None
    # RunOptions
    rate: Fraction | int | str | None
    hwaccel: str
    device: str | None
    threads: int | None
    ort_graphs: bool
    graphs: bool
    overlap: bool
    trace: str | Path | None
    strict: bool
    resume: bool
    keep_going: bool
    scene_cut: str
    tile: str | None


_REQUEST = ("bundle", "checkpoint", "resolution", "upscale", "precision", "target", "clip_len", "cache")
_SINK = (
    "codec",
    "crf",
    "preset",
    "pix_fmt",
    "extra",
    "overwrite",
    "audio",
    "audio_fallback",
    "subtitles",
    "data",
    "metadata",
    "out_format",
)
_READING = ("in_format", "deinterlace", "vf", "allow_playlist", "alpha", "assume_sdr", "tonemap")
_TIMES = ("start", "duration")
_PATHS = ("bundle", "cache", "trace")


def restore_file(
    source: str | Path,
    output: str | Path,
    *,
    on_progress: OnProgress | None = None,
    **options: Unpack[RestoreOptions],
) -> Restored:
    """Restore a video, an image or a folder of images into `output`, which appears when it is complete.

        restored = restore_file("old.mp4", "new.mp4", bundle="bundle-1080p", crf=20)
        print(restored.frames, restored.notes)

    A string that ends with a slash names a folder. on_progress: see `OnProgress`; called a few times a second in the
    calling thread, and once when the file is complete. What it raises before ends the run. options: see
    `RestoreOptions`; without a bundle, one is found in the cache, or built from `checkpoint`, as `swiftvr-run` does.

    Returns the path, the number of frames, the seconds, and notes about what is lost. Raises a `SwiftVRError` that says
    what to do, for example `MisuseError` for options that exclude each other, `MediaError` for a file that is no video,
    and `MachineError` if the input is incomplete; the output then holds what could be restored.
    """
    run = _run_options(source, output, dict(options))
    inputs = find_inputs(run.sources, run.output)
    if inputs.is_batch:
        raise MisuseError(f"{source} is a folder of videos, expected one input: call restore_file for each video in it")
    restored = restore_one(run.on_this_machine(), _Callback(on_progress))
    notes = (*inputs.warnings, *restored.notes)
    return replace(restored, notes=notes)


def _run_options(source: str | Path, output: str | Path, given: dict[str, Any]) -> RunOptions:
    unknown = given.keys() - RestoreOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"restore_file() got an unexpected option {sorted(unknown)[0]!r}")
    for name in _PATHS:
        if given.get(name) is not None:
            given[name] = Path(given[name])
    if given.get("rate") is not None:
        try:
            given["rate"] = Fraction(given["rate"])
        except (ValueError, ZeroDivisionError):
            raise MisuseError(f"rate is {given['rate']!r}, expected frames per second, e.g. 25 or 24000/1001") from None
    for name in _TIMES:
        if given.get(name) is not None:
            given[name] = _seconds(name, given[name])
    request = BundleRequest(**{name: given.pop(name) for name in _REQUEST if name in given})
    sink = SinkOptions(**{name: given.pop(name) for name in _SINK if name in given})
    trim = Trim(**{name: given.pop(name) for name in (*_TIMES, "frames") if name in given})
    reading = SourceOptions(**{name: given.pop(name) for name in _READING if name in given})
    return RunOptions((Path(source),), str(output), request=request, sink=sink, trim=trim, reading=reading, **given)


def _seconds(name: str, given: Any) -> Fraction:
    try:
        return parse_seconds(given) if isinstance(given, str) else Fraction(given)
    except (ValueError, OverflowError, TypeError):
        raise MisuseError(f"{name} is {given!r}, expected seconds or a time such as '1:30'") from None


class _Callback:
    """A display that passes on progress and nothing else."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress

    def begin(self, files: Sequence[tuple[str, str]]) -> None: ...

    def say(self, line: str, name: str = "") -> None: ...

    def warn(self, line: str, name: str = "") -> None: ...

    def update(self, _name: str, done: int, total: int | None, remaining: float | None) -> None:
        if self._on_progress is not None:
            self._on_progress(done, total, remaining)

    def show_nodes(self, frames: Mapping[str, int]) -> None: ...

    def finish(self, name: str) -> None: ...

    def result(self, result: Result, name: str = "") -> None: ...
