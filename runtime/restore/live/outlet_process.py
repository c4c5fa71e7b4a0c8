"""The process that sends the packets of a live run to their receiver, or writes them into a file.

FFmpeg holds Python's lock while it connects to a receiver, and waits as long as that takes. Here this stops nothing
else, and a receiver that no longer reads is left by ending the process.

    {"open": {...}}          -> {"opened": true} or {"error": text}
    {"packet": [...]}        -> {"sent": number} or {"error": text}
    {"finish": true}         -> {"finished": true} or {"error": text}
"""

from __future__ import annotations

import base64
import logging
from typing import Any

from .... import leaving
from ....child import Message, Parent
from ...media.ffmpeg_log import ffmpeg_errors, first_error
from ...media.muxer import open_muxer
from .packets import VIDEO_STREAM, PlainPacket, open_header


class _Unused(logging.Handler):
    """Collects what PyAV says about options that nothing took."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


class _Sender:
    """The open output."""

    def __init__(self, order: dict[str, Any]) -> None:
        import av

        header = order["header"]
        self._templates = open_header(base64.b64decode(header["streams"]))
        if header["passed_on"]:
            self._container = open_muxer(order["url"], order["muxer"], order["options"], passed_on=True)
        else:
            self._container = av.open(order["url"], "w", format=order["muxer"], options=order["options"])
        self._streams = [self._container.add_stream_from_template(each, opaque=True) for each in self._templates]
        self._streams[VIDEO_STREAM].codec_context.codec_tag = header["tag"]
        unused = _Unused()
        log = logging.getLogger("av.container.output")
        log.addHandler(unused)
        try:
            self._container.start_encoding()
        finally:
            log.removeHandler(unused)
        if unused.said:
            raise ValueError(
                f"FFmpeg does not know these options there: {unused.said[0].partition('{')[2].rstrip('}')}"
            )
        self._sent = 0

    def send(self, plain: list[Any]) -> int:
        packet = PlainPacket.from_plain(plain)
        self._container.mux(packet.packet(self._streams[packet.stream]))
        self._sent += 1
        return self._sent

    def finish(self) -> None:
        self._container.close()


def main(parent: Parent) -> None:
    """Serve until the parent has no more orders.

    Whoever stops a service signals all its processes. The parent decides what follows: what has come is still sent.
    """
    with leaving.draining(lambda: None, once=False):
        _serve_all(parent)


def _serve_all(parent: Parent) -> None:
    sender: _Sender | None = None
    while (order := parent.receive()) is not None:
        try:
            with ffmpeg_errors() as said:
                sender, answer = _serve(sender, order)
        except Exception as error:  # noqa: BLE001 (whatever it is, the parent decides what follows)
            answer = {"error": first_error(said, error)}
        parent.answer(answer)


def _serve(sender: _Sender | None, order: Message) -> tuple[_Sender | None, Message]:
    if "open" in order:
        return _Sender(order["open"]), {"opened": True}
    if sender is None:
        return None, {"error": "it is not open"}
    if "packet" in order:
        return sender, {"sent": sender.send(order["packet"])}
    sender.finish()
    return sender, {"finished": True}
