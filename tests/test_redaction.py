"""No secret is in what people and programs get to read."""

from __future__ import annotations

import string
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt import redaction
from swiftvr_trt.cli import console
from swiftvr_trt.cli.json_lines import emit
from swiftvr_trt.cli.run import command
from swiftvr_trt.errors import MediaError
from swiftvr_trt.redaction import keep_secret_values, keep_secrets_of, redacted
from swiftvr_trt.text import printable


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    before = set(redaction._kept)
    redaction._kept.clear()
    redaction._urls.clear()
    yield
    redaction._urls.clear()
    redaction._kept.clear()
    redaction._kept.update(before)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("old.mp4", "old.mp4"),
        ("https://huggingface.co/H-oliday/SwiftVR", "https://huggingface.co/H-oliday/SwiftVR"),
        ("rtsp://me:word@host:554/a", "rtsp://***@host:554/a"),
        ("rtsp://token@host/a", "rtsp://***@host/a"),
        ("rtsp://me:p@ss@host/a", "rtsp://***@host/a"),
        ("rtsp://me:p/ss@host/a", "rtsp://***@host/a"),
        ("rtsp://me:p?ss@host/a?tcp", "rtsp://***@host/a?***"),
        ("rtsp://me:1?2@host/a", "rtsp://***@host/a"),
        ("rtmp://host/app/key", "rtmp://host/app/***"),
        ("rtmp://host/app", "rtmp://host/app"),
        ("rtmps://host:443/app/a/b?c=d", "rtmps://host:443/app/***?c=***"),
        ("srt://host:9?mode=caller&passphrase=abc&latency=120", "srt://host:9?mode=caller&passphrase=***&latency=120"),
        ("srt://host:9?streamid=#!::u=me,s=key", "srt://host:9?streamid=***"),
        ("udp://239.1.1.1:5000?localaddr=10.0.0.1&ttl=2", "udp://239.1.1.1:5000?localaddr=10.0.0.1&ttl=2"),
        ("https://cdn/live.m3u8?token=abc#part", "https://cdn/live.m3u8?token=***"),
        ("no route to rtsp://a:b@c/d, tcp://c:554?timeout=0", "no route to rtsp://***@c/d, tcp://c:554?timeout=0"),
        ("rtsp://ip:554/user=admin&password=X&channel=1", "rtsp://ip:554/user=***&password=***&channel=***"),
        ("rtsp://ip/user=admin_password=X_channel=1", "rtsp://ip/user=***"),
        ("rtsp://ip/a/timeout=5;token=abc/b", "rtsp://ip/a/timeout=5;token=***/b"),
        ("rtsp:/me:word@host/a", "rtsp:/***@host/a"),
        ("rtsp:me:word@host/a", "rtsp:***@host/a"),
        ("rtmp:/host/app/key", "rtmp:/host/app/***"),
        ("srt:/host:9?passphrase=abc", "srt:/host:9?passphrase=***"),
        ("C:/me@home/a=b/c", "C:/me@home/a=b/c"),
        ("note: me@home is away", "note: me@home is away"),
        ("file:/a=b/c#d", "file:/a=b/c#d"),
        ("two 'rtmp://h/a/k1' and \"rtmp://h/a/k2\"", "two 'rtmp://h/a/***' and \"rtmp://h/a/***\""),
        ("--checkpoint hf:H-oliday/SwiftVR@v1", "--checkpoint hf:H-oliday/SwiftVR@v1"),
        ("expected hf:OWNER/NAME@REVISION, or note:a@b", "expected hf:OWNER/NAME@REVISION, or note:a@b"),
        ("udp:me:word@host", "udp:***@host"),
    ],
)  # fmt: skip
def test_urls(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(redacted(text)) == redacted(text)


def test_secrets_are_hidden_outside_of_urls_too() -> None:
    keep_secrets_of("rtmp://me:hunter2@host/live/long-stream-key?auth=0123456789")
    keep_secret_values({"passphrase": "sesame", "mode": "caller"})
    said = "Server error: 'long-stream-key' is taken by me with hunter2, 0123456789 and sesame as caller"
    assert redacted(said) == "Server error: '***' is taken by me with ***, *** and *** as caller"


def test_short_values_of_options_do_not_garble_other_words() -> None:
    """`100 frames in, delay 0.100 s` lost its numbers to `mpegts_service_id=100`."""
    keep_secret_values({"mpegts_service_id": "100", "flvflags": "out", "http_password": "abc", "streamid": "live/key1"})
    assert redacted("100 frames in, 96 out, delay 0.100 s") == "100 frames in, 96 out, delay 0.100 s"
    assert redacted("live/key1 for abc") == "*** for ***"


def test_short_keys_do_not_garble_other_words() -> None:
    keep_secrets_of("rtmp://host/live/stream")
    assert redacted("video stream 0 of live/stream") == "video stream 0 of live/stream"


def test_every_door_hides_them(capsys: pytest.CaptureFixture[str]) -> None:
    url = "rtsp://me:hunter2@host/a"
    emit("note", text=f"opening {url}", files=[{"input": url}])
    assert "hunter2" not in capsys.readouterr().out
    assert "hunter2" not in printable(url)
    assert "hunter2" not in str(MediaError(f"cannot open {url}"))


SECRETS = st.text(
    string.ascii_letters + string.digits + "!$%&*+,-.:;=@^_|~/?'<> \"()[]{}`", min_size=10, max_size=20
).filter(lambda text: text[0].isalnum() and text[-1].isalnum() and "://" not in text)


@given(SECRETS, st.sampled_from(["rtsp", "rtmp", "srt", "https", "RTSP"]), st.booleans())
def test_no_password_leaves(password: str, scheme: str, quoted: bool) -> None:
    redaction._kept.clear()
    redaction._urls.clear()
    url = f"{scheme}://user:{quote(password) if quoted else password}@example.org:1234/app?mode=caller"
    keep_secrets_of(url)
    for said in (f"error opening {url}: refused", f"{url!r} [tcp @ 0x55] {url}\n", f"user=user, pw={password}."):
        assert password not in redacted(said)
        assert quote(password) not in redacted(said) or quote(password) in "example.org:1234/app?mode=caller"


@given(
    SECRETS, st.sampled_from(["rtmp://example.org/app/{}", "srt://example.org:9?streamid={}", "https://h/a?key={}&x=1"])
)
def test_no_key_leaves(key: str, template: str) -> None:
    redaction._kept.clear()
    key = quote(key, safe="")
    url = template.format(key)
    keep_secrets_of(url)
    for said in (url, f"Failed to open segment of '{url}'", f"publishing {key} failed"):
        assert key not in redacted(said)


@given(
    SECRETS,
    st.sampled_from(["rtsp://ip:554/user=admin&password={}&channel=1", "rtsp:/me:{}@host/a", "rtsp:me:{}@host"]),
)
def test_no_password_of_a_camera_or_of_a_url_with_a_slip_leaves(password: str, template: str) -> None:
    redaction._kept.clear()
    redaction._urls.clear()
    if "{}&" in template:
        password = quote(password, safe="")
    keep_secrets_of("--input=" + template.format(password))
    url = template.format(password)
    for said in (f"the input {url} is neither", f"{url!r} is not there", f"{Path(url)}", f"it said {password}."):
        assert password not in redacted(said)


@pytest.mark.parametrize("flag", [[], ["--live"], ["--live", "--latency", "never"], ["--no-such-option"]])
@pytest.mark.parametrize(
    "url", ["rtsp://me:hun'ter 2<b@host/a", "rtsp:/me:hunter2@host", "rtsp://ip/user=me&password=hunter2&channel=1"]
)
def test_no_error_of_a_command_holds_a_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, flag: list[str]
) -> None:
    for line in ([url, "out.mkv"], ["in.mkv", url]):
        monkeypatch.setattr(sys, "argv", ["swiftvr-run", *line, *flag])
        with pytest.raises(SystemExit) as caught:
            console.run(command, "swiftvr-run")
        said = "".join(capsys.readouterr())
        assert caught.value.code != 0
        assert "hun" not in said
        assert "ter 2" not in said
