"""Pictures of an animation by several encoders are like those by one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import count
from typing import Any

import av

from swiftvr_trt.runtime.media.animations import joiner_for

from .videos import noise


def encoded(codec: str, pictures: range) -> Iterator[bytes]:
    """These pictures, by an encoder of their own."""
    with av.open(io.BytesIO(), "w", format=codec) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        frames = [av.VideoFrame.from_ndarray(noise(index)[:, :, 0].copy(), "gray") for index in pictures]
        yield from [bytes(packet) for frame in (*frames, None) for packet in stream.encode(frame)]


def test_pictures_by_one_encoder_stay_as_they_are() -> None:
    for codec in ("apng", "gif"):
        join, pictures = joiner_for(codec), list(encoded(codec, range(3)))
        assert list(map(join, pictures)) == pictures


def test_other_containers_keep_the_headers_of_a_gif() -> None:
    """Players that begin there need them."""
    join, pictures = joiner_for("nut"), list(encoded("gif", range(1))) * 2
    assert list(map(join, pictures)) == pictures


def test_chunks_of_an_animated_png_are_numbered_from_its_first_to_its_last_picture() -> None:
    join, number = joiner_for("apng"), count()
    for index, picture in enumerate([*encoded("apng", range(2)), *encoded("apng", range(2, 4))]):
        joined, place = join(picture), 0
        while place < len(joined):
            size, kind = int.from_bytes(joined[place : place + 4]), joined[place + 4 : place + 8]
            assert kind in ((b"fcTL", b"fdAT") if index else (b"fcTL", b"IDAT"))
            if kind != b"IDAT":
                assert int.from_bytes(joined[place + 8 : place + 12]) == next(number)
            place += 12 + size
    assert next(number) > 6


def test_a_gif_has_one_header() -> None:
    join = joiner_for("gif")
    pictures = [*encoded("gif", range(2)), *encoded("gif", range(2, 4))]
    assert [picture.startswith(b"GIF89a") for picture in pictures] == [True, False, True, False]
    joined = [join(picture) for picture in pictures]
    assert [picture.startswith(b"GIF89a") for picture in joined] == [True, False, False, False]
    assert [picture[:2] for picture in joined[1:]] == [b"\x21\xf9"] * 3  # each begins with its own control block
