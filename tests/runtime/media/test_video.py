"""Video files through source and sink: what must survive is compared with what was put in."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.media import CopiedPacket, Item, Picture, SinkOptions, SourceInfo, open_sink, open_source
from tests.clips import seconds

CLIP = Path(__file__).resolve().parents[4] / "shared" / "media" / "bigbuckbunny_720p.mp4"
UNEVEN = [900 + 3600 * i + (i % 3) * 77 for i in range(30)]
CLOCK = Fraction(1, 90000)


def still(index: int, width: int, height: int) -> np.ndarray:
    """A picture that tells which one it is, with a bright top left corner."""
    pixels = np.full((height, width, 3), 40 + 5 * (index % 40), np.uint8)
    pixels[: height // 2, : width // 2] = 220
    return pixels


def make(
    path: Path,
    pts: list[int],
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    prepare: Callable[[Any, Any], None] = lambda *_: None,
    extra: Callable[[Any], None] = lambda *_: None,
    pix_fmt: str = "yuv420p",
    **options: str,
) -> Path:
    """A video with these stamps, 90 000 of them a second. `prepare` sees container and stream before the header."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, time_base=CLOCK, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        prepare(container, stream)
        container.start_encoding()
        extra(container)
        for index, moment in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(still(index, *size), "rgb24")
            frame.pts, frame.time_base, frame.duration = moment, CLOCK, 3600
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def run(
    before: Path,
    after: Path,
    scale: int = 1,
    options: SinkOptions | None = None,
    late: int = 0,
) -> tuple[SourceInfo, tuple[str, ...]]:
    """Through source and sink; pictures grow `scale` times and come out `late` pictures late, as a pipeline does."""
    with open_source(before) as source:
        info = source.info
        with open_sink(after, info, info.width * scale, info.height * scale, options) as sink:
            waiting: list[Item] = []
            for item in source:
                waiting.append(item)
                while sum(isinstance(i, Picture) for i in waiting) > late:
                    sink.write(enlarged(waiting.pop(0), scale))
            for item in waiting:
                sink.write(enlarged(item, scale))
            sink.commit()
            return info, source.notes + sink.notes


def enlarged(item: Item, scale: int) -> Item:
    return item.with_pixels(item.pixels.repeat(scale, 0).repeat(scale, 1)) if isinstance(item, Picture) else item


def times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [seconds(frame) for frame in container.decode(video=0)]


def packets(path: Path, kind: str) -> list[tuple[bytes, Fraction]]:
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [(bytes(p), seconds(p)) for p in container.demux(stream) if p.size]


def add_tone(container: Any, codec: str = "aac") -> Any:
    stream = container.add_stream(codec, rate=48000)
    stream.metadata.update({"language": "deu", "title": "Ton"})
    return stream


def mux_tone(container: Any, seconds: float = 1.2) -> None:
    stream = container.streams.audio[0]
    for start in range(0, int(48000 * seconds), 1024):
        wave = (np.sin(np.arange(start, start + 1024) * 0.05) * 0.3).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48000, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("pts", [[3600 * i for i in range(30)], UNEVEN, [9000], [7200, 7201, 90000, 900_000]])
def test_every_time_stamp_is_kept(tmp_path: Path, pts: list[int], suffix: str) -> None:
    make(tmp_path / f"in{suffix}", pts)
    run(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", scale=2)
    assert times(tmp_path / f"in{suffix}") == [moment * CLOCK for moment in pts]
    assert times(tmp_path / f"out{suffix}") == times(tmp_path / f"in{suffix}")


def test_matroska_keeps_its_milliseconds(tmp_path: Path) -> None:
    make(tmp_path / "in.mkv", UNEVEN)
    run(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert times(tmp_path / "out.mkv") == times(tmp_path / "in.mkv")


def test_pictures_and_stamps_arrive_in_order_with_b_frames(tmp_path: Path) -> None:
    path = make(tmp_path / "in.mp4", UNEVEN, bf="3", preset="medium")
    with av.open(str(path)) as container:
        order = [seconds(packet) for packet in container.demux(video=0) if packet.size]
    assert order != sorted(order)
    with open_source(path) as source:
        found = [item for item in source if isinstance(item, Picture)]
    assert [picture.stamp.pts for picture in found] == UNEVEN
    assert [picture.stamp.index for picture in found] == list(range(30))
    assert [abs(int(picture.pixels[40, 50, 0]) - 40 - 5 * i) <= 4 for i, picture in enumerate(found)] == [True] * 30


def test_what_is_known_before_decoding_is_right(tmp_path: Path) -> None:
    with open_source(make(tmp_path / "in.mp4", [3600 * i for i in range(30)])) as source:
        info = source.info
    assert (info.width, info.height, info.frames, info.rate, info.time_base) == (64, 48, 30, Fraction(25), CLOCK)
    assert info.description == "h264 yuv420p 64x48, 25 fps, untagged limited"
    assert info.notes == ()


def test_pixels_are_contiguous_bytes(tmp_path: Path) -> None:
    with open_source(make(tmp_path / "in.mp4", [0], size=(50, 38))) as source:
        (picture,) = (item for item in source if isinstance(item, Picture))
    assert picture.pixels.shape == (38, 50, 3)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous


@pytest.mark.parametrize("late", [0, 28])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_is_copied_byte_for_byte(tmp_path: Path, suffix: str, late: int) -> None:
    before = tmp_path / f"in{suffix}"
    make(before, UNEVEN, prepare=lambda container, _: add_tone(container), extra=mux_tone)
    run(before, tmp_path / f"out{suffix}", late=late)
    assert len(packets(before, "audio")) > 50
    assert packets(tmp_path / f"out{suffix}", "audio") == packets(before, "audio")
    assert times(tmp_path / f"out{suffix}") == times(before)
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.streams.audio[0].language in ("deu", "ger")


def test_copied_packets_keep_their_place_between_the_pictures() -> None:
    if not CLIP.exists():
        pytest.skip(f"{CLIP} is not here")
    with open_source(CLIP) as source:
        kinds = [type(item) for item in source]
    runs = [len(list(group)) for kind, group in itertools.groupby(kinds) if kind is CopiedPacket]
    assert kinds.count(Picture) == 132
    assert kinds.count(CopiedPacket) == 249
    assert max(runs) < 60


def test_the_clip_comes_through_whole(tmp_path: Path) -> None:
    if not CLIP.exists():
        pytest.skip(f"{CLIP} is not here")
    with open_source(CLIP) as source, open_sink(tmp_path / "o.mp4", source.info, 320, 180) as sink:
        for item in source:
            sink.write(item.with_pixels(item.pixels[::4, ::4]) if isinstance(item, Picture) else item)
        sink.commit()
    assert times(tmp_path / "o.mp4") == times(CLIP)
    assert packets(tmp_path / "o.mp4", "audio") == packets(CLIP, "audio")


def test_sound_can_be_left_out(tmp_path: Path) -> None:
    make(tmp_path / "in.mp4", UNEVEN, prepare=lambda container, _: add_tone(container), extra=mux_tone)
    run(tmp_path / "in.mp4", tmp_path / "out.mp4", options=SinkOptions(audio=False))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def add_subtitles(container: Any) -> None:
    stream = container.add_stream_from_template(subtitle_template(), opaque=True)
    stream.metadata.update({"language": "fra", "title": "Sous-titres"})
    stream.disposition = Disposition.forced


_TEMPLATES: list[Any] = []


def subtitle_template() -> Any:
    """A stream of SubRip text to copy the header of."""
    if not _TEMPLATES:
        import io

        text = b"1\n00:00:00,100 --> 00:00:00,500\nun\n\n2\n00:00:00,700 --> 00:00:01,000\ndeux\n\n"
        _TEMPLATES.append(av.open(io.BytesIO(text), format="srt"))
    return _TEMPLATES[0].streams.subtitles[0]


def mux_subtitles(container: Any) -> None:
    for index, (start, text) in enumerate([(100, b"un"), (700, b"deux")]):
        packet = av.Packet(text)
        packet.pts = packet.dts = start
        packet.duration, packet.time_base = 300 + index, Fraction(1, 1000)
        packet.stream = container.streams.subtitles[0]
        container.mux(packet)


def test_subtitles_keep_text_time_language_and_disposition(tmp_path: Path) -> None:
    make(tmp_path / "in.mkv", UNEVEN, prepare=lambda container, _: add_subtitles(container), extra=mux_subtitles)
    run(tmp_path / "in.mkv", tmp_path / "out.mkv", late=28)
    assert packets(tmp_path / "out.mkv", "subtitle") == packets(tmp_path / "in.mkv", "subtitle")
    assert [data for data, _ in packets(tmp_path / "out.mkv", "subtitle")] == [b"un", b"deux"]
    with av.open(str(tmp_path / "out.mkv")) as container:
        stream = container.streams.subtitles[0]
        assert stream.metadata["language"] in ("fre", "fra")  # Matroska writes the bibliographic code
        assert stream.metadata["title"] == "Sous-titres"
        assert stream.disposition & Disposition.forced


def test_a_stream_that_the_container_refuses_is_left_out_and_named(tmp_path: Path) -> None:
    make(tmp_path / "in.mkv", UNEVEN, prepare=lambda container, _: add_subtitles(container), extra=mux_subtitles)
    _, notes = run(tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert any("subtitle stream 1 (subrip) is left out" in note and ".mkv" in note for note in notes)
    assert len(times(tmp_path / "out.mp4")) == 30


def describe(container: Any, _: Any) -> None:
    container.metadata.update({"title": "Film", "artist": "Someone", "comment": "ä ö ü"})
    container.set_chapters(
        [
            {"id": i, "start": 500 * i, "end": 500 * i + 500, "time_base": Fraction(1, 1000), "metadata": {"title": n}}
            for i, n in enumerate(["Eins", "Zwei"])
        ]
    )


@pytest.mark.parametrize("before", [".mp4", ".mkv"])
@pytest.mark.parametrize("after", [".mp4", ".mkv"])
def test_titles_and_chapters_are_kept(tmp_path: Path, before: str, after: str) -> None:
    make(tmp_path / f"in{before}", UNEVEN, prepare=describe)
    _, notes = run(tmp_path / f"in{before}", tmp_path / f"out{after}")
    with av.open(str(tmp_path / f"out{after}")) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
        chapters: list[Any] = container.chapters()
    assert {key: tags[key] for key in ("title", "artist", "comment")} == {
        "title": "Film",
        "artist": "Someone",
        "comment": "ä ö ü",
    }
    assert [chapter["metadata"]["title"] for chapter in chapters] == ["Eins", "Zwei"]
    assert [chapter["start"] * chapter["time_base"] for chapter in chapters] == [0, Fraction(1, 2)]
    assert notes == ()


def add_cover(container: Any, _: Any) -> None:
    from swiftvr_trt.runtime.media.images_out import encode_image

    cover = container.add_stream("mjpeg", rate=1)
    cover.width, cover.height, cover.pix_fmt = 128, 128, "yuvj420p"
    cover.disposition = Disposition.attached_pic
    _COVERS[:] = [encode_image(still(3, 128, 128), ".jpg")]


_COVERS: list[bytes] = []


def mux_cover(container: Any) -> None:
    packet = av.Packet(_COVERS[0])
    packet.pts = packet.dts = 0
    packet.time_base, packet.stream = Fraction(1, 25), container.streams[1]
    container.mux(packet)


@pytest.mark.parametrize("after", [".mp4", ".mkv"])
def test_a_cover_picture_is_not_the_video_and_is_kept(tmp_path: Path, after: str) -> None:
    make(tmp_path / "in.mp4", UNEVEN, prepare=add_cover, extra=mux_cover)
    info, notes = run(tmp_path / "in.mp4", tmp_path / f"out{after}")
    assert (info.width, info.height) == (64, 48)
    assert notes == ()
    with av.open(str(tmp_path / f"out{after}")) as container:
        (cover,) = (s for s in container.streams.video if s.disposition & Disposition.attached_pic)
        assert [bytes(p) for p in container.demux(cover) if p.size] == _COVERS
    assert len(times(tmp_path / f"out{after}")) == 30


def test_a_file_with_only_a_cover_has_no_video(tmp_path: Path) -> None:
    path = tmp_path / "in.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        add_tone(container)
        add_cover(container, None)
        container.start_encoding()
        packet = av.Packet(_COVERS[0])
        packet.pts = packet.dts = 0
        packet.time_base, packet.stream = Fraction(1, 25), container.streams[1]
        container.mux(packet)
        mux_tone(container, 0.2)
    with pytest.raises(MediaError, match="no video stream"):
        open_source(path)


@pytest.mark.parametrize(("degrees", "turns"), [(0, 0), (-90, 3), (90, 1), (180, 2)])
def test_a_turned_video_comes_out_upright_without_a_tag(tmp_path: Path, degrees: int, turns: int) -> None:
    make(tmp_path / "in.mp4", [0, 3600], prepare=lambda _, stream: stream.set_display_rotation(degrees))
    info, _ = run(tmp_path / "in.mp4", tmp_path / "out.mp4", scale=2)
    upright = np.rot90(still(0, 64, 48), turns)
    assert (info.height, info.width) == upright.shape[:2]
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        assert frame.rotation == 0
        shown = frame.to_ndarray(format="rgb24")[::2, ::2]
    assert np.abs(shown.astype(int) - upright).mean() < 4


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_pixels_that_are_not_square_stay_so(tmp_path: Path, suffix: str) -> None:
    def wide(_: Any, stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(64, 45)

    make(tmp_path / f"in{suffix}", [0, 3600], prepare=wide)
    info, _ = run(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", scale=2)
    assert info.sample_aspect == Fraction(64, 45)
    with open_source(tmp_path / f"out{suffix}") as result:
        assert result.info.sample_aspect == Fraction(64, 45)


def test_another_shape_keeps_the_display_aspect(tmp_path: Path) -> None:
    def square(_: Any, stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(1)

    make(tmp_path / "in.mp4", [0, 3600], prepare=square)
    with open_source(tmp_path / "in.mp4") as source, open_sink(tmp_path / "o.mp4", source.info, 64, 64) as sink:
        for item in source:
            assert isinstance(item, Picture)
            sink.write(item.with_pixels(item.pixels.repeat(2, 0)[:64]))
        sink.commit()
    with open_source(tmp_path / "o.mp4") as result:
        assert result.info.sample_aspect == Fraction(4, 3)


def test_a_turned_pixel_shape_is_turned_too(tmp_path: Path) -> None:
    def tall(_: Any, stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(90)

    with open_source(make(tmp_path / "in.mp4", [0], prepare=tall)) as source:
        assert source.info.sample_aspect == Fraction(3, 4)


@pytest.mark.parametrize(
    ("codec", "suffix", "noted"),
    [("libx264", ".mp4", True), ("libx265", ".mp4", True), ("ffv1", ".mkv", False), ("libvpx-vp9", ".webm", False)],
)
def test_odd_sizes_keep_every_pixel(tmp_path: Path, codec: str, suffix: str, noted: bool) -> None:
    make(tmp_path / "in.mkv", [0, 3600, 7200], size=(63, 47), codec="ffv1")
    _, notes = run(tmp_path / "in.mkv", tmp_path / f"out{suffix}", options=SinkOptions(codec=codec))
    with open_source(tmp_path / f"out{suffix}") as result:
        found = [item.pixels for item in result if isinstance(item, Picture)]
    assert [pixels.shape for pixels in found] == [(47, 63, 3)] * 3
    assert np.abs(found[0].astype(int) - still(0, 63, 47)).mean() < 6
    assert any("odd size 63x47" in note for note in notes) == noted


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg", "prores_ks", "libx264rgb", "h264"])
def test_other_encoders_work_with_uneven_clocks(tmp_path: Path, codec: str) -> None:
    make(tmp_path / "in.mkv", [3600 * i for i in range(5)])
    run(tmp_path / "in.mkv", tmp_path / "out.mkv", options=SinkOptions(codec=codec))
    assert times(tmp_path / "out.mkv") == [Fraction(i, 25) for i in range(5)]


def test_a_container_without_a_clock_gets_even_steps_and_a_note(tmp_path: Path) -> None:
    make(tmp_path / "in.mp4", [3600 * i for i in range(10)])
    _, notes = run(tmp_path / "in.mp4", tmp_path / "out.avi")
    steps = [after - before for before, after in itertools.pairwise(times(tmp_path / "out.avi"))]
    assert steps == [Fraction(1, 25)] * 9
    assert any("steps of 1/25 s" in note for note in notes)


def test_ten_bits_and_hdr_are_noted(tmp_path: Path) -> None:
    def hdr(_: Any, stream: Any) -> None:
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, 16

    path = make(tmp_path / "in.mkv", [0], codec="ffv1", pix_fmt="yuv420p10le", prepare=hdr)
    with open_source(path) as source:
        assert any("10-bit" in note for note in source.info.notes)
        assert any("HDR input (PQ)" in note for note in source.info.notes)


def test_grey_video_stays_grey(tmp_path: Path) -> None:
    make(tmp_path / "in.mkv", [0], codec="ffv1", pix_fmt="gray")
    with open_source(tmp_path / "in.mkv") as source:
        (picture,) = (item for item in source if isinstance(item, Picture))
    assert np.abs(picture.pixels.astype(int) - still(0, 64, 48)).max() <= 2


def test_ten_bit_output_on_request(tmp_path: Path) -> None:
    make(tmp_path / "in.mp4", [0, 3600])
    run(tmp_path / "in.mp4", tmp_path / "out.mkv", options=SinkOptions(codec="libx265", pix_fmt="yuv420p10le", crf=30))
    with open_source(tmp_path / "out.mkv") as result:
        assert "hevc yuv420p10le" in result.info.description


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_clip_too_short_for_x265_keeps_its_times(tmp_path: Path, count: int) -> None:
    """x265 left the decoding times of one or two pictures undefined; every second file was wrong, some were refused."""
    pts = [900 + 3600 * i for i in range(count)]
    make(tmp_path / "in.mp4", pts)
    for _ in range(8):
        options = SinkOptions(codec="libx265", preset="ultrafast", overwrite=True)
        run(tmp_path / "in.mp4", tmp_path / "out.mp4", options=options)
        with av.open(str(tmp_path / "out.mp4")) as container:
            stamps = [(packet.pts, packet.dts) for packet in container.demux(video=0) if packet.size]
        assert sorted(first for first, _ in stamps if first is not None) == pts
        assert count > 2 or [second for _, second in stamps] == pts


def attach_font(container: Any, _: Any) -> None:
    container.add_attachment("a.ttf", "font/ttf", b"\0\1\0\0font")


def test_attached_fonts_are_kept_where_they_can_be(tmp_path: Path) -> None:
    make(tmp_path / "in.mkv", UNEVEN, prepare=attach_font)
    _, kept = run(tmp_path / "in.mkv", tmp_path / "out.mkv")
    _, lost = run(tmp_path / "in.mkv", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mkv")) as container:
        (font,) = container.streams.attachments
        assert (font.name, font.mimetype, font.data[:8]) == ("a.ttf", "font/ttf", b"\0\1\0\0font")
    assert kept == ()
    assert any("attachment" in note for note in lost)


def test_names_with_colons_and_percents_are_names(tmp_path: Path) -> None:
    make(tmp_path / "in.mp4", [0, 3600]).rename(tmp_path / "a:50%d ü.mp4")
    run(tmp_path / "a:50%d ü.mp4", tmp_path / "b:50%d ü.mp4")
    assert len(times(tmp_path / "b:50%d ü.mp4")) == 2


def test_the_frames_of_an_avi_are_evenly_spaced(tmp_path: Path) -> None:
    def counted(_: Any, stream: Any) -> None:
        stream.time_base = stream.codec_context.time_base = Fraction(1, 25)

    make(tmp_path / "in.avi", [3600 * i for i in range(20)], bf="3", preset="medium", prepare=counted)
    with open_source(tmp_path / "in.avi") as source:
        stamps = [item.stamp.pts for item in source if isinstance(item, Picture)]
        assert source.notes == ()
    assert [after - before for before, after in itertools.pairwise(stamps)] == [1] * 19


@pytest.mark.parametrize("after", [".ts", ".mp4", ".mkv"])
def test_transport_streams_come_and_go(tmp_path: Path, after: str) -> None:
    make(tmp_path / "in.ts", UNEVEN, prepare=lambda container, _: add_tone(container), extra=mux_tone)
    _, notes = run(tmp_path / "in.ts", tmp_path / f"out{after}")
    offset = times(tmp_path / f"out{after}")[0] - times(tmp_path / "in.ts")[0]
    limit = Fraction(1, 1000) if after == ".mkv" else 0
    for old, new in zip(times(tmp_path / "in.ts"), times(tmp_path / f"out{after}"), strict=True):
        assert abs(new - old - offset) <= limit
    assert len(packets(tmp_path / f"out{after}", "audio")) == len(packets(tmp_path / "in.ts", "audio"))
    assert notes == ()


def test_files_put_end_to_end_go_on(tmp_path: Path) -> None:
    make(tmp_path / "one.ts", [3600 * i for i in range(50)])
    (tmp_path / "in.ts").write_bytes((tmp_path / "one.ts").read_bytes() * 2)
    run(tmp_path / "in.ts", tmp_path / "out.mp4")
    steps = {after - before for before, after in itertools.pairwise(times(tmp_path / "out.mp4"))}
    assert len(times(tmp_path / "out.mp4")) == 100
    assert steps == {Fraction(1, 25)}


def add_pcm(container: Any, _: Any) -> None:
    container.add_stream("pcm_s16le", rate=48000)


def mux_pcm(container: Any) -> None:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), format="s16", layout="stereo")
    frame.sample_rate = 48000
    container.mux(container.streams.audio[0].encode(frame))


def test_sound_that_would_fail_at_the_end_is_left_out_at_the_start(tmp_path: Path) -> None:
    """Matroska does not say how PCM channels are laid out; MP4 has to, and asks when the file is closed."""
    make(tmp_path / "in.mkv", UNEVEN, prepare=add_pcm, extra=mux_pcm)
    _, lost = run(tmp_path / "in.mkv", tmp_path / "out.mp4")
    _, kept = run(tmp_path / "in.mkv", tmp_path / "out.mov")
    assert any("pcm_s16le" in note for note in lost)
    assert kept == ()
    old, new = (b"".join(data for data, _ in packets(tmp_path / n, "audio")) for n in ("in.mkv", "out.mov"))
    assert old == new  # in packets of other sizes


@pytest.mark.parametrize("after", [".mov", ".mp4", ".mkv"])
def test_time_codes_are_kept(tmp_path: Path, after: str) -> None:
    make(tmp_path / "in.mov", UNEVEN, prepare=lambda _, stream: stream.metadata.update({"timecode": "01:02:03:04"}))
    _, notes = run(tmp_path / "in.mov", tmp_path / f"out{after}")
    with av.open(str(tmp_path / f"out{after}")) as container:
        tags = {key.lower(): value for key, value in container.streams.video[0].metadata.items()}
    assert tags["timecode"] == "01:02:03:04"
    assert notes == ()
