"""The filters between a decoder and an encoder of sound: one format throughout, and no gaps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .holding import named_layout
from .pyav import fraction


class UniformSound:
    """Brings sound into the format that an encoder takes. The format that it comes in may change, as in broadcasts.

    layouts: those that came, in their order.
    """

    def __init__(self, encoder: Any) -> None:
        """encoder: the open context of an encoder."""
        self._encoder = encoder
        self.layouts: dict[str, None] = {}
        self._kind: SoundKind | None = None
        self._graph: Any = None

    def feed(self, frame: Any) -> Iterator[Any]:
        """What is complete with this frame, with stamps that count samples. None: no more comes.

        Raises `ValueError` or FFmpeg's error for sound that cannot be converted.
        """
        kind = self._kind if frame is None else SoundKind.of(frame, frame.time_base)
        if kind is not None and kind != self._kind:
            graph = uniform_graph(kind, self._encoder)
            if self._graph is not None:
                self._graph.push(None)
                yield from _pulled(self._graph)
            self._kind, self._graph = kind, graph
            self.layouts.setdefault(kind.layout)
        self._graph.push(frame)
        yield from _pulled(self._graph)


@dataclass(frozen=True)
class SoundKind:
    """A format of sound. time_base: seconds per tick of its time stamps."""

    sample_format: str
    rate: int
    layout: str
    time_base: Fraction

    @classmethod
    def of(cls, sound: Any, time_base: Fraction) -> SoundKind:
        """The format of a frame, or of a decoder or an encoder. Raises `ValueError` if its channels have no places."""
        layout = named_layout(sound)
        if layout is None:
            raise ValueError(f"nothing says to which loudspeakers {sound.layout.nb_channels} channels belong")
        return cls(sound.format.name if sound.format else "s16", sound.sample_rate, layout, time_base)


def uniform_graph(kind: SoundKind, encoder: Any) -> Any:
    """A graph from sound of this kind to what an encoder takes. Raises FFmpeg's error if there is no way."""
    return _linked(
        kind,
        ("aresample", None),
        (
            "aformat",
            f"sample_fmts={encoder.format.name}:sample_rates={encoder.sample_rate}"
            f":channel_layouts={encoder.layout.name}",
        ),
    )


class ContinuousSound:
    """Cuts off what lies before 0, fills gaps with silence, and gives as many samples at once as an encoder takes."""

    def __init__(self, encoder: Any, silence_s: Fraction | None) -> None:
        """encoder: the open context of an encoder. silence_s: a longer gap stays one, so that no silence is made for an
        hour at once; None for any length."""
        self._encoder, self._silence_s = encoder, silence_s
        self._due: Fraction | None = None
        self._graph = self._new_graph()

    def feed(self, frame: Any) -> Iterator[Any]:
        """What is complete with this frame, which is as the encoder takes it. None: no more comes."""
        if frame is not None and self._stays_gap(frame):
            self._graph.push(None)
            yield from _pulled(self._graph)
            self._graph = self._new_graph()
        self._graph.push(frame)
        yield from _pulled(self._graph)

    def _stays_gap(self, frame: Any) -> bool:
        """Whether a frame lies so long after the last one that no silence is made between them."""
        begin = frame.pts * (fraction(frame.time_base) or Fraction(1, frame.sample_rate))
        due, self._due = self._due, begin + Fraction(frame.samples, frame.sample_rate)
        return self._silence_s is not None and due is not None and begin - due > self._silence_s

    def _new_graph(self) -> Any:
        rate, samples = self._encoder.sample_rate, self._encoder.frame_size
        filters: list[tuple[str, str | None]] = [("atrim", "start=0"), ("aresample", "async=1")]
        if samples and self._silence_s is not None:  # an encoder that goes on behind a gap takes no less before it
            filters.append(("asetnsamples", f"n={samples}"))
        graph = _linked(SoundKind.of(self._encoder, Fraction(1, rate)), *filters)
        if samples:
            graph.set_audio_frame_size(samples)
        return graph


def _linked(kind: SoundKind, *filters: tuple[str, str | None]) -> Any:
    """A graph of these filters, one after another, for sound of this kind."""
    from av.filter.graph import Graph

    graph = Graph()
    buffer = graph.add_abuffer(
        sample_rate=kind.rate, format=kind.sample_format, layout=kind.layout, time_base=kind.time_base
    )
    graph.link_nodes(buffer, *(graph.add(*each) for each in filters), graph.add("abuffersink")).configure()
    return graph


def _pulled(graph: Any) -> Iterator[Any]:
    """The frames that are ready."""
    import av

    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield frame
