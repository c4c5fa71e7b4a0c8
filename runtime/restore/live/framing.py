"""Makes pictures to restore of the frames of a live source, whose size, format and fields may change at any time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....errors import InternalError, MediaError, MisuseError
from ...media import colour
from ...media.base import Colour, SourceInfo
from ...media.filter_graph import parse_graph
from ...media.filters import FilterChain, FilterInput, FrameFilter, Measuring, filters_of
from ...media.fitting import Fitter
from ...media.interlacing import decide
from ...media.planes import FrameReader, bits_of, form_of_frame
from ...media.probe import about_first, about_form, rate_of
from ...media.pyav import fraction
from ...media.side_data import side_data
from ...media.siting import siting_of
from ...media.source_options import SourceOptions
from ...media.tonemap import dynamics, refuse_hdr, tone_map_of
from ...stream.frames import LEFT, AnyFrame, FrameForm, owned
from .live_input import CLOCK, LiveInput
from .losses import FrameLosses

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_SAME_SHAPE = Fraction(1, 100)
_GAP_S = Fraction(1)
"""A step in time after which filters begin anew, unless frames are always as far apart."""
_MOST_UNDERWAY = 512
"""Frames inside the filters whose arrival is remembered."""
_MOVING = frozenset({"setpts", "trim"})
"""Filters that take a picture away from the sound that belongs to it, or end the stream."""


def check_live_filters(graph: str | None) -> None:
    """Raise `MisuseError` for a filter that a live stream cannot have."""
    for step in parse_graph(graph) if graph is not None else ():
        if step.name in _MOVING:
            raise MisuseError(
                f"--vf has the filter {step.name!r}, but pictures of a live stream keep their time, so that sound "
                "stays with them: leave it out"
            )


@dataclass(frozen=True)
class Framed:
    """A picture to restore.

    pts: when it is shown, in ticks of `CLOCK`. arrived: when its packet came, if known. captions: as in `Stamp`.
    """

    pixels: AnyFrame
    pts: int
    arrived: float | None
    captions: bytes | None = None


class Framer:
    """Makes pictures of the frames of all connections to a source.

    Frames of another shape than the first one are fitted into its size, with black beside them. Filters begin anew
    where size, format or time do not go on.

    first: the first frame that was to be restored, as it came out of the filters; None before. rate, aspect: frames per
    second that come out now, and the aspect of their pixels. siting: where their chroma lies. treatment: what is
    done to them, for people. notes: what is to be known of the first ones, for people. resized: how often size or
    format changed.
    """

    def __init__(self, options: SourceOptions, say: Callable[[str], None]) -> None:
        """say: gets a line about what is done differently from now on."""
        self._options, self._say = options, say
        self._kind: tuple[Any, ...] | None = None
        self._seen_fields = False
        self._planned_fields: bool | None = None
        self._chain: FilterChain | None = None
        self._filter: FrameFilter | None = None
        self._measuring: Measuring | None = None
        self._underway: deque[tuple[int, float | None]] = deque()
        self._last = 0
        self._fitter: Fitter | None = None
        self._reader: FrameReader | None = None
        self._dynamics: str | None = None
        self._form, self._shape, self.siting = FrameForm(), Fraction(1), LEFT
        self.first: VideoFrame | None = None
        self.aspect: Fraction | None = None
        self.rate = Fraction(25)
        self.treatment = ""
        self.notes: tuple[str, ...] = ()
        self.resized = -1
        self._losses = FrameLosses()

    @property
    def upright(self) -> bool:
        """Whether frames come out as they are displayed."""
        return self._chain is not None and self._chain.upright

    def pictures(self, frame: VideoFrame, video: VideoStream, arrived: float | None) -> Iterator[Framed]:
        """What is to be restored now that this frame came. arrived: when its packet did."""
        tick = fraction(frame.time_base) or CLOCK
        if frame.pts is None:
            frame.pts = round((self._last * CLOCK + 1 / rate_of(video)) / tick)
        frame.duration = frame.duration or round(1 / rate_of(video) / tick)  # filters need it for the last one
        self._seen_fields = self._seen_fields or bool(frame.interlaced_frame)
        tags = int(frame.colorspace), int(frame.color_range), int(frame.color_trc)
        kind = (frame.width, frame.height, frame.format.name, *tags)
        if kind != self._kind or not self._goes_on(frame, video):
            yield from self.rest()
            self.resized += kind != self._kind
            self._kind, self._reader = kind, None
            self._plan(frame, video)
        self._last = _ticks(frame)
        if self._filter is None:
            yield self._read(frame, arrived)
            return
        self._note_underway(frame, arrived)
        if self._measuring is not None and (found := self._measuring.feed(frame)) is not None:
            self.rate, self.aspect, self._measuring = found.rate, found.aspect, None
        for filtered in self._filter.feed(frame):
            yield self._read(filtered, self._arrival_of(filtered))

    def rest(self) -> Iterator[Framed]:
        """What is to be restored now that no more frames like the last one come."""
        for each in self._filter.feed(None) if self._filter is not None else ():
            yield self._read(each, self._arrival_of(each))
        self.forget()

    def forget(self) -> None:
        """Begin anew, without what the filters hold."""
        self._filter = self._planned_fields = None
        self._underway.clear()

    def _goes_on(self, frame: VideoFrame, video: VideoStream) -> bool:
        """Whether a frame may go through the filters that there are."""
        step = (_ticks(frame) - self._last) * CLOCK
        in_time = self._filter is None or 0 <= step <= max(_GAP_S, 4 / rate_of(video))
        return in_time and self._planned_fields == self._seen_fields

    def _plan(self, frame: VideoFrame, video: VideoStream) -> None:
        """Set up the filters for frames like this one."""
        options = replace(self._options, deinterlace=self._deinterlace(frame, video))
        given = FilterInput(fraction(frame.time_base) or CLOCK, rate_of(video), _aspect(video))
        self._planned_fields = self._seen_fields
        self.rate, self.aspect, self._measuring = given.rate, given.aspect, None
        tone = tone_map_of(frame) if options.tonemap else None
        self._say_dynamics(dynamics(colour.BT709 if tone else int(frame.color_trc)))
        if self.first is None:
            self.notes = about_first(frame, self.treatment, to_sdr=self._options.tonemap)
        self._losses.begin(frame, video)
        self._chain = filters_of(options, colour.matrix_of(side_data(frame)), tone)
        self.siting = siting_of(video)
        if self._chain is None:
            return
        try:
            self._filter = FrameFilter(self._chain, given, frame)
        except MediaError as error:
            if self.first is None:
                raise
            self._say(f"{error}; frames of {frame.width}x{frame.height} are restored without them")
            self._chain = None
            self._say_dynamics(dynamics(int(frame.color_trc)))
        else:
            self.siting = self._chain.siting(self.siting)
            self._measuring = Measuring(self._chain, given) if options.vf is not None else None

    def _say_dynamics(self, name: str) -> None:
        """Say that frames are in other dynamics from here on than those before."""
        if self._dynamics not in (name, None):
            self._say(f"{name} from here on, not {self._dynamics}: the output keeps its colour tags")
        self._dynamics = name

    def _deinterlace(self, frame: VideoFrame, video: VideoStream) -> str:
        """How frames like this one are deinterlaced."""
        decided = decide(Path(), self._options, frame, rate_of(video), can_look=False)
        if decided.line and decided.line != self.treatment:
            if self.first is not None:
                self._say(f"interlaced from here on, {decided.line}")
            self.treatment = decided.line
        return decided.deinterlace

    def _note_underway(self, frame: VideoFrame, arrived: float | None) -> None:
        self._underway.append((_ticks(frame), arrived))
        if len(self._underway) > _MOST_UNDERWAY:
            self._underway.popleft()

    def _arrival_of(self, filtered: VideoFrame) -> float | None:
        """When the last frame came that is not shown after this one."""
        moment = _ticks(filtered)
        while len(self._underway) > 1 and self._underway[1][0] <= moment:
            self._underway.popleft()
        return self._underway[0][1] if self._underway else None

    def _read(self, frame: VideoFrame, arrived: float | None) -> Framed:
        """The picture of a frame as it came out of the filters."""
        attached = side_data(frame)
        matrix = None if self.upright else colour.matrix_of(attached)
        for line in self._losses.lines(frame, attached, self.notes):
            self._say(line)
        fitted = self._fitted(frame)
        if self._reader is None:
            self._form = form_of_frame(fitted, self.siting, matrix)
            self._reader = FrameReader(self._form, self.siting)
        return Framed(owned(self._reader.read(fitted, matrix)), _ticks(frame), arrived, attached.get("A53_CC"))

    def _fitted(self, frame: VideoFrame) -> VideoFrame:
        """The frame itself if it has the shape of the first one, whatever its size."""
        shape = Fraction(frame.width, frame.height) * (self.aspect or 1)
        if self._fitter is None:
            self.first, self._shape = frame, shape
            self._fitter = Fitter((frame.width, frame.height), self.aspect)
        if abs(shape / self._shape - 1) <= _SAME_SHAPE:
            return frame
        return self._fitter.fit(frame, self.resized, self.aspect)


def _ticks(frame: VideoFrame) -> int:
    return round((frame.pts or 0) * (fraction(frame.time_base) or CLOCK) / CLOCK)


def _aspect(video: VideoStream) -> Fraction | None:
    aspect = fraction(video.codec_context.sample_aspect_ratio)
    return aspect if aspect and aspect > 0 else None


def live_info(source: LiveInput, framer: Framer, options: SourceOptions) -> SourceInfo:
    """What is known of a source once its first frame is there. Raises `MediaError` for HDR that is not allowed."""
    first, video = framer.first, source.video
    if first is None:
        raise InternalError("nothing has come out of the framer, expected a frame")
    tags = colour.colour_of(first)
    refuse_hdr(source.address.name, tags.transfer, side_data(first), assume_sdr=options.assume_sdr)
    matrix = None if framer.upright else colour.display_matrix(first)
    form = form_of_frame(first, framer.siting, matrix)
    turned = colour.is_turned(matrix)
    width, height = (first.height, first.width) if turned else (first.width, first.height)
    return SourceInfo(
        path=Path(source.address.name),
        width=width,
        height=height,
        frames=None,
        rate=framer.rate,
        time_base=CLOCK,
        colour=tags if tags else Colour(),
        sample_aspect=1 / framer.aspect if framer.aspect and turned else framer.aspect,
        description=f"{video.name} {first.format.name} {width}x{height}, {float(framer.rate):.4g} fps",
        notes=(*framer.notes, *about_form(first, form)),
        form=form,
        bits=bits_of(first),
        copies=source.copies,
        container=source.container.format.name,
        read_once=True,
        treatment=", ".join(filter(None, (framer.treatment, "filtered" if options.vf is not None else ""))),
    )
