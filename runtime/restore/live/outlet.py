"""A connection to the receiver: the encoder in this process, the muxer and the network in another one."""

from __future__ import annotations

import base64
import io
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ....child import Child, Message
from ....errors import MediaError, OutputError
from ...media.base import CopiedStream, Picture, SinkOptions, SourceInfo
from ...media.codecs import choose_encoder
from ...media.copies import Carriage, plan_carriage
from ...media.encoder import Encoding, EncodingRequest, open_encoder
from ...media.ffmpeg_log import mute
from ...media.muxer import open_muxer
from ...media.nvcodec import nvenc
from ...media.picture_encoder import PictureEncoder, no_captions
from ...media.reencode import SoundConverter
from .addresses import LiveOutputAddress, no_protocol
from .latency import encoder_tuning, usual_preset
from .live_input import remedy_for
from .options import STALL_S
from .packets import VIDEO_STREAM, FrozenSound, PlainPacket, header_of

_CARRIERS = {"rtp_mpegts": "mpegts", "rtsp": "mp4", "hls": "mp4"}
"""The format in memory whose needs an encoder meets for a muxer that writes to a network or into many files."""

_OPEN_S = 15.0
_FINISH_S, _DISK_S = 5.0, 60.0
"""For a receiver, or a disk, to take the end."""
_MOST_UNDERWAY = 400
"""Packets that may be on their way to the other process."""

_MUXING = {"flush_packets": "1", "max_interleave_delta": "300000"}
"""Every packet leaves at once; one stream waits for another no longer than 0.3 s."""


_SILENCE_S = Fraction(1)
"""A longer gap in sound that is encoded anew stays one, as in sound that is copied."""


@dataclass
class _Sound:
    """A stream of sound in the output. number: there. last: decoding time of its last packet, in microseconds.

    bare: packets lose the header with which a transport stream describes each of them.
    """

    number: int
    converter: SoundConverter | None
    bare: bool = False
    last: int | None = None


class LiveEncoding:
    """Encodes the pictures and converts the sound of one connection.

    header: what the other process has to know of the streams, as JSON values. notes: for people. lost: packets of sound
    that came out of order, or cannot be decoded. lost_streams: lines about wanted streams that the output lacks; those
    that are known from the beginning are among the notes.
    """

    def __init__(
        self, address: LiveOutputAddress, info: SourceInfo, size: tuple[int, int], options: SinkOptions
    ) -> None:
        """size: width and height of the pictures. Raises `MediaError` if they cannot be encoded like this."""
        carrier = _CARRIERS.get(address.muxer, address.muxer)
        wanted = [copy for copy in info.copies if options.wants(copy.kind)]
        plan = [_with_config(address, each) for each in plan_carriage(carrier, info, wanted, options.audio_fallback)]
        encoding = _encoding(carrier, EncodingRequest(info, *size, options))
        self._container, self._stream = encoding.container, encoding.stream
        self._encoder = PictureEncoder(encoding, *size)
        self.form, self.description = encoding.form, self._encoder.description
        self._sounds: dict[int, _Sound] = {}
        self.lost = 0
        self._left_out = tuple(f"{each.source} is left out: {each.why}" for each in plan if each.is_lost)
        notes, streams = [*encoding.notes, *self._left_out], [self._stream]
        for carriage in plan:
            source = carriage.source
            if carriage.is_lost:
                continue
            if carriage.encoder is not None:
                converter = SoundConverter(self._container, source, carriage.encoder, _SILENCE_S)
                notes.append(f"{source} becomes {converter.name}: {carriage.why}")
                self._sounds[source.index] = _Sound(len(streams), converter)
                streams.append(converter.stream)
            elif address.muxer in _DESCRIBED_ONCE and is_headed(source):
                self._sounds[source.index] = _Sound(len(streams), None, bare=True)
                streams.append(SoundConverter(self._container, source, "aac").stream)  # for its description
            else:
                self._sounds[source.index] = _Sound(len(streams), None)
                streams.append(source.template.stream)
        self.notes = tuple(notes)
        self._container.start_encoding()
        self.header = {
            "streams": base64.b64encode(header_of(streams)).decode(),
            "tag": self._stream.codec_context.codec_tag,  # which a copy of the stream lacks
            "passed_on": any(each.passed_on for each in plan),
        }

    @property
    def lost_streams(self) -> tuple[str, ...]:
        codec = self._encoder.codec
        captions = (f"closed captions are lost: {no_captions(codec)}",) if self._encoder.lost_captions else ()
        return (*self._left_out, *captions)

    def encode(self, picture: Picture) -> list[PlainPacket]:
        """The packets that are complete with this picture."""
        return [PlainPacket.of(packet, VIDEO_STREAM) for packet in self._encoder.encode(picture)]

    def sound(self, stream: int, packet: Any) -> list[PlainPacket]:
        """The packets of the output for one of a stream of sound; none if it is not wanted, or lies before 0."""
        sound = self._sounds.get(stream)
        if sound is None:
            return []
        if sound.converter is not None:
            before = sound.converter.failed
            packets = self._advancing(sound, list(sound.converter.convert(packet)))
            self.lost += sound.converter.failed - before
            return packets
        if packet.pts is None or packet.pts < 0:
            return []
        plain = self._advancing(sound, [packet])
        return [replace(each, data=bare_aac(each.data)) for each in plain] if sound.bare else plain

    def finish(self) -> list[PlainPacket]:
        """The packets that the encoders still hold."""
        packets = [PlainPacket.of(packet, VIDEO_STREAM) for packet in self._encoder.finish()]
        for sound in self._sounds.values():
            if sound.converter is not None:
                packets += self._advancing(sound, list(sound.converter.finish()))
        return packets

    def _advancing(self, sound: _Sound, packets: list[Any]) -> list[PlainPacket]:
        """The packets whose decoding time advances: muxers refuse others."""
        advancing = []
        for packet in packets:
            plain = PlainPacket.of(packet, sound.number)
            moment = round(plain.dts * plain.clock * 1_000_000)
            if sound.last is None or moment > sound.last:
                sound.last = moment
                advancing.append(replace(plain, key=True))
            else:
                self.lost += 1
        return advancing

    def close(self) -> None:
        """Free the encoder."""
        with mute(), suppress(Exception):
            if self._container.file:
                self._container.file.file.close()  # so that no trailer is written
            self._container.close()


_DESCRIBED_ONCE = ("rtsp", "hls", "mp4", "mov")
"""Muxers that describe AAC once for all packets, and do not convert that of transport streams, which do in each."""


def is_headed(source: CopiedStream) -> bool:
    """Whether packets of this sound begin with a header that a description made here can stand for."""
    context = source.template.stream.codec_context
    profile = source.profile if isinstance(source, FrozenSound) else context.profile
    return source.codec == "aac" and not context.extradata and profile == "LC"


def bare_aac(data: bytes) -> bytes:
    """A packet of AAC without its ADTS header, if it has one."""
    if len(data) < 7 or data[0] != 0xFF or data[1] & 0xF6 != 0xF0:
        return data
    return data[7 if data[1] & 1 else 9 :]


def _with_config(address: LiveOutputAddress, carriage: Carriage) -> Carriage:
    """How a stream gets into an output that is described once: sound without a description is encoded anew."""
    source, context = carriage.source, carriage.source.template.stream.codec_context
    copied = address.muxer in _DESCRIBED_ONCE and carriage.why is None and source.codec == "aac"
    if copied and not context.extradata and not is_headed(source):
        return Carriage(source, "aac", f"{address.muxer} needs its description in advance")
    return carriage


def _encoding(carrier: str, request: EncodingRequest) -> Encoding:
    """An open encoder that hands out every picture at once, on the GPU if that is asked for and possible."""
    usual = choose_encoder(open_muxer(io.BytesIO(), carrier), request.options.codec).name
    on_gpu = nvenc(usual) if request.options.gpu is not None else None
    note: tuple[str, ...] = ()
    if on_gpu is not None:
        try:
            return _open(carrier, request, on_gpu.name)
        except MediaError as error:
            note = (f"encoding in software with {usual}, not on the GPU: {error}",)
    plain = replace(request, options=replace(request.options, gpu=None))
    encoding = _open(carrier, plain, usual)
    return replace(encoding, notes=(*note, *encoding.notes))


def _open(carrier: str, request: EncodingRequest, codec: str) -> Encoding:
    options = request.options
    tuning = encoder_tuning(codec, request.info.rate)
    for name, value in options.extra:
        tuning[name] = f"{tuning[name]}:{value}" if name == "svtav1-params" else value
    preset = options.preset or usual_preset(codec)
    options = replace(options, codec=codec, preset=preset, extra=tuple(tuning.items()))
    return open_encoder(lambda: open_muxer(io.BytesIO(), carrier), replace(request, options=options))


class Outlet:
    """The process that sends packets. One thread uses it."""

    def __init__(
        self, address: LiveOutputAddress, options: tuple[tuple[str, str], ...], header: Mapping[str, Any]
    ) -> None:
        """Begin to connect; `poll` says when that is done. header: of a `LiveEncoding`."""
        self._address = address
        self._child = Child("swiftvr_trt.runtime.restore.live.outlet_process", patience_s=_FINISH_S, keep_errors=True)
        muxing, url = placed_options(address, options)
        options_of_muxer = {**_MUXING, **dict(address.options), **muxing}
        order = {"url": url, "muxer": address.muxer, "options": options_of_muxer, "header": dict(header)}
        self._child.send({"open": order})
        self._now: Callable[[], float] = time.monotonic
        self._since = self._taken = self._now()
        self.is_open = False
        self._underway: deque[tuple[float, Callable[[], None]]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether so much is on its way that the receiver has to read first."""
        return len(self._underway) >= _MOST_UNDERWAY

    @property
    def underway(self) -> int:
        """Packets that were not sent yet."""
        return len(self._underway)

    def send(self, packet: PlainPacket, sent: Callable[[], None] = lambda: None) -> None:
        """Send a packet. sent: called by `poll` once it was handed to the network or the disk."""
        self._child.send({"packet": packet.to_plain()})
        self._underway.append((self._now(), sent))

    def poll(self, patience_s: float = 0.0) -> None:
        """Note what has happened. Raises `OutputError` if the receiver is away, or does not read any more."""
        while True:
            try:
                message = self._child.receive(patience_s)
            except TimeoutError:
                break
            self._note(message)
            patience_s = 0.0
        now = self._now()
        if not self.is_open and now - self._since > _OPEN_S:
            raise OutputError(f"{self._address.name} does not answer within {_OPEN_S:.0f} s: check that it is running")
        stalls = self._address.is_network and self._underway  # a disk that takes its time is waited for
        if stalls and now - max(self._underway[0][0], self._taken) > STALL_S:
            raise OutputError(f"{self._address.name} has not taken anything for {STALL_S:.0f} s")

    def finish(self, patience_s: float | None = None) -> None:
        """Send what is on its way, and end the output properly. Raises `OutputError` if that fails.

        patience_s: how long to wait for that; None for what is usual for a receiver, or a disk.
        """
        self._child.send({"finish": True})
        usual_s = _FINISH_S if self._address.is_network else _DISK_S
        finished, deadline = False, time.monotonic() + (usual_s if patience_s is None else patience_s)
        while not finished:
            try:
                message = self._child.receive(max(deadline - time.monotonic(), 0.0))
            except TimeoutError:
                raise OutputError(f"{self._address.name} does not take the end of the output") from None
            finished = self._note(message)

    def _note(self, message: Message | None) -> bool:
        """Note one message. Returns whether it is the last one."""
        if message is None:
            raise OutputError(f"the process that sends to {self._address.name} ended: {self._child.ending(1.0)}")
        if "error" in message:
            raise _output_error(self._address, str(message["error"]), was_open=self.is_open)
        if "sent" in message:
            self._taken = self._now()
            self._underway.popleft()[1]()
        self.is_open = True
        return "finished" in message

    def close(self) -> None:
        """End the process, at once if it is stuck."""
        self._child.end(time.monotonic() + (0.0 if self._underway or not self.is_open else 1.0))


def _output_error(address: LiveOutputAddress, reason: str, *, was_open: bool) -> MediaError | OutputError:
    if "Protocol not found" in reason:
        return MediaError(no_protocol(address.name, "write"))
    if was_open:
        return OutputError(f"{address.name} is gone: {reason}")
    remedy = remedy_for(reason) if address.is_network else "choose another place"
    return OutputError(f"cannot write to {address.name}: {reason}; {remedy}")


_OF_MUXERS = (
    *("mpegts_", "pcr_period", "pat_period", "sdt_period", "nit_period", "muxrate"),
    *("pes_payload_size", "omit_video_pes_length", "tables_version", "flush_packets", "max_delay"),
)
"""How the options of a transport stream begin that are often given, for an FFmpeg that cannot be asked."""


def placed_options(address: LiveOutputAddress, options: tuple[tuple[str, str], ...]) -> tuple[dict[str, str], str]:
    """Options of the muxer, and the URL with those of its protocol, which FFmpeg takes from there."""
    if not address.takes_query:
        return dict(options), address.url  # what nothing takes is an error of the process that sends
    known = address.muxer_options
    muxing = {name: value for name, value in options if _is_of_muxer(name, known)}
    others = [f"{name}={value}" for name, value in options if name not in muxing]
    if address.url.lower().startswith("udp:") and "pkt_size" not in address.url + "".join(others):
        others.append("pkt_size=1316")
    joint = "&" if "?" in address.url else "?"
    return muxing, address.url + (joint + "&".join(others) if others else "")


def _is_of_muxer(name: str, known: frozenset[str] | None) -> bool:
    return name.startswith(_OF_MUXERS) if known is None else name in known


def check_place(path: Path, overwrite: bool) -> None:
    """Raise `OutputError` or `MediaError` if a file, or a playlist in a folder, cannot be written."""
    from ...media.files import check_overwrite, check_parent, check_writable

    check_parent(path.parent if _is_playlist(path) else path)
    check_overwrite(path, overwrite)
    check_writable(path)


def make_place(path: Path) -> None:
    """Make the folder of a playlist. Raises `OutputError`."""
    from ...media.files import output_error

    if _is_playlist(path):
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise output_error(path, error) from None


def _is_playlist(path: Path) -> bool:
    return path.suffix.lower() == ".m3u8"
