"""Runs the frames of a video through filters of libavfilter, before they are restored.

Filters may change everything but the order: the size, the rate, the number of frames, their time stamps and clock. What
they make of a video is asked of them: the first frames go through the graph once when the video is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ...errors import MachineError, MediaError, MisuseError
from ..stream.frames import LEFT
from .colour import DisplayMatrix, is_full, is_turned, matrix_name
from .ffmpeg_log import ffmpeg_errors, first_error
from .filter_graph import check_built_in, links, parse_graph
from .siting import Siting
from .source_options import SourceOptions
from .tonemap import SCALE_FLAGS, ToneMap

if TYPE_CHECKING:
    from av.filter.context import FilterContext
    from av.video.frame import VideoFrame

_BWDIF = {
    "bwdif": "bwdif=mode=send_frame:deint=all",
    "flagged": "bwdif=mode=send_frame:deint=interlaced",
    "tff": "bwdif=mode=send_frame:parity=tff:deint=all",
    "bff": "bwdif=mode=send_frame:parity=bff:deint=all",
}
"""How each way of deinterlacing is written as a filter. It gives one frame per frame."""

_RATE_UNIT = 1001 * 1000
_ASPECT_UNIT = 1 << 14
_LARGEST_ASPECT = 6
"""A row of so many pixels per unit measures an aspect; wider ones count as this."""
_MEASURING = (
    f"setpts=FR*{_RATE_UNIT}",
    "format=gray",
    f"scale=w=round(min(sar\\,{_LARGEST_ASPECT})*{_ASPECT_UNIT}):h=1:flags=neighbor",
)
"""Makes time stamps tell the frame rate, and the width the aspect of a pixel: FFmpeg knows both of every link, but PyAV
does not tell them; expressions of filters do."""


@dataclass(frozen=True)
class FilterChain:
    """What frames go through: the filters in `first`, one after another, then those from HDR to SDR, then a graph."""

    first: tuple[str, ...] = ()
    graph: str | None = None
    tone: ToneMap | None = None

    @property
    def upright(self) -> bool:
        """True if frames come out as they are displayed: then filters have turned them already."""
        return self.graph is not None

    def siting(self, before: Siting) -> Siting:
        """Where the chroma of 4:2:0 lies that comes out. before: of what goes in."""
        return before if self.tone is None else LEFT

    def __str__(self) -> str:
        return ",".join(filter(None, (*self.first, str(self.tone or ""), self.graph)))


@dataclass(frozen=True)
class FilterInput:
    """The clock, the frame rate and the aspect of a pixel of the frames that go in; the aspect is None if unknown."""

    time_base: Fraction
    rate: Fraction
    aspect: Fraction | None


def filters_of(options: SourceOptions, matrix: DisplayMatrix | None, tone: ToneMap | None = None) -> FilterChain | None:
    """The filters that a source asks for; None if there are none.

    options: with `deinterlace` decided (`interlacing.decide`). matrix: how frames are turned for display: filters that
    the user names see them as they are shown. tone: how HDR becomes SDR; None if it does not.
    """
    first = tuple(filter(None, [_BWDIF.get(options.deinterlace)]))
    if options.vf is not None:
        return FilterChain((*first, *_turning(matrix)), options.vf, tone)
    return FilterChain(first, tone=tone) if first or tone else None


def _turning(matrix: DisplayMatrix | None) -> Iterator[str]:
    """Filters that do what `colour.upright` does."""
    if matrix is None:
        return
    a, b, c, d = matrix
    if is_turned(matrix):
        yield "transpose=dir=cclock_flip"
        left, up = c < 0, b < 0
    else:
        left, up = a < 0, d < 0
    yield from ["vflip"] * up + ["hflip"] * left


class FrameFilter:
    """Takes frames in, gives filtered frames out. Frames of another kind than the first one are converted to it."""

    def __init__(self, chain: FilterChain, given: FilterInput, first: VideoFrame, then: tuple[str, ...] = ()) -> None:
        """then: more filters, behind the chain. Raises `MediaError` in FFmpeg's words if it cannot be set up."""
        import av
        from av.filter.graph import Graph

        self._graph, self._likeness = Graph(), _Likeness(first)
        try:
            with ffmpeg_errors() as said:
                self._source, self._sink = self._build(chain, given, first, then)
                self._graph.configure()
        except (MisuseError, MachineError):
            raise
        except (av.FFmpegError, ValueError, MemoryError) as error:
            raise MediaError(f"the filters {str(chain)!r} cannot be used: {first_error(said, error)}") from error

    def _build(
        self, chain: FilterChain, given: FilterInput, first: VideoFrame, then: tuple[str, ...]
    ) -> tuple[FilterContext, FilterContext]:
        source = self._graph.add(
            "buffer",
            f"video_size={first.width}x{first.height}:pix_fmt={first.format.name}:time_base={_ratio(given.time_base)}"
            f":pixel_aspect={_ratio(given.aspect or Fraction(0))}:frame_rate={_ratio(given.rate)}"
            f":colorspace={int(first.colorspace)}:range={int(first.color_range)}",
        )
        sink = self._graph.add("buffersink")
        end = self._append(source, chain.first)
        if chain.tone is not None:
            with chain.tone.filters() as filters:
                end = self._append(end, filters)
        if chain.graph is not None:
            end = self._append_graph(end, chain.graph)
        self._append(end, then).link_to(sink)
        return source, sink

    def _append(self, end: FilterContext, filters: tuple[str, ...]) -> FilterContext:
        """Add filters behind `end`, one after another. Returns the last one."""
        for text in filters:
            name, _, arguments = text.partition("=")
            added = self._graph.add(name, arguments or None)
            end.link_to(added)
            end = added
        return end

    def _append_graph(self, end: FilterContext, text: str) -> FilterContext:
        """Add a graph behind `end`. Returns what its only output comes out of."""
        steps = parse_graph(text)
        check_built_in(steps)
        added: list[Any] = [self._graph.add(step.name, step.arguments or None) for step in steps]
        *inner, last = links(steps, [(len(each.inputs), len(each.outputs)) for each in added])
        for link in inner:
            source, output = (end, 0) if link.source is None else (added[link.source[0]], link.source[1])
            assert link.target is not None
            source.link_to(added[link.target[0]], output, link.target[1])
        null = self._graph.add("null")
        assert last.source is not None
        added[last.source[0]].link_to(null, last.source[1])
        return null

    def feed(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """The frames that are complete with this one. None: no more come, so give the rest. Raises `MediaError`."""
        import av

        if frame is not None:
            frame = self._likeness.of(frame)
        try:
            with ffmpeg_errors() as said:
                self._source.push(frame)
        except av.EOFError:  # the filters want no more, as `trim` at its end
            return
        except (av.FFmpegError, MemoryError) as error:
            raise MediaError(f"the filters failed: {first_error(said, error)}") from error
        while True:
            try:
                with ffmpeg_errors() as said:
                    filtered: Any = self._sink.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            except (av.FFmpegError, MemoryError) as error:
                raise MediaError(f"the filters failed: {first_error(said, error)}") from error
            yield filtered


class _Likeness:
    """Gives frames the size, the pixel format, the matrix and the range of the first one.

    Joined recordings change them in the middle. A graph is made for one kind of frames: filters misread others, or read
    beyond their end.
    """

    def __init__(self, first: VideoFrame) -> None:
        self._kind = _Kind.of(first)
        self._tags = int(first.colorspace), int(first.color_range)
        self._converter: tuple[_Kind, FrameFilter] | None = None

    def of(self, frame: VideoFrame) -> VideoFrame:
        """The frame, or one like the first that shows the same. Raises `MediaError` if it cannot be converted."""
        kind = _Kind.of(frame)
        if kind != self._kind:
            if self._converter is None or self._converter[0] != kind:
                clock = Fraction(1, 1000)  # time stamps go through unchanged, whatever a tick is
                chain = FilterChain(tuple(kind.filters_to(self._kind)))
                self._converter = kind, FrameFilter(chain, FilterInput(clock, Fraction(25), None), frame)
            frame = next(self._converter[1].feed(frame))
        if (int(frame.colorspace), int(frame.color_range)) != self._tags:
            frame.colorspace, frame.color_range = self._tags
        return frame


@dataclass(frozen=True)
class _Kind:
    """What the filters of a graph take for granted. matrix: by FFmpeg's name; empty for RGB."""

    size: tuple[int, int]
    pix_fmt: str
    matrix: str
    full: bool

    @classmethod
    def of(cls, frame: VideoFrame) -> _Kind:
        return cls((frame.width, frame.height), frame.format.name, matrix_name(frame), is_full(frame))

    def filters_to(self, other: _Kind) -> Iterator[str]:
        """Filters that turn frames of this kind into those of the other one."""
        sides = (("in", self), ("out", other))
        colours = [f"{side}_range={'pc' if kind.full else 'tv'}" for side, kind in sides]
        colours += [f"{side}_color_matrix={kind.matrix}" for side, kind in sides if kind.matrix]
        width, height = other.size
        yield f"scale={width}:{height}:interl=-1:{':'.join(colours)}:{SCALE_FLAGS}"
        yield f"format={other.pix_fmt}"


def _ratio(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"


@dataclass(frozen=True)
class Filtered:
    """What filters make of a video. first: the first frame that comes out. rate, aspect: as in `FilterInput`."""

    first: VideoFrame
    rate: Fraction
    aspect: Fraction | None


class Measuring:
    """Finds out what filters make of a video, from its first frames."""

    def __init__(self, chain: FilterChain, given: FilterInput) -> None:
        self._chain, self._given = chain, given
        self._filters: tuple[FrameFilter, ...] = ()

    def feed(self, frame: VideoFrame | None) -> Filtered | None:
        """What is known with this frame; None if more are needed. None: there are no more. Raises `MediaError`."""
        if frame is not None and not self._filters:
            self._filters = tuple(FrameFilter(self._chain, self._given, frame, then) for then in ((), _MEASURING))
        if not self._filters:
            return None
        first, measured = (next(each.feed(frame), None) for each in self._filters)
        return None if first is None or measured is None else _filtered(self._given, first, measured)


def measure(chain: FilterChain, given: FilterInput, frames: Iterable[VideoFrame]) -> Filtered:
    """What the filters make of a video that begins with `frames`, of which only the needed ones are taken.

    Raises `MediaError` if the filters cannot be used, or give no frame.
    """
    measuring = Measuring(chain, given)
    for frame in _and_the_end(frames):
        if (found := measuring.feed(frame)) is not None:
            return found
    raise MediaError(f"the filters {str(chain)!r} give no frame at the beginning of the video: check their conditions")


def _and_the_end(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame | None]:
    """The frames, then None."""
    yield from frames
    yield None


def _filtered(given: FilterInput, first: VideoFrame, measured: VideoFrame) -> Filtered:
    rate = given.rate if measured.pts is None else Fraction(measured.pts, _RATE_UNIT).limit_denominator(1001)
    aspect: Fraction | None = Fraction(measured.width, _ASPECT_UNIT).limit_denominator(256)
    if aspect == 1 and given.aspect is None:
        aspect = None
    return Filtered(first, rate if rate > 0 else given.rate, aspect)
