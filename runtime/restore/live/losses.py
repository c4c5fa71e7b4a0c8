"""What the output lacks of a live source: whole streams, and what is attached to frames. Each is said once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....text import counted
from ...media.alpha import has_alpha, is_opaque
from ...media.kept import about_lost, lost_side_data
from ...media.promise import is_cover

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_TRANSPARENCY = "transparency"
_LOOK_EVERY = 25
"""Frames of which one is looked at for transparency."""
_MOST_LINES = 20
"""That are kept of a source which may be opened again for months."""


@dataclass(frozen=True)
class LeftOut:
    """Streams that go no further. kind: as in `CopiedStream`, or "video". line: about them, for people."""

    kind: str
    line: str


def left_out(streams: Iterable[Any], taken: Collection[int]) -> Iterator[LeftOut]:
    """Those of a connection that no output gets, by their kinds. taken: numbers of those that are dealt with."""
    found = defaultdict[str, list[str]](list)
    for stream in streams:
        if stream.index not in taken:
            kind = "cover" if stream.type == "video" and is_cover(stream) else stream.type or "unknown"
            found[kind].append(_codec_of(stream))
    for kind, codecs in found.items():
        count = counted(len(codecs), _NAMES.get(kind, f"{kind} stream"))
        named = ", ".join(dict.fromkeys(codecs))
        verb = "is" if len(codecs) == 1 else "are"
        yield LeftOut(kind, f"{count} ({named}) {verb} left out: a live run passes on one video and sound")


_NAMES = {"video": "further video stream", "cover": "cover picture"}


def _codec_of(stream: Any) -> str:
    context = stream.codec_context
    return str(getattr(stream, "name", None) or "unknown codec" if context is None else context.name)


class StreamLosses:
    """Notes the streams that the output lacks though they were wanted. lines: about them; the oldest ones."""

    def __init__(self, wants: Callable[[str], bool], say: Callable[[str], None]) -> None:
        """wants: whether streams of a kind are wanted. say: gets each line once."""
        self._wants, self._say = wants, say
        self.lines: tuple[str, ...] = ()

    def add(self, lost: Iterable[LeftOut]) -> None:
        for each in lost:
            if self._wants(each.kind) and each.line not in self.lines and len(self.lines) < _MOST_LINES:
                self.lines += (each.line,)
                self._say(each.line)


class FrameLosses:
    """Notes what the output lacks of what is attached to frames, and of their transparency."""

    def __init__(self) -> None:
        self._told = set[str]()
        self._hidden = False
        self._until_look = 0

    def begin(self, frame: VideoFrame, video: VideoStream) -> None:
        """Frames like this one follow, of this stream."""
        # FFmpeg's decoder of VP9 and VP8 leaves out what WebM stores beside the picture.
        self._hidden = video.metadata.get("alpha_mode") == "1" and not has_alpha(frame)
        self._until_look = 0

    def lines(self, frame: VideoFrame, attached: Mapping[str, bytes], notes: tuple[str, ...]) -> tuple[str, ...]:
        """A line about what is lost of this frame and was not said before.

        attached: its side data. notes: on the source; they may say it of HDR's.
        """
        lost = lost_side_data(attached, notes) | ({_TRANSPARENCY} if self._is_transparent(frame) else set())
        new = lost - self._told
        self._told |= new
        return about_lost(new)

    def _is_transparent(self, frame: VideoFrame) -> bool:
        """Whether something shows through, as far as that is looked at: it takes a while for large frames."""
        if _TRANSPARENCY in self._told:
            return False
        look = self._until_look == 0
        self._until_look = _LOOK_EVERY - 1 if look else self._until_look - 1
        return self._hidden or (look and not is_opaque(frame))
