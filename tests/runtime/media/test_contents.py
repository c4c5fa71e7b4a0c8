"""Files are opened by what they contain, and nothing else is opened."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.media import open_source
from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.media.contents import holds_video, is_animated, open_container

from .images import folder
from .videos import EVEN, make_noise, make_video, one_line, read


@pytest.mark.parametrize("name", ["in.mp4", "in.m3u8", "in.txt", "in"])
@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\n{clip}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{clip}'\n",
    ],
    ids=["hls", "ffconcat"],
)
def test_a_playlist_opens_no_other_file(tmp_path: Path, name: str, content: str) -> None:
    clip = make_noise(tmp_path / "clip.ts")
    (tmp_path / name).write_text(content.format(clip=clip))
    with pytest.raises(MediaError, match=r"is a playlist.*join them first, e\.g\. ffmpeg ") as error:
        open_source(tmp_path / name)
    assert one_line(error)


@pytest.mark.parametrize("name", ["a.ans", "a.nfo", "a.txt", "a.mp4", "a.srt", "a.svg"])
def test_text_is_no_video(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n" * 200)
    with pytest.raises(MediaError, match=r"cannot be read as a video|no video stream") as error:
        open_source(tmp_path / name)
    assert one_line(error)
    assert "whitelist" not in str(error.value)


@pytest.mark.parametrize("name", ["a.ppm", "b.tga", "c.dpx", "d.dat"])
def test_a_picture_in_another_format_is_called_one(tmp_path: Path, name: str) -> None:
    encoder = {"b.tga": "targa", "c.dpx": "dpx"}.get(name, "ppm")
    (tmp_path / name).write_bytes(picture(encoder))
    with pytest.raises(MediaError, match=rf'not read, expected PNG.* magick "{name}" "{name[0]}\.png"$') as error:
        open_source(tmp_path / name)
    assert one_line(error)


def test_a_picture_with_another_name_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(picture("png"))
    with pytest.raises(MediaError, match=r"is a picture, which its name does not say: rename it, e\.g\. to a\.png$"):
        open_source(tmp_path / "a.dat")


def picture(encoder: str) -> bytes:
    """A picture of 64x48 pixels."""
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, av.VideoCodecContext)
    form = "bgr24" if encoder == "targa" else "rgb24"
    context.width, context.height, context.pix_fmt, context.time_base = 64, 48, form, Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 99, np.uint8), format=form)
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def test_the_reason_is_of_this_file(tmp_path: Path) -> None:
    (tmp_path / "b.ts").write_bytes(bytes(5000))
    av.logging.log(av.logging.ERROR, "h264", "said of another file\n")
    with pytest.raises(MediaError, match=r"b\.ts cannot be read as a video \(Invalid data found"):
        open_source(tmp_path / "b.ts")


@pytest.mark.parametrize("name", ["img%03d.gif", "img%03d.mp4", "img%03d.jpg", "50%.mkv"])
def test_a_percent_sign_is_a_part_of_the_name(tmp_path: Path, name: str) -> None:
    make_video(tmp_path / "a.mkv", EVEN).rename(tmp_path / name)
    for number in range(3):
        shutil.copy(tmp_path / name, tmp_path / f"img{number:03d}{Path(name).suffix}")
    items, _ = read(tmp_path / name)
    assert len(items) == len(EVEN)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif", ".avi"])
def test_a_video_that_is_named_like_an_image_is_a_video(tmp_path: Path, suffix: str) -> None:
    codec = {".gif": "gif"}.get(suffix, "libx264")
    path = make_video(tmp_path / f"a{suffix}", EVEN, codec) if codec != "gif" else make_gif(tmp_path / "a.gif")
    named = path.rename(tmp_path / "a.png")
    assert holds_video(named)
    items, _ = read(named)
    assert len(items) == len(EVEN)


def make_gif(path: Path) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "rgb8"
        for index in range(len(EVEN)):
            frame = av.VideoFrame(32, 24, "rgb24")
            for plane in frame.planes:
                plane.update(bytes([index * 8 % 256]) * plane.buffer_size)
            container.mux(stream.encode(converted(frame, format="rgb8")))
        container.mux(stream.encode(None))
    return path


def test_images_are_images_whatever_their_suffix(tmp_path: Path) -> None:
    for file in folder(tmp_path / "in", ["a.png", "b.jpg", "c.webp", "d.bmp", "e.tif"]).iterdir():
        assert not holds_video(file)
        assert not is_animated(file.read_bytes())
        renamed = file.rename(tmp_path / f"{file.stem}.png")
        assert not holds_video(renamed)
        assert len(read(renamed)[0]) == 1


def test_animations_are_told_from_pictures(tmp_path: Path) -> None:
    webp = b"RIFF" + bytes(4) + b"WEBPVP8X" + (10).to_bytes(4, "little") + b"\x02" + bytes(40)
    assert is_animated(webp)
    (tmp_path / "a.webp").write_bytes(webp)
    with pytest.raises(MediaError, match=r"a\.webp is an animated WebP") as error:
        list(open_source(tmp_path / "a.webp"))
    assert one_line(error)


def test_a_name_with_a_colon_is_no_url(tmp_path: Path) -> None:
    path = make_noise(tmp_path / "clip.mkv").rename(tmp_path / "http:clip.mkv")
    with open_container(path) as container:
        assert len(container.streams.video) == 1
