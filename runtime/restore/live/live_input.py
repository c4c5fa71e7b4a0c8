"""One connection to a live source: its packets, and the pictures in them.

FFmpeg is told how long it may take for everything that waits for the network. What it does not interrupt, such as the
look-up of a name, happens in a thread that nobody waits for (`reading`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ....errors import MachineError, MediaError
from ...media.base import CopiedStream
from ...media.decoder import keep_damaged_frames
from ...media.ffmpeg_log import Complaints, ffmpeg_errors, first_error
from ...media.probe import rate_of
from ...media.promise import is_cover
from ...media.pyav import fraction, open_input
from .addresses import LiveInputAddress, no_protocol
from .losses import LeftOut, left_out
from .options import STALL_S, patience_with
from .packet_thread import PacketThread, SilentSourceError
from .packets import FrozenSound, is_same_sound

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

CLOCK = Fraction(1, 90000)
"""Seconds per tick of the clock on which pictures leave."""

_MICROSECONDS = 1_000_000
_ROUNDED_S = Fraction(1)
"""By how much the lengths of segments may be wrong in all, or by a hundredth."""
_OPEN_S = 10.0
_BURST_STALL_S = 30.0
_USUAL_RATE = Fraction(25)
_AHEAD = 4096
"""Packets to read ahead where data comes in pieces: then it is known when each of them came."""
_LATER_S = 1.0
"""How much later than FFmpeg this module loses its patience."""

VIDEO = "video"


class SourceEndedError(Exception):
    """A source that does not go on. The message says why. at_end: it was sent to its end."""

    def __init__(self, reason: str, *, at_end: bool = False) -> None:
        super().__init__(reason)
        self.at_end = at_end


class PlaceTakenError(MachineError):
    """A source cannot be opened because somebody else has its port or its device."""


class LiveInput:
    """An open source. Raises `MediaError` or `MachineError` if there is no video, with a reason in one line.

    sounds: numbers of its streams of sound, by the number of the stream of the first connection that they continue.
    lost: lines about those that continue none, by their numbers. reached: where its video was read to, in seconds on
    its own clock. arrived: when the last packet came that it gave, by `time.monotonic`.
    """

    def __init__(
        self,
        address: LiveInputAddress,
        options: tuple[tuple[str, str], ...],
        sounds: tuple[CopiedStream, ...] | None,
        rate: Fraction = _USUAL_RATE,
    ) -> None:
        """options: of FFmpeg's protocols and demuxers. sounds: those of the first connection; None if this is it.

        rate: of its frames, as far as it is known.
        """
        self.address = address
        self.arrived = 0.0
        self._complaints = Complaints()
        self.reached: Fraction | None = None
        self._jumped = False
        self._thread: PacketThread | None = None
        self._stall_s = patience_with(rate, stall_s_of(address))
        self.container = _open(address, dict(options), self._stall_s)
        try:
            self.video = _video_of(self.container, address)
            keep_damaged_frames(self.video.codec_context)
            self.lost: dict[int, str] = {}
            self.copies = self._frozen() if sounds is None else sounds
            self.sounds = self._matched()
        except BaseException:
            self.container.close()
            raise
        for stream in self.container.streams:
            if stream.index != self.video.index and stream.index not in self.sounds:
                stream.discard = _discard_all()

    def _frozen(self) -> tuple[CopiedStream, ...]:
        """Its streams of sound, to be continued by those of the next connections."""
        frozen = []
        for stream in self.container.streams.audio:
            try:
                frozen.append(FrozenSound.of(stream))
            except MediaError as error:
                self._lose(stream, str(error))
        return tuple(frozen)

    def _lose(self, stream: Any, reason: str) -> None:
        """Note, once, that a stream is left out."""
        self.lost.setdefault(stream.index, f"{_about_sound(stream)} is left out: {reason}")

    def _matched(self) -> dict[int, int]:
        """The number of each stream of sound, and that of the first connection's stream which it continues.

        That is one of the same format, in the same place if there are several.
        """
        free, matched = list(self.copies), dict[int, int]()
        for place, stream in enumerate(self.container.streams.audio):
            same = [each for each in free if is_same_sound(stream, each.template.stream)]
            if not same:
                self._lose(stream, "it does not continue the sound that there was")
                continue
            chosen = next((each for each in same if place < len(self.copies) and each is self.copies[place]), same[0])
            free.remove(chosen)
            matched[stream.index] = chosen.index
        return matched

    @property
    def left_out(self) -> list[LeftOut]:
        """Its streams that go no further."""
        sounds = [LeftOut("audio", line) for line in self.lost.values()]
        return [*sounds, *left_out(self.container.streams, {self.video.index, *self.sounds, *self.lost})]

    def packets(self) -> Iterator[tuple[str, Packet[Any]]]:
        """The packets of the video and the sound as they arrive, each with its stream: `VIDEO`, or `sound N`.

        Raises `SourceEndedError` when no more come.
        """
        import av

        wanted = [self.container.streams[number] for number in (self.video.index, *self.sounds)]
        self._thread = thread = PacketThread(self.container, wanted, _AHEAD if self.address.bursts else 1)
        stall_s = patience_with(self.rate, stall_s_of(self.address))
        patience_s = None if self.address.is_played else stall_s + _LATER_S
        while True:
            try:
                found = thread.take(patience_s)
            except SilentSourceError:
                raise SourceEndedError("it goes on with other streams, or not at all") from None
            except av.error.ExitError:
                raise SourceEndedError("nothing arrives any more") from None
            except IndexError:
                found = None  # at the end, where PyAV stumbles over streams that began later
            except (av.FFmpegError, OSError) as error:
                raise SourceEndedError(f"it breaks off: {first_error([], error)}") from None
            if found is None and self._is_cut_off:
                raise SourceEndedError("it breaks off before its end")
            if found is None:
                raise SourceEndedError("it has ended", at_end=True)
            packet, self.arrived = found.packet, found.arrived
            if packet.size:
                number = packet.stream_index
                if number == self.video.index:
                    self._note_reached(packet)
                yield (VIDEO if number == self.video.index else f"sound {self.sounds[number]}"), packet

    def rest(self) -> list[VideoFrame]:
        """The frames that the decoder still holds. Nothing can be decoded after them."""
        return self.decode(None)[0]

    def decode(self, packet: Packet[Any] | None) -> tuple[list[VideoFrame], bool]:
        """The frames that a packet completes, and whether it is damaged."""
        import av

        before = self._complaints.count
        frames: list[VideoFrame] = []
        refused = False
        try:
            with self._complaints.listening():
                frames = self.video.codec_context.decode(packet)
        except av.EOFError:
            pass
        except (av.FFmpegError, ValueError):
            refused = True
        for frame in frames:
            if fraction(frame.time_base) is None:  # of those that came with no packet
                frame.time_base = self.video.time_base
        return frames, refused or self._complaints.count > before

    @property
    def has_end(self) -> bool:
        """Whether all of it is there already, so that it is read as fast as it is played."""
        return self.address.is_played or (self.address.bursts and (self.container.duration or 0) > 0)

    @property
    def _is_cut_off(self) -> bool:
        """Whether much is left of a playlist with an end, which FFmpeg takes for ended when it cannot get any more."""
        length = Fraction(self.container.duration or 0, _MICROSECONDS)
        if self.reached is None or self._jumped or not length or self.container.format.name != "hls":
            return False
        left = self.left_after(self.reached)
        return left is not None and bool(left > max(_ROUNDED_S, length / 100))

    def _note_reached(self, packet: Packet[Any]) -> None:
        end = _end_of(packet, 1 / self.rate)
        if end is not None:
            self._jumped = self._jumped or (self.reached is not None and end < self.reached - 1)
            self.reached = end

    def left_after(self, moment: Fraction) -> Fraction | None:
        """Seconds that there are after a moment on its own clock; None if that is not between its beginning and end."""
        begin = Fraction(self.container.start_time or 0, _MICROSECONDS)
        end = begin + Fraction(self.container.duration or 0, _MICROSECONDS)
        return max(end - moment, Fraction(0)) if begin <= moment <= end + 1 else None

    def seek(self, moment: Fraction) -> None:
        """Go on with the first key frame at a moment on its own clock. Raises `MediaError`."""
        import av

        try:
            self.container.seek(round(moment * _MICROSECONDS))
        except av.FFmpegError as error:
            raise MediaError(f"it breaks off: {first_error([], error)}") from None

    @property
    def rate(self) -> Fraction:
        """Frames per second."""
        return rate_of(self.video)

    @property
    def is_impatient(self) -> bool:
        """Whether FFmpeg gives up before the next frame, or before the one after a lost one, as so few come."""
        return not self.address.is_played and 2 / self.rate > self._stall_s

    @property
    def holds_source(self) -> bool:
        """Whether, though closed, it keeps its connection: what still comes is of streams that PyAV passes over.

        If nothing came, FFmpeg would have lost its patience.
        """
        return self._thread is not None and self._thread.is_behind(self._stall_s + _LATER_S)

    def close(self) -> None:
        """Release the connection."""
        if self.video.codec_context.is_open:
            self.video.codec_context.flush_buffers()
        if self._thread is None:
            self.container.close()
        else:
            self._thread.leave()


def open_source_of_any_rate(
    address: LiveInputAddress,
    options: tuple[tuple[str, str], ...],
    sounds: tuple[CopiedStream, ...] | None,
    rate: Fraction = _USUAL_RATE,
) -> LiveInput:
    """A `LiveInput`. If frames come too seldom, it is opened again: only then FFmpeg can be told to wait for them.

    Not one that senders connect to: they may not do so twice. FFmpeg waits longer only in the connection after.
    """
    source = LiveInput(address, options, sounds, rate)
    if not source.is_impatient or address.listens(options):
        return source
    rate = source.rate
    source.close()
    return LiveInput(address, options, sounds, rate)


def stall_s_of(address: LiveInputAddress) -> float:
    """Seconds without a packet after which a source counts as gone."""
    return _BURST_STALL_S if address.bursts else STALL_S


def _open(address: LiveInputAddress, options: dict[str, str], stall_s: float) -> InputContainer:
    import av

    usual = {
        "protocol_whitelist": address.protocols,
        "format_whitelist": address.demuxers,
        "analyzeduration": "1500000",
        **dict(address.options),
    }
    try:
        with ffmpeg_errors() as said:
            return open_input(address.url, None, {**usual, **options}, address.demuxer, (_OPEN_S, stall_s))
    except av.error.ExitError:
        raise MachineError(
            f"no video came from {address.name} within {_OPEN_S:.0f} s: start the source first, or check its address"
        ) from None
    except av.error.ProtocolNotFoundError:
        raise MediaError(no_protocol(address.name, "read")) from None
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = first_error(said, error)
        remedy = remedy_for(reason, _AT_DEVICES if address.protocols == "file" else _AT_SERVERS)
        kind = PlaceTakenError if any(_says(reason, words) for words in _TAKEN) else MachineError
        raise kind(f"cannot open {address.name}: {reason}; {remedy}") from None


_TAKEN = ("in use", "resource busy", "number -10048")
"""What FFmpeg says of a place that somebody else has: a port, a device, and a port on Windows."""
_PORT_TAKEN = "another program has this port: end it, or choose another port"
_ADDRESS = re.compile(r"\S+://\S*")
_REMEDIES = {
    "in use": _PORT_TAKEN,
    "number -10048": _PORT_TAKEN,
    "resolve": "check the name of the host",
    "401": "check the user and the password",
    "403": "check the user and the password",
    "404": "check the path",
    "Format not on whitelist": "a playlist on disk is restored without --live, with --allow-playlist",
    "Protocol 'file' not on whitelist": "a playlist may name only what comes from the network",
    "Undefined constant": "check the values of the options",
    "Unable to parse": "check the values of the options",
    "out of range": "check the values of the options",
}
"""What to do, by what FFmpeg says."""
_AT_SERVERS = "check that it is running"
_AT_DEVICES = "check its name, and that no other program uses it"


def remedy_for(reason: str, otherwise: str = _AT_SERVERS) -> str:
    """What to do about a connection that failed for this reason. otherwise: if nothing better is known."""
    return next((remedy for words, remedy in _REMEDIES.items() if _says(reason, words)), otherwise)


def _says(reason: str, words: str) -> bool:
    """Whether FFmpeg says these words, not the address that it quotes: port 54017 is no answer 401."""
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", _ADDRESS.sub("", reason)) is not None


def _video_of(container: InputContainer, address: LiveInputAddress) -> VideoStream:
    streams = [stream for stream in container.streams.video if not is_cover(stream)]
    stream = next((each for each in streams if each.codec_context is not None), None)
    if stream is None:
        raise MediaError(f"{address.name} has no video that this FFmpeg decodes, expected a video stream")
    return stream


def _end_of(packet: Packet[Any], usual_s: Fraction) -> Fraction | None:
    """When a packet ends, in seconds on its own clock. usual_s: its length, if it does not say."""
    ticks, tick = packet.dts if packet.dts is not None else packet.pts, fraction(packet.time_base)
    if ticks is None or tick is None:
        return None
    return ticks * tick + ((packet.duration or 0) * tick or usual_s)


def _about_sound(stream: Any) -> str:
    context = stream.codec_context
    if context is None:
        return f"audio stream {stream.index}"
    return (
        f"audio stream {stream.index} ({context.name}, {context.sample_rate} Hz, {context.layout.nb_channels} channels)"
    )


def _discard_all() -> Any:
    from av.stream import Discard

    return Discard.all
