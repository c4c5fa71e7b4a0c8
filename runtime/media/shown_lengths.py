"""How long frames are shown, where the container says how long they are decoded, as MP4 and MOV do.

There, a duration is the time from one decoding time to the next. With reordered frames, a pause in the video is then
the duration of a frame that is shown later. Only the end is certain: all durations add up to the length of the video.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_BY_DECODING = "mov"
"""The demuxer of MP4, MOV and their kin."""


def misplaces_lengths(container: InputContainer, stream: VideoStream) -> bool:
    """True if the durations of a video may be those of other frames."""
    return _BY_DECODING in container.format.name.split(",") and bool(stream.codec_context.has_b_frames)


class ShownLengths:
    """The lengths of the frames of a video, from the packets that were read so far. In ticks of the video."""

    def __init__(self, *, misplaced: bool) -> None:
        """misplaced: durations may be those of other frames. If not, they are taken as they are."""
        self.misplaced = misplaced
        self._decoded = cast(int | None, None)
        self._first = self._latest = self._sum = 0

    def note(self, pts: int | None, dts: int | None, duration: int | None) -> None:
        """The next packet of the video, in file order."""
        if pts is None or dts is None:
            return
        if self._decoded is None:
            self._decoded, self._first, self._latest = dts, pts, pts
        self._first, self._latest = min(self._first, pts), max(self._latest, pts)
        self._sum = dts + (duration or 0) - self._decoded

    def of(self, pts: int | None, duration: int, step: int) -> int:
        """How long the frame at `pts` is shown. duration: of its packet, 0 if unknown. step: that of the frame
        rate.

        If durations are misplaced, the last frame lasts until the end, and others last one step at most.
        """
        if not self.misplaced or pts is None:
            return duration
        usual = min(duration, step)
        return max(usual, self._first + self._sum - pts) if pts == self._latest else usual
