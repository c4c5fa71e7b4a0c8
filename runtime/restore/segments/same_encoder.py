"""All pieces of a video come from one encoder: the output describes its video once, as that one needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ....errors import MachineError
from ...media.base import SinkOptions
from .piece import Mark

_AGAIN = "try again once the GPU has room for it"


def as_before(options: SinkOptions, marks: Mapping[int, Mark]) -> SinkOptions:
    """The options for the next piece: in software if those before are, though NVENC may take frames meanwhile."""
    before = _encoders(marks)
    if not before or any(name.endswith("_nvenc") for name in before):
        return options
    return replace(options, gpu=None, surfaces=False)


def check_encoder(encoder: tuple[str, str], marks: Mapping[int, Mark], notes: Sequence[str] = ()) -> None:
    """Raise `MachineError` if pieces were encoded by another encoder.

    encoder: its name and its header. notes: why it is this one.
    """
    name, header = encoder
    reason = "".join(f"{note}; " for note in notes)
    if others := _encoders(marks) - {name}:
        raise MachineError(
            f"{reason}pieces encoded by {' and '.join(sorted(others))} do not join those by {name}: {_AGAIN}, or with "
            "--no-resume to restore all anew"
        )
    if any(mark.header != header for mark in list(marks.values())):
        raise MachineError(
            f"{reason}pieces encoded by another {name} do not join those by this one: go on where they were encoded, "
            "use devices of one kind, or restore all anew with --no-resume"
        )


def surfaces_refused(notes: Sequence[str]) -> MachineError:
    """NVENC takes no frames in the GPU's memory any more, where the stream leaves them. notes: why."""
    return MachineError(f"{'; '.join(notes)}, and the stream leaves them on the GPU: {_AGAIN}, or with --hwaccel cuda")


def _encoders(marks: Mapping[int, Mark]) -> set[str]:
    return {mark.encoder for mark in list(marks.values())}
