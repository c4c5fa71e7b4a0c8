"""Images whose content is known, for the tests of media."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from swiftvr_trt.runtime.media import Picture, SinkOptions, open_sink, open_source
from swiftvr_trt.runtime.media.images_out import encode_image

SUFFIXES = [".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"]


def image(value: int, width: int = 24, height: int = 16) -> np.ndarray:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = value, 255 - value, 77
    return pixels


def folder(path: Path, names: list[str], width: int = 24, height: int = 16) -> Path:
    """A new folder of images: the first of value 0, the next of 20, and so on."""
    path.mkdir()
    for index, name in enumerate(names):
        (path / name).write_bytes(encode_image(image(index * 20, width, height), Path(name).suffix.lower()))
    return path


def hdr_png(transfer: int) -> bytes:
    """A PNG file of 24x16 with 16 bits and these tags: BT.2020, and a transfer function by its code point."""
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.framerate = 24, 16, "rgb48be", Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.full((16, 24, 3), 0x8080, np.uint16), "rgb48be")
    frame.color_primaries, frame.color_trc = 9, transfer
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def pictures(path: Path, rate: Fraction | None = None) -> list[Picture]:
    with open_source(path, rate=rate) as source:
        return [item for item in source if isinstance(item, Picture)]


def copy(before: Path, after: Path, options: SinkOptions | None = None) -> None:
    """From a source to a sink, as pictures of 24x16."""
    with open_source(before) as source, open_sink(after, source.info, 24, 16, options) as sink:
        for item in source:
            sink.write(item)
        sink.commit()
