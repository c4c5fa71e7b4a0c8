"""Hides secrets in texts before anybody sees them: passwords and keys in URLs, and what a run was told to keep secret.

    rtmp://me:word@host/live/key        rtmp://***@host/live/***
    srt://host:9000?passphrase=abc      srt://host:9000?passphrase=***
    rtsp://host/user=me&password=word   rtsp://host/user=***&password=***

Every text that leaves the program goes through `redacted`: `text.printable` and the JSON events call it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

HIDDEN = "***"

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)(?P<colon>:/{0,2})(?P<rest>(?:[^\s\"'<>]*[^\s\"'<>.,:;)\]])?)")
_WHOLE = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)(?P<colon>:/{0,2})(?P<rest>.*)", re.DOTALL)
"""A URL that nothing follows: it may hold spaces and quotation marks."""
_STREAMS = re.compile(r"rtmp\w*|rtsps?|srt|https?", re.IGNORECASE)
"""Schemes that make a URL of a text with one slash. With any other scheme, an @ does."""
_NETWORK = re.compile(rf"{_STREAMS.pattern}|udp|rtp|tcp|tls|ftps?", re.IGNORECASE)
"""Schemes that make a URL of a text without a slash if it holds an @. `hf:OWNER/NAME@REVISION` is none."""

_SHOWN = frozenset({
    "analyzeduration", "buffer_size", "connect_timeout", "conntimeo", "fflags", "ffs", "fifo_size", "framerate",
    "hls_flags", "hls_list_size", "hls_time", "input_format", "iw", "latency", "linger", "listen", "listen_timeout",
    "live_start_index", "localaddr", "localport", "localrtcpport", "localrtpport", "maxbw", "mode", "mss",
    "overrun_nonfatal", "pbkeylen", "peerlatency", "pixel_format", "pkt_size", "probesize", "rcvlatency",
    "recv_buffer_size", "reuse", "rtcpport", "rtsp_flags", "rtsp_transport", "rw_timeout", "send_buffer_size",
    "sources", "tcp_nodelay", "timeout", "transtype", "tsbpd", "ttl", "video_size",
})  # fmt: skip
"""Names in queries and options whose values are no secrets. The values of all others are hidden."""

_PASSWORD = re.compile("pass|pwd|secret", re.IGNORECASE)
"""Finds the names of passwords."""

_SHORTEST_PASSWORD = 3
_SHORTEST_KEY = 8
"""Shorter values are hidden in URLs only: everywhere else, they would hide ordinary words."""

_kept: set[str] = set()
_urls: dict[str, str] = {}
"""Whole URLs that hold secrets, and what is shown of them."""


def redacted(text: str) -> str:
    """The text without secrets. Texts without URLs, and without values that were kept secret, come back unchanged."""
    for url in sorted(_urls, key=len, reverse=True):
        text = text.replace(url, _urls[url])
    if ":" in text:
        text = _URL.sub(_hidden, text)
    for secret in sorted(_kept, key=len, reverse=True):
        if secret in text:
            text = _as_word(secret).sub(HIDDEN, text)
    return text


def _as_word(secret: str) -> re.Pattern[str]:
    """Finds the secret, but not within a longer word."""
    before, after = (r"(?<!\w)" if secret[0].isalnum() else "", r"(?!\w)" if secret[-1].isalnum() else "")
    return re.compile(before + re.escape(secret) + after)


def keep_secrets_of(url: str) -> None:
    """From now on, hide the secrets of this URL wherever they appear by themselves, as in lines of FFmpeg.

    Of any other text, such as an argument that holds no URL, nothing is kept.
    """
    found = _WHOLE.search(url)
    if found is None or not _is_url(found):
        return
    _kept.update(_secrets_of(found["scheme"], found["rest"]))
    whole, shown = found[0], _hidden(found)
    if shown != whole:
        _urls.update(
            {
                whole: shown,
                repr(whole)[1:-1]: shown,
                whole.replace("://", ":/"): shown.replace("://", ":/"),  # as `Path` writes it
            }
        )


def keep_secret_values(options: Mapping[str, str]) -> None:
    """From now on, hide the values of these options, except those that are known to be no secrets.

    Short ones are hidden only of options that are called passwords: `100` and `out` are found in any line.
    """
    for name, value in options.items():
        shortest = _SHORTEST_PASSWORD if _PASSWORD.search(name) else _SHORTEST_KEY
        if is_hidden(name) and len(value) >= shortest:
            _kept.add(value)


def is_hidden(name: str) -> bool:
    """Whether the value of an option or of a key in a query may be a secret."""
    return name.lower() not in _SHOWN


def _split(rest: str) -> tuple[str, str, str]:
    """User information with its @, the place, and the query with its question mark, each maybe empty.

    A password may hold any character, so everything up to the last @ counts as user information.
    """
    user, at, rest = rest.rpartition("@")
    place, mark, query = rest.partition("?")
    return user + at, place, mark + query


def _is_url(found: re.Match[str]) -> bool:
    """Whether a match is a URL, maybe one that was typed wrongly, and neither a path on a drive nor other text."""
    if found["colon"] == "://":
        return True
    if len(found["scheme"]) == 1:
        return False
    if found["colon"] == ":":
        return "@" in found["rest"] and _NETWORK.fullmatch(found["scheme"]) is not None
    return "@" in found["rest"] or _STREAMS.fullmatch(found["scheme"]) is not None


def _hidden(found: re.Match[str]) -> str:
    """What is shown of a match."""
    return _hide(found["scheme"], found["colon"], found["rest"]) if _is_url(found) else found[0]


def _hide(scheme: str, colon: str, rest: str) -> str:
    user, place, query = _split(rest)
    place = place.partition("#")[0]
    if scheme.lower().startswith("rtmp"):
        host, _, path = place.partition("/")
        app, slash, key = path.partition("/")
        place = "/".join(filter(None, (host, app))) + (slash + HIDDEN if key else slash)
    place = _PAIR.sub(lambda pair: _hide_value(pair[0]), place)
    shown = "&".join(_hide_value(part) for part in re.split("[&;]", query[1:])) if query else ""
    return f"{scheme}{colon}{HIDDEN + '@' if user else ''}{place}{query[:1]}{shown}"


_PAIR = re.compile(r"[^/&;=]+=[^/&;]*")
"""A name and a value in the path of a URL."""


def _hide_value(part: str) -> str:
    name, equals, value = part.partition("=")
    if not equals:
        return part if part.lower() in _SHOWN or not part else HIDDEN
    return part if not is_hidden(name) or not value else f"{name}={HIDDEN}"


def _secrets_of(scheme: str, rest: str) -> Iterator[str]:
    user, place, query = _split(rest)
    password = user[:-1].partition(":")[2]
    if len(password) >= _SHORTEST_PASSWORD:
        yield from {password, unquote(password)}
    queries = {query[1:], rest.partition("?")[2]}  # the @ may be in the query
    keys = [part.partition("=") for each in queries for part in re.split("[&;]", each)]
    keys += [pair.partition("=") for pair in _PAIR.findall(place)]
    for name, _, value in keys:
        if _PASSWORD.search(name) and len(value) >= _SHORTEST_PASSWORD:
            yield from {value, unquote(value)}
    values = [value if equals else name for name, equals, value in keys if is_hidden(name)]
    if scheme.lower().startswith("rtmp"):
        values.append(place.partition("/")[2].partition("/")[2])
    for value in values:
        yield from (each for each in {value, unquote(value)} if len(each) >= _SHORTEST_KEY)
