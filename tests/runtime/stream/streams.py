"""Frames to feed to sessions."""

from __future__ import annotations

from swiftvr_trt import (
    Session,
)
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.runtime.stream.session import Frame

LANDSCAPE = (33, 57)
PORTRAIT = (57, 33)


def clip(frames: int, size: tuple[int, int] = LANDSCAPE, begin: int = 0) -> list[Frame]:
    return [synthetic_frame(begin + index, *size) for index in range(frames)]


def feed_all(session: Session, frames: list[Frame]) -> list[Frame]:
    return [restored for frame in frames for restored in session.feed(frame)]
