"""The errors in FFmpeg's log."""

from __future__ import annotations

import av

from swiftvr_trt.runtime.media.ffmpeg_log import ffmpeg_errors, first_error


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
