"""Transparency is kept beside the picture, dropped or refused, in videos and in images."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from swiftvr_trt.errors import MediaError, MisuseError
from swiftvr_trt.runtime.media import Picture, SinkOptions, open_sink, open_source
from swiftvr_trt.runtime.media.alpha import alpha_of, enlarged, is_opaque, keeps_alpha, lost_alpha, with_alpha
from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.media.contents import open_image
from swiftvr_trt.runtime.media.images_out import encode_image
from swiftvr_trt.runtime.media.source_options import SourceOptions

KEEP = SourceOptions(planes=True, alpha="keep")


def rgba(opaque: int = 0) -> np.ndarray:
    """A picture that fades from transparent on the left to opaque on the right."""
    pixels = np.full((16, 24, 4), 100, np.uint8)
    pixels[..., 3] = np.maximum(np.linspace(0, 255, 24).astype(np.uint8), opaque)
    return pixels


def frame(opaque: int, pix_fmt: str) -> av.VideoFrame:
    return converted(av.VideoFrame.from_ndarray(rgba(opaque), "rgba"), format=pix_fmt)


def video(path: Path, opaque: int = 0, codec: str = "ffv1", pix_fmt: str = "yuva420p", mode: str = "1") -> Path:
    """mode: the tag by which Matroska says that a video is transparent, also of FFV1, whose decoder reads it."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 24, 16, pix_fmt
        stream.metadata["alpha_mode"] = mode
        for _ in range(3):
            container.mux(stream.encode(frame(opaque, pix_fmt)))
        container.mux(stream.encode(None))
    return path


RESTORING = pytest.mark.parametrize("reading", [SourceOptions(planes=True), SourceOptions(deep=True)])
"""To restore whole pictures, and tiles."""


def restored(before: Path, after: Path, options: SourceOptions = KEEP, sink: SinkOptions | None = None) -> np.ndarray:
    """The first picture of the output, RGBA, after every picture was doubled in size."""
    with (
        open_source(before, options=options) as source,
        open_sink(after, source.info, 48, 32, sink or SinkOptions()) as output,
    ):
        for item in source:
            if isinstance(item, Picture):
                output.write(item.with_pixels(item.pixels.repeat(2, 0).repeat(2, 1)))
        output.commit()
    with av.open(str(after)) as container:
        found = next(container.decode(video=0))
        return np.asarray(converted(found, format="rgba").to_ndarray())


@pytest.mark.parametrize(
    ("codec", "suffix", "pix_fmt"),
    [("ffv1", ".mkv", "yuva420p"), ("prores_ks", ".mov", "yuva444p10le"), ("ffv1", ".mkv", "yuva444p10le")],
)
@RESTORING
def test_transparency_of_a_video_is_enlarged_as_it_is(
    tmp_path: Path, codec: str, suffix: str, pix_fmt: str, reading: SourceOptions
) -> None:
    before = video(tmp_path / f"in{suffix}", codec=codec, pix_fmt=pix_fmt)
    keep = replace(reading, alpha="keep")
    found = restored(before, tmp_path / f"out{suffix}", keep, SinkOptions(codec=codec))
    expected = enlarged(np.ascontiguousarray(rgba()[..., 3]), 32, 48)
    assert np.abs(found[..., 3].astype(int) - expected).max() <= 4
    assert np.abs(found[..., :3].astype(int) - 100).max() <= 4


def test_transparency_of_rows_of_any_length_is_always_the_same() -> None:
    """With eight threads, one frame in six was damaged on a busy machine."""
    noise = np.random.default_rng(0).integers(0, 256, (184, 328, 4), np.uint8)
    picture = converted(av.VideoFrame.from_ndarray(noise, "rgba"), format="yuva420p")
    reformatter = VideoReformatter()
    first, *others = (alpha_of(picture, None, reformatter, deep=False) for _ in range(100))
    assert all(np.array_equal(each, first) for each in others)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
@RESTORING
def test_transparency_of_an_image_is_enlarged_as_it_is(tmp_path: Path, suffix: str, reading: SourceOptions) -> None:
    (tmp_path / f"in{suffix}").write_bytes(encode_image(rgba(), suffix))
    found = restored(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", replace(reading, alpha="keep"))
    assert np.array_equal(found[..., 3], enlarged(np.ascontiguousarray(rgba()[..., 3]), 32, 48))


@RESTORING
def test_transparency_is_refused_unless_somebody_says_what_becomes_of_it(
    tmp_path: Path, reading: SourceOptions
) -> None:
    path = video(tmp_path / "in.mkv")
    with pytest.raises(MediaError, match=r"is transparent.*--alpha keep.*--alpha drop"):
        open_source(path, options=reading)
    with open_source(path, options=replace(reading, alpha="drop")) as source:
        assert "transparency is dropped" in source.info.notes
        assert not source.info.alpha


def test_transparency_that_the_decoder_does_not_read_cannot_be_kept() -> None:
    """WebM stores that of VP8 and VP9 beside the picture, where FFmpeg's own decoders do not look."""
    path, first = Path("in.webm"), av.VideoFrame(24, 16, "yuv420p")
    with pytest.raises(MediaError, match=r"is transparent.*--alpha drop"):
        keeps_alpha(path, None, first, hidden=True)
    with pytest.raises(MediaError, match=r"where FFmpeg's decoder does not read it.*--alpha drop"):
        keeps_alpha(path, "keep", first, hidden=True)
    assert not keeps_alpha(path, "drop", first, hidden=True)
    assert not keeps_alpha(path, None, first)


def becomes_transparent(path: Path) -> Path:
    """A title that fades in begins opaque."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "yuva420p"
        for opaque in (255, 0):
            container.mux(stream.encode(frame(opaque, stream.pix_fmt)))
        container.mux(stream.encode(None))
    return path


def images_then_transparent(place: Path) -> Path:
    """A folder of two images, the second one transparent."""
    (place / "in").mkdir()
    (place / "in" / "1.png").write_bytes(encode_image(np.ascontiguousarray(rgba()[..., :3]), ".png"))
    (place / "in" / "2.png").write_bytes(encode_image(rgba(), ".png"))
    return place / "in"


def test_keep_also_keeps_what_becomes_transparent_later(tmp_path: Path) -> None:
    with open_source(becomes_transparent(tmp_path / "in.mkv"), options=KEEP) as source:
        alphas = [item.stamp.alpha for item in source if isinstance(item, Picture)]
    assert [alpha is not None and int(alpha.min()) for alpha in alphas] == [255, 0]


@pytest.mark.parametrize("options", [SourceOptions(), SourceOptions(planes=True), SourceOptions(alpha="drop")])
def test_an_opaque_picture_needs_no_decision(tmp_path: Path, options: SourceOptions) -> None:
    """Decoders of GIF, for example, always give transparency."""
    (tmp_path / "in").mkdir()
    for name in ("1.png", "2.webp"):
        (tmp_path / "in" / name).write_bytes(encode_image(rgba(255), Path(name).suffix))
    for path in (video(tmp_path / "in.mkv", opaque=255), tmp_path / "in"):
        with open_source(path, options=options) as source:
            assert not source.info.alpha
            list(source)
            assert not [note for note in source.notes if "transparen" in note]


@pytest.mark.parametrize("output", ["out.mkv", "out"])
@pytest.mark.parametrize("folder", [True, False])
def test_what_becomes_transparent_later_is_never_dropped_unsaid(tmp_path: Path, folder: bool, output: str) -> None:
    before = images_then_transparent(tmp_path) if folder else becomes_transparent(tmp_path / "in.mkv")
    for options, words in (
        (SourceOptions(planes=True), "transparency.* begins after the first .*--alpha keep"),
        (SourceOptions(planes=True, alpha="drop"), "transparency is dropped" if folder else None),
    ):
        after = tmp_path / f"{options.alpha}-{output}"
        with open_source(before, options=options) as source, open_sink(after, source.info, 24, 16) as sink:
            for item in source:
                sink.write(item)
            sink.commit()
        notes = [note for note in source.notes + sink.notes if "transparen" in note]
        assert len(notes) == (words is not None)
        assert all(re.search(str(words), note) for note in notes)


def test_keep_keeps_the_transparency_of_any_image(tmp_path: Path) -> None:
    with open_source(images_then_transparent(tmp_path), options=KEEP) as source:
        alphas = [item.stamp.alpha for item in source if isinstance(item, Picture)]
        assert source.notes == ()
    assert [alpha is not None and int(alpha.min()) for alpha in alphas] == [255, 0]


def palette_image(alpha: int) -> bytes:
    """A PNG of two colours, one of them as opaque as this."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress((b"\0" + bytes([0, 1] * 12)) * 16)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 24, 16, 8, 3, 0, 0, 0)) + chunk(
        b"PLTE", bytes([200, 0, 0, 0, 200, 0])
    )
    return (
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"tRNS", bytes([255, alpha])) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_a_palette_can_be_transparent(tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    path.write_bytes(palette_image(255))
    with open_source(path, options=SourceOptions(planes=True)) as source:
        assert (source.info.alpha, source.notes) == (False, ())
    path.write_bytes(palette_image(0))
    with pytest.raises(MediaError, match=r"is transparent.*--alpha keep"):
        open_source(path, options=SourceOptions(planes=True))
    assert set(restored(path, tmp_path / "out.png")[..., 3].ravel()) >= {0, 255}


@pytest.mark.parametrize("pix_fmt", ["yuva420p", "yuva444p10le", "gbrap12be", "rgba", "ya8", "rgba64be", "gbrapf32le"])
def test_opaque_is_what_shows_nothing_through(pix_fmt: str) -> None:
    assert is_opaque(frame(255, pix_fmt))
    assert not is_opaque(frame(0, pix_fmt))
    assert not is_opaque(frame(200, pix_fmt))


def palette_frame(alpha: int) -> av.VideoFrame:
    container = open_image(palette_image(alpha))
    with container:
        return next(container.decode(video=0))


def test_a_palette_that_becomes_transparent_is_kept_and_nobody_is_told_to_do_what_they_did() -> None:
    path, opaque, clear = Path("in.gif"), palette_frame(255), palette_frame(0)
    assert opaque.format.name == "pal8"
    assert keeps_alpha(path, "keep", opaque)
    assert not any(keeps_alpha(path, wanted, opaque) for wanted in (None, "drop"))
    assert ["--alpha keep" in line for line in lost_alpha(clear, None, kept=False)] == [True]
    assert ["--alpha keep" in line for line in lost_alpha(clear, "keep", kept=False)] == [False]


@pytest.mark.parametrize(("alpha", "opaque"), [(1.0, True), (0.5, False), (0.0, False)])
def test_half_floats_are_not_read_as_whole_numbers(alpha: float, opaque: bool) -> None:
    """swscale reads them, but does not write them."""
    picture = av.VideoFrame(24, 16, "gbrapf16le")
    for plane, value in zip(picture.planes, (0.5, 0.5, 0.5, alpha), strict=True):
        plane.update(np.full(plane.buffer_size // 2, value, "<f2").tobytes())
    assert is_opaque(picture) == opaque


def test_an_output_that_holds_no_transparency_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(encode_image(rgba(), ".png"))
    for before, name, said in (
        (video(tmp_path / "in.mkv"), "out.mp4", "libx264 holds no transparency: use ffv1"),
        (tmp_path / "in.png", "out.jpg", r"\.jpg images hold no transparency"),
    ):
        with open_source(before, options=KEEP) as source, pytest.raises(MediaError, match=said):
            open_sink(tmp_path / name, source.info, 48, 32)


def test_depths_are_joined() -> None:
    shallow, deep = np.full((2, 3), 128, np.uint8), np.full((2, 3), 128 * 257, np.uint16)
    for alpha in (shallow, deep):
        assert (with_alpha(np.zeros((2, 3, 3), np.uint8), alpha)[..., 3] == 128).all()
        assert (with_alpha(np.zeros((2, 3, 3), np.uint16), alpha)[..., 3] == 128 * 257).all()


def test_another_word_is_refused() -> None:
    with pytest.raises(MisuseError, match="alpha is 'no', expected one of keep, drop"):
        SourceOptions(alpha="no")
