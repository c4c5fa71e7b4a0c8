"""Where a live stream comes from and where it goes: what a URL stands for, and what FFmpeg may open for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import parse_qsl

from ....errors import MediaError, MisuseError
from ....redaction import keep_secrets_of, redacted
from ...media.format_options import has_protocol, options_to_read, options_to_write

_TS = "mpegts"
_GOES_ON = (("merge_pmt_versions", "1"),)
"""A transport stream whose streams get other numbers goes on with those that it had."""
_WEB = "http,https,httpproxy,tcp,tls,crypto,data"


@dataclass(frozen=True)
class _Scheme:
    """What a scheme means.

    protocols   that FFmpeg may use for it
    demuxers    that may read it
    muxer       that writes it; None if nothing can be sent there
    options     of its protocol, as far as the usual ones do not fit
    bursts      data arrives in pieces of several seconds
    """

    protocols: str
    demuxers: str
    muxer: str | None
    options: tuple[tuple[str, str], ...] = ()
    bursts: bool = False


_RTMP = _Scheme("rtmp,rtmps,rtmpt,rtmpts,ffrtmphttp,http,https,tcp,tls", "flv,live_flv", "flv")
_RTSP = _Scheme("rtp,srtp,udp,tcp,tls,http,https", "rtsp,rtp,sdp,mpegts", "rtsp", (("rtsp_transport", "tcp"),))
_IN_SEGMENTS = ("seg_format_options", "=".join(*_GOES_ON))
_HTTP = _Scheme(
    _WEB,
    "hls,mpegts,flv,live_flv,matroska,webm,mov,mp4,aac,mp3,webvtt",
    None,
    (*_GOES_ON, _IN_SEGMENTS),
    bursts=True,
)
_SCHEMES = {
    "rtsp": _RTSP,
    "rtsps": _RTSP,
    "rtmp": _RTMP,
    "rtmps": _RTMP,
    "srt": _Scheme("srt,udp", _TS, _TS, _GOES_ON),
    "udp": _Scheme("udp", _TS, _TS, (*_GOES_ON, ("overrun_nonfatal", "1"))),
    "rtp": _Scheme("rtp,udp", "rtp,mpegts,rtp_mpegts", "rtp_mpegts"),
    "tcp": _Scheme("tcp", _TS, _TS, _GOES_ON),
    "tls": _Scheme("tls,tcp", _TS, _TS, _GOES_ON),
    "http": _HTTP,
    "https": _HTTP,
}

_DEVICES = {
    **dict.fromkeys(("dshow", "avfoundation", "x11grab", "gdigrab", "fbdev", "kmsgrab", "decklink", "lavfi")),
    "v4l2": "video4linux2",
}
"""What comes before the name of a capture device, and the demuxer that reads it, if that has another name."""
_MADE = "lavfi"
"""Pictures that FFmpeg makes, as fast as they are read."""

_FILES = {".mkv": "matroska", ".ts": _TS, ".m2ts": _TS, ".mp4": "mp4", ".mov": "mov", ".flv": "flv", ".nut": "nut"}
"""Containers that stay playable if the process that writes them is killed; MP4 and MOV are written in fragments."""

_FRAGMENTS = (("movflags", "frag_keyframe+empty_moov+delay_moov+default_base_moof"),)
_LOSSLESS_ENDS = {"mp4": _FRAGMENTS, "mov": _FRAGMENTS, "matroska": (("cluster_time_limit", "500"),)}
"""Options with which a file that is not finished lacks little at its end."""

_PLAYED = "mpegts,matroska,webm,flv,nut,mov,mp4,avi,mpeg"
"""What reads files that are played like a stream."""

_IN_QUERIES = {**{each: (each,) for each in ("udp", "rtp", "tcp", "srt")}, "tls": ("tls", "tcp")}
"""Schemes whose options stand in the query of a URL, and the protocols that read it: TLS hands it on to TCP.
RTP and SRT do not hand it on to UDP. PyAV passes no other options to the protocol of an output."""
_CONNECTS_ITSELF = "rtsp"
"""A muxer that opens its connections without the options of their protocols, whoever calls FFmpeg."""

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True)
class LiveInputAddress:
    """Where a live stream comes from.

    url         as FFmpeg opens it
    name        for people, without secrets
    protocols, demuxers, options   see `_Scheme`
    bursts      data arrives in pieces of several seconds
    is_played   it is there already, and is read as fast as it is played: a file, or pictures that FFmpeg makes
    demuxer     to open it with; None if its contents decide
    """

    url: str
    name: str
    protocols: str
    demuxers: str
    options: tuple[tuple[str, str], ...] = ()
    bursts: bool = False
    is_played: bool = False
    demuxer: str | None = None

    @classmethod
    def parse(cls, text: str) -> LiveInputAddress:
        """Raises `MisuseError` for a scheme that is none of those known, `MediaError` for a file that is not there."""
        keep_secrets_of(text)
        device, colon, place = text.partition(":")
        if colon and device in _DEVICES and not place.startswith("//"):
            reader = _device_demuxer(device)
            return cls(place, text, "file", reader, is_played=device == _MADE, demuxer=reader)
        if not is_url(text):
            path = Path(text)
            if not path.is_file():
                raise MediaError(
                    f"the input {text} is neither a URL nor a file, expected e.g. rtsp://host/path or udp://:5000"
                )
            return cls(f"file:{path}", path.name, "file", _PLAYED, _GOES_ON, is_played=True)
        _, scheme = _scheme_of(text, "read")
        demuxer = _TS if scheme.demuxers == _TS else None
        return cls(
            text, redacted(text), scheme.protocols, scheme.demuxers, scheme.options, scheme.bursts, False, demuxer
        )

    def listens(self, options: Iterable[tuple[str, str]] = ()) -> bool:
        """Whether it waits for a sender to connect. options: of FFmpeg's protocols and demuxers, beside those in it."""
        in_url = parse_qsl(self.url.partition("?")[2], keep_blank_values=True)
        return any(
            (key in ("listen", "rtmp_listen") and value != "0")
            or (key, value) == ("mode", "listener")
            or (key == "rtsp_flags" and "listen" in value)
            for key, value in (*in_url, *options)
        )

    def check_options(self, label: str, names: Iterable[str]) -> None:
        """Raise `MisuseError` for options that FFmpeg would ignore here. label: how a user gives them.

        Raises `MediaError` if this FFmpeg was built without the protocol, whose options it does not know either.
        """
        _check_protocol(self.url, self.name, self.protocols, "read")
        known = options_to_read(self.demuxers.split(","), self.protocols.split(","))
        _refuse_unknown(f"{label} for {self.name}", names, known)


@dataclass(frozen=True)
class LiveOutputAddress:
    """Where a live stream goes.

    url         as FFmpeg opens it
    name        for people, without secrets
    muxer       FFmpeg's name of the format
    options     of the protocol and the muxer
    path        of a file, or of the playlist in a folder; None for a URL
    protocols   that FFmpeg uses for it
    """

    url: str
    name: str
    muxer: str
    options: tuple[tuple[str, str], ...] = ()
    path: Path | None = None
    protocols: str = "file"

    @classmethod
    def parse(cls, text: str) -> LiveOutputAddress:
        """Raises `MisuseError` for a scheme or a suffix that nothing can be sent to."""
        keep_secrets_of(text)
        if not is_url(text):
            return cls._of_file(text)
        name, scheme = _scheme_of(text, "write")
        if scheme.muxer is None:
            raise MisuseError(
                f"the output is {redacted(text)}, but nothing can be sent to {name}://, expected "
                f"{', '.join(_outputs())}, a folder (HLS) or a file: send it to a server by RTMP, RTSP or SRT"
            )
        options = scheme.options if scheme.muxer == "rtsp" else ()
        return cls(text, redacted(text), scheme.muxer, options, protocols=scheme.protocols)

    @classmethod
    def _of_file(cls, text: str) -> LiveOutputAddress:
        path = Path(text)
        if text.endswith(("/", "\\")) or path.is_dir() or not path.suffix:
            path /= "live.m3u8"
        if path.suffix.lower() == ".m3u8":
            return cls(_url_of(path), str(path), "hls", _HLS, path)
        muxer = _FILES.get(path.suffix.lower())
        if muxer is None:
            raise MisuseError(
                f"the output is {text}, expected a URL, a folder (HLS), or a file that stays playable after a kill: "
                f"{', '.join(_FILES)}"
            )
        return cls(_url_of(path), str(path), muxer, _LOSSLESS_ENDS.get(muxer, ()), path)

    def check_options(self, label: str, names: Iterable[str]) -> None:
        """Raise `MisuseError` for options that FFmpeg would ignore here. label: how a user gives them.

        Raises `MediaError` if this FFmpeg was built without the protocol, whose options it does not know either.
        """
        _check_protocol(self.url, self.name, self.protocols, "write")
        place, known = f"{label} for {self.name}", options_to_write(self.muxer, self._in_query)
        out_of_reach = () if self.takes_query or self.muxer == _CONNECTS_ITSELF else self.protocols.split(",")
        everything = options_to_write(self.muxer, out_of_reach) or ()
        for name in names:
            if known is not None and name not in known and name in everything:
                raise MisuseError(
                    f"{place} is {name!r}, an option of the protocol, and PyAV passes on only those of the format: "
                    f"leave it out{self._relay(name)}"
                )
        _refuse_unknown(place, names, known)

    @property
    def takes_query(self) -> bool:
        """Whether the options of its protocol can be given, in the query of the URL."""
        return bool(self._in_query)

    @property
    def _in_query(self) -> tuple[str, ...]:
        return () if self.path is not None else _IN_QUERIES.get(self.url.partition("://")[0].lower(), ())

    @property
    def muxer_options(self) -> frozenset[str] | None:
        """The options that its format takes; None if this FFmpeg cannot be asked."""
        return options_to_write(self.muxer, ())

    def _relay(self, option: str) -> str:
        scheme = self.url.partition("://")[0]
        command = f'ffmpeg -i udp://127.0.0.1:5000 -c copy -f {self.muxer} -{option} VALUE "{scheme}://..."'
        return f", or relay the stream with it: {command}" if self.is_network else ""

    @property
    def is_network(self) -> bool:
        """Whether it is worth another try after it has failed."""
        return self.path is None


_HLS = (
    ("hls_segment_type", "fmp4"),
    ("hls_time", "2"),
    ("hls_list_size", "10"),
    ("hls_flags", "delete_segments+independent_segments+temp_file"),
)


def no_protocol(name: str, verb: str) -> str:
    """The line about a protocol that this FFmpeg was built without."""
    scheme = name.partition(":")[0]
    relay = {
        "read": f'ffmpeg -i "{scheme}://..." -c copy -f mpegts udp://127.0.0.1:5000',
        "write": f'ffmpeg -i udp://127.0.0.1:5000 -c copy -f mpegts "{scheme}://..."',
    }[verb]
    return f"cannot {verb} {name}: PyAV's FFmpeg was built without {scheme}; relay it with another one, e.g. {relay}"


def _url_of(path: Path) -> str:
    """A path as FFmpeg takes it for no protocol, even with a colon. HLS cannot delete what begins with `file:`."""
    return str(path.absolute())


def is_url(text: str) -> bool:
    """Whether a name is a URL and not a file."""
    return _URL.fullmatch(text) is not None


def is_live_address(text: str) -> bool:
    """Whether a name is a URL or a capture device, which only a live run opens."""
    return is_url(text) or text.partition(":")[0] in _DEVICES


def _check_protocol(url: str, name: str, protocols: str, verb: str) -> None:
    scheme = url.partition("://")[0].lower()
    if scheme in protocols.split(",") and not has_protocol(scheme):  # that of RTSP is its demuxer
        raise MediaError(no_protocol(name, verb))


def _refuse_unknown(place: str, names: Iterable[str], known: frozenset[str] | None) -> None:
    for name in names:
        if known is not None and name not in known:
            close = get_close_matches(name, known, 2, 0.7)
            remedy = f"did you mean {' or '.join(close)}?" if close else "leave it out"
            raise MisuseError(f"{place} is {name!r}, an option that FFmpeg does not have there: {remedy}")


def _scheme_of(text: str, verb: str) -> tuple[str, _Scheme]:
    match = _URL.fullmatch(text)
    name = match["scheme"].lower() if match else ""
    if match is None or name not in _SCHEMES or not match["rest"]:
        known = _outputs() if verb == "write" else [f"{each}://" for each in _SCHEMES]
        raise MisuseError(f"cannot {verb} {redacted(text)}: expected one of {', '.join(known)} with a host, or a file")
    return name, _SCHEMES[name]


def _outputs() -> list[str]:
    return [f"{name}://" for name, scheme in _SCHEMES.items() if scheme.muxer]


def _device_demuxer(device: str) -> str:
    """Raises `MisuseError` if this FFmpeg does not read such devices."""
    from av.format import formats_available

    demuxer = _DEVICES[device] or device
    if not any(demuxer in names.split(",") for names in formats_available):
        raise MisuseError(
            f"this FFmpeg does not read {device} devices: let another one send them, e.g. ffmpeg -f {device} -i DEVICE "
            "-c:v libx264 -tune zerolatency -f mpegts udp://127.0.0.1:5000"
        )
    return demuxer
