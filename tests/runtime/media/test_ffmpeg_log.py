"""The errors in FFmpeg's log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import av
import pytest

from swiftvr_trt.runtime.media import ffmpeg_log
from swiftvr_trt.runtime.media.ffmpeg_log import Complaints, ffmpeg_errors, first_error, mute


def test_errors_are_one_line_in_the_words_of_ffmpeg() -> None:
    assert first_error(["Cannot load libcuda.so.1\n (twice)"], OSError(1, "Operation not permitted")) == (
        "Cannot load libcuda.so.1"
    )
    assert first_error([], OSError(1, "Operation not permitted")) == "Operation not permitted"
    assert first_error([], ValueError()) == "ValueError"  # not an error of its own


def test_errors_are_collected_and_the_level_is_restored() -> None:
    before = av.logging.get_level()
    with ffmpeg_errors() as said:
        pass
    assert (said, av.logging.get_level()) == ([], before)
    with ffmpeg_errors() as said:
        av.logging.log(av.logging.WARNING, "test", "a warning\n")
        av.logging.log(av.logging.ERROR, "test", "an error\n")
    assert (said, av.logging.get_level()) == (["an error"], before)


def test_errors_count_for_the_file_that_is_read_and_the_log_is_off_in_between() -> None:
    before = av.logging.get_level()
    one, two = Complaints(), Complaints(["when it was opened"])
    for complaints, name in ((one, "one"), (two, "two"), (two, "two")):
        with complaints.listening():
            assert av.logging.get_level() == av.logging.ERROR
            av.logging.log(av.logging.ERROR, "test", f"of {name}\n")
            av.logging.log(av.logging.WARNING, "test", "a warning\n")
        assert av.logging.get_level() == before
    assert ((one.count, one.first), (two.count, two.first)) == ((1, "of one"), (3, "when it was opened"))


def test_nobody_hears_what_is_muted() -> None:
    before, complaints = av.logging.get_level(), Complaints()
    with complaints.listening():
        with mute(), mute():
            assert av.logging.get_level() == before
            av.logging.log(av.logging.ERROR, "test", "muted\n")
        av.logging.log(av.logging.ERROR, "test", "heard\n")
    assert (complaints.count, complaints.first) == (1, "heard")
    assert av.logging.get_level() == before


def test_whoever_listens_hears_everything_while_others_mute() -> None:
    complaints, done = Complaints(), threading.Event()

    def free_encoders() -> None:
        while not done.is_set():
            with mute():
                assert av.logging.get_level() != av.logging.ERROR
            time.sleep(0.01)

    other = threading.Thread(target=free_encoders)
    other.start()
    try:
        for _ in range(20):
            with complaints.listening(), ffmpeg_errors():  # one within another does not wait for those who wait for it
                pass
            with complaints.listening():
                time.sleep(0.001)
                av.logging.log(av.logging.ERROR, "test", "damage\n")
    finally:
        done.set()
        other.join()
    assert complaints.count == 20


def test_whoever_waits_for_input_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg_log, "_STUCK_S", 0.1)
    waits, goes_on, heard = threading.Event(), threading.Event(), list[bool]()

    def wait_for_input() -> None:
        with ffmpeg_errors():
            waits.set()
            heard.append(goes_on.wait(30))

    reader = threading.Thread(target=wait_for_input)
    reader.start()
    waits.wait(30)
    with mute(), ffmpeg_errors() as said:  # what mutes hears nothing
        av.logging.log(av.logging.ERROR, "test", "muted\n")
    # Nor is it waited for again: a live source may take 10 s to open.
    for thread in ffmpeg_log._since:
        ffmpeg_log._since[thread] -= 600
    monkeypatch.setattr(ffmpeg_log, "_STUCK_S", 500.0)
    with mute():
        goes_on.set()
    reader.join()
    assert (heard, said) == ([True], [])


@pytest.mark.parametrize("block", [mute, ffmpeg_errors])
def test_an_interrupt_while_waiting_leaves_nobody_counted(
    monkeypatch: pytest.MonkeyPatch, block: Callable[[], AbstractContextManager[object]]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ffmpeg_log, "_switch", interrupt)
    with pytest.raises(KeyboardInterrupt), block():
        raise AssertionError("entered")
    counted = (ffmpeg_log._listening_in, ffmpeg_log._muting_in, ffmpeg_log._since)
    assert [threading.get_ident() in each for each in counted] == [False, False, False]
    assert ffmpeg_log._muted == 0


def test_what_other_threads_log_is_not_counted_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    complaints = Complaints()
    with complaints.listening():
        other = threading.Thread(target=av.logging.log, args=(av.logging.ERROR, "test", "elsewhere\n"))
        other.start()
        other.join()
    assert complaints.count == 0
    assert "elsewhere" not in "".join(capfd.readouterr())


def test_what_ffmpeg_logs_reaches_the_log_of_the_package(caplog: pytest.LogCaptureFixture) -> None:
    levels: list[int | None] = []

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            levels.extend([av.logging.get_level()] * (record.levelno == logging.DEBUG))

    before, handler = av.logging.get_level(), Watching()
    logger = logging.getLogger("swiftvr_trt.ffmpeg")
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.DEBUG, "swiftvr_trt.ffmpeg"), ffmpeg_errors():
            av.logging.log(av.logging.ERROR, "test", "an error\n")
    finally:
        logger.removeHandler(handler)
    assert [record.getMessage() for record in caplog.records] == [f"test: an error (level {av.logging.ERROR})"]
    assert levels == [before], "FFmpeg's log is off before a handler runs, which may take long"
