"""What nobody expects ends the threads of a live stream, and is called what it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swiftvr_trt.errors import InternalError, MachineError, SwiftVRError
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.restore.live.addresses import LiveInputAddress, LiveOutputAddress
from swiftvr_trt.runtime.restore.live.counts import LiveStatistics
from swiftvr_trt.runtime.restore.live.options import LiveOptions
from swiftvr_trt.runtime.restore.live.outlet import LiveEncoding
from swiftvr_trt.runtime.restore.live.reading import LiveReader
from swiftvr_trt.runtime.restore.live.writing import LiveWriter
from tests.patience import PATIENCE_S
from tests.shortage import NO_THREAD, refuse_threads

from .test_outlet import info

PLACE = LiveOutputAddress.parse("udp://127.0.0.1:9")
NO_MORE_THREADS = "not enough memory or processes for another thread"


def read_by(work: Callable[..., object], patch: pytest.MonkeyPatch) -> SwiftVRError | None:
    """The error of a reader that does this when it opens its source."""
    patch.setattr("swiftvr_trt.runtime.restore.live.reading.open_source_of_any_rate", work)
    source = LiveInputAddress.parse(__file__)
    reader = LiveReader(source, LiveOptions(), SourceOptions(), LiveStatistics(), print)
    reader.start()
    assert reader.opened.wait(PATIENCE_S)
    return reader.error


def written_by(encode: Callable[..., LiveEncoding]) -> SwiftVRError | None:
    """The error of a writer that encodes like this."""
    writer = LiveWriter(PLACE, LiveOptions(), encode, LiveStatistics(), print)
    writer.start()
    assert writer.finished.wait(PATIENCE_S)
    return writer.error


@pytest.mark.parametrize(
    ("error", "becomes", "message"),
    [
        (MemoryError("no room"), MachineError, "not enough memory (no room); close"),
        (RuntimeError(NO_THREAD), MachineError, NO_MORE_THREADS),
        (KeyError("x"), InternalError, "{} failed: KeyError: 'x'"),
    ],
)
def test_both_threads_say_what_is_short(
    monkeypatch: pytest.MonkeyPatch, error: Exception, becomes: type[SwiftVRError], message: str
) -> None:
    def fail(*_: object) -> LiveEncoding:
        raise error

    for work, found in (("reading", read_by(fail, monkeypatch)), ("writing", written_by(fail))):
        assert isinstance(found, becomes)
        assert str(found).startswith(message.format(work))


def test_a_connection_that_gets_no_thread_says_what_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_threads(monkeypatch, "swiftvr-child")
    found = written_by(lambda: LiveEncoding(PLACE, info(sound=False), (96, 64), SinkOptions()))
    assert isinstance(found, MachineError)
    assert str(found).startswith(NO_MORE_THREADS)
