"""Quality: how close the restored frames are to float32 and to the undamaged clip, and what they look like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import MachineError, MissingPackageError, MisuseError
from ...page.pictures import as_webp, data_uri, resized
from ...runtime.stream.session import Frame
from .clips import describe_clip, read_frames
from .float32 import comparable, in_float32
from .likeness import frame_psnrs, frame_ssims, frame_vmafs, temporal_errors
from .metrics import NO_PSNR, figure, sampled
from .record import Figure, How, ShownFrame
from .subjects import open_subject
from .work import CaseOrder, Findings

FLOAT32, CLEAN = "against float32", "against the undamaged clip"
MOST_FRAMES = 49
_SHOWN = 3
_MOST_PIXELS = 1280, 720
"""Of a picture in the record; larger frames are cropped."""


def measure_quality(order: CaseOrder) -> Findings:
    """Restore the clip, and compare it with what is there to compare it with."""
    protocol, size = order.protocol.name, (order.subject.width, order.subject.height)
    before = read_frames(Path(order.clip), min(order.protocol.frames, MOST_FRAMES))
    clean = _read_clean(order, len(before)) if order.clean else []
    few, notes = _to_compare(order, before)
    with open_subject(order) as subject:
        after, how, device = subject.restore(before), subject.how, subject.device
        ours = after if len(few) == len(before) else subject.restore(few) if few else []
    figures: list[Figure] = []
    if few:
        try:
            figures += _likeness(ours, in_float32(order, few), how, protocol, FLOAT32)
        except (MachineError, MissingPackageError) as error:
            notes.append(f"{NO_PSNR}: {error}")
    if clean:
        figures += _likeness(after, clean, how, protocol, CLEAN, "_clean")
        try:
            figures.append(sampled("vmaf_clean", frame_vmafs(after, clean), how, protocol, CLEAN))
        except MachineError as error:
            notes.append(f"VMAF is not measured: {error}")
        figures += _likeness([resized(frame, *size) for frame in before], clean, how, protocol, CLEAN, "_before")
    rate = describe_clip(Path(order.clip), 1).frame_rate or 25.0
    shown = tuple(_shown(before, after, figures, rate)) if order.first else ()
    return Findings(device, tuple(figures), tuple(notes), shown)


def _to_compare(order: CaseOrder, before: Sequence[Frame]) -> tuple[Sequence[Frame], list[str]]:
    """The frames to compare with float32, none if that is impossible; and why."""
    try:
        return comparable(order, before), []
    except MachineError as error:
        return (), [f"{NO_PSNR}: {error}"]


def _read_clean(order: CaseOrder, count: int) -> list[Frame]:
    """The undamaged frames."""
    frames = read_frames(Path(order.clean), count)
    height, width = frames[0].shape[:2] if frames else (0, 0)
    check_clean(Path(order.clean), (len(frames), f"{width}x{height}"), (count, order.subject.size))
    return frames


def check_clean(path: Path, found: tuple[int, str], expected: tuple[int, str]) -> None:
    """Raise `MisuseError` if the frames of `path` are fewer than the restored ones, or of another size.

    found, expected: how many, and their size.
    """
    (count, size), (least, wanted) = found, expected
    problem = ""
    if size != wanted:
        problem = f"frames of {size}, expected {wanted}"
    elif count < least:
        problem = f"{count} frame{'s' * (count != 1)}, expected {least} or more"
    if problem:
        raise MisuseError(
            f"--clean {path.name} has {problem}: the frames of the clip, undamaged and in the size of the output"
        )


def _likeness(  # many parameters: two clips, and what the figures say about them
    ours: Sequence[Frame], theirs: Sequence[Frame], how: How, protocol: str, note: str, suffix: str = ""
) -> Iterator[Figure]:
    yield sampled(f"psnr{suffix}", frame_psnrs(ours, theirs), how, protocol, note)
    yield sampled(f"ssim{suffix}", frame_ssims(ours, theirs), how, protocol, note)
    if len(ours) > 1:
        yield sampled(f"temporal_error{suffix}", temporal_errors(ours, theirs), how, protocol, note)


def _shown(
    before: Sequence[Frame], after: Sequence[Frame], figures: Sequence[Figure], rate: float
) -> Iterator[ShownFrame]:
    """The first, the middle and the last frame, with their own figures."""
    height, width = after[0].shape[:2]
    crop_width, crop_height = min(width, _MOST_PIXELS[0]), min(height, _MOST_PIXELS[1])
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    for number in sorted({0, len(after) // 2, len(after) - 1}):
        large = resized(before[number], width, height)
        shown, restored = (
            data_uri(as_webp(frame[top : top + crop_height, left : left + crop_width]))
            for frame in (large, after[number])
        )
        own = tuple(
            figure(one.name, one.samples[number], one.how, one.protocol, one.note)
            for one in figures
            if number < len(one.samples) == len(after)
        )
        crop = (left, top, crop_width, crop_height)
        yield ShownFrame(number, number / rate, shown, restored, crop, own)
