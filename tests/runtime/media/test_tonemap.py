"""HDR becomes SDR as zscale and tonemap make it: the expected levels are those of FFmpeg 5.1 with zimg 3.0.

-vf zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=709,tonemap=hable:desat=0[:peak=40],zscale=t=709:m=gbr:r=full
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MachineError, MediaError
from swiftvr_trt.runtime.media import Picture, open_source
from swiftvr_trt.runtime.media.index import VideoIndex, index_video
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.media.tonemap import sdr
from swiftvr_trt.runtime.media.video_range import VideoRange
from swiftvr_trt.runtime.stream.frames import LEFT, Planes, YuvColour

from .videos import STEP, make_video

PQ, HLG = 16, 18
_LEVELS = ([0.5] * 3, [0.1] * 3, [0.6, 0.1, 0.1], [0.1, 0.6, 0.1], [0.1, 0.1, 0.6], [0.6, 0.6, 0.1], [0.75] * 3)
COLOURS = np.array(_LEVELS)
AS_ZIMG = [[153] * 3, [16] * 3, [224, 0, 0], [0, 208, 0], [0, 0, 207], [205, 200, 0], [255] * 3]
PEAK_4000 = [[141] * 3, [15] * 3, [206, 0, 0], [0, 191, 0], [0, 0, 190], [189, 184, 0], [234] * 3]
HLG_GREYS = {0: 124, 1: 26, 6: 193}
"""For HLG, zimg applies the system gamma to each component, not to the luminance, so greys alone must agree."""
BAR = 32


def hdr_video(path: Path, transfer: int, codec: str = "ffv1", **options: str) -> Path:
    """One frame of flat bars in these colours."""
    conversion = YuvColour(9).from_rgb(10)
    codes = np.rint(COLOURS @ conversion.matrix.T + conversion.offset).astype(np.uint16)
    width, height = BAR * len(COLOURS), 64
    frame = av.VideoFrame(width, height, "yuv420p10le")
    for part, plane in enumerate(frame.planes):
        row = np.repeat(codes[:, part], BAR // (1 if part == 0 else 2))
        padded = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        padded[:, : plane.width] = row
        plane.update(padded.tobytes())
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p10le"
        context = stream.codec_context
        tagged: Any
        for tagged in (context, frame):
            tagged.colorspace, tagged.color_primaries, tagged.color_trc, tagged.color_range = 9, 9, transfer, 1
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            packet.dts = packet.pts  # x265 leaves it undefined for one picture, and the muxer refuses some values
            container.mux(packet)
    return path


def bars_in_sdr(path: Path, vf: str | None = None) -> list[list[int]]:
    """The levels in the middle of each bar, after --tonemap."""
    with open_source(path, options=SourceOptions(tonemap=True, vf=vf)) as source:
        assert (source.info.colour.matrix, source.info.colour.transfer, source.info.colour.primaries) == (1, 1, 1)
        assert (source.info.bits, source.info.colour.full) == (10, False)
        assert [note for note in source.notes if "is converted to SDR" in note]
        (picture,) = (item for item in source if isinstance(item, Picture))
    levels: list[list[int]] = picture.pixels[32, BAR // 2 :: BAR].astype(int).tolist()
    return levels


def test_pq_is_what_zimg_makes_of_it(tmp_path: Path) -> None:
    assert np.abs(np.subtract(bars_in_sdr(hdr_video(tmp_path / "in.mkv", PQ)), AS_ZIMG)).max() <= 2


def test_other_filters_follow(tmp_path: Path) -> None:
    flipped = bars_in_sdr(hdr_video(tmp_path / "in.mkv", PQ), vf="hflip")[::-1]
    assert np.abs(np.subtract(flipped, AS_ZIMG)).max() <= 2


def test_greys_of_hlg_are_what_zimg_makes_of_them(tmp_path: Path) -> None:
    found = bars_in_sdr(hdr_video(tmp_path / "in.mkv", HLG))
    for bar, level in HLG_GREYS.items():
        assert np.abs(np.subtract(found[bar], level)).max() <= 2


def test_colours_of_hlg_keep_their_hue_by_bt2100() -> None:
    """The system gamma multiplies all components of a colour alike, so their ratios are those of the scene."""
    rgb = np.array([[0.3, 0.45, 0.2]])
    scene = rgb**2 / 3
    luminance = scene @ [0.2627, 0.6780, 0.0593]
    light = 10 * scene * luminance**0.2
    matrix = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])  # BT.2087
    mapped = (sdr(rgb, HLG) ** 2.4)[0]
    expected = (light @ matrix.T)[0]
    np.testing.assert_allclose(mapped / mapped.max(), expected / expected.max(), atol=2e-3)


def test_the_brightest_luminance_that_a_video_states_becomes_white(tmp_path: Path) -> None:
    params = "log-level=none:lossless=1:max-cll=4000,400:hdr10=1"
    found = bars_in_sdr(hdr_video(tmp_path / "in.mkv", PQ, "libx265", **{"x265-params": params}))
    assert np.abs(np.subtract(found, PEAK_4000)).max() <= 2


def test_the_mastering_display_says_it_else(tmp_path: Path) -> None:
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(40000000,50)"
    params = f"log-level=none:lossless=1:master-display={display}:hdr10=1"
    found = bars_in_sdr(hdr_video(tmp_path / "in.mkv", PQ, "libx265", **{"x265-params": params}))
    assert np.abs(np.subtract(found, PEAK_4000)).max() <= 2


def test_the_table_is_gone_and_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hdr_video(tmp_path / "in.mkv", PQ)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    bars_in_sdr(path)
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(MachineError, match="--tonemap cannot write its table"):
        open_source(path, options=SourceOptions(tonemap=True))


def test_a_folder_with_marks_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colon = "" if os.name == "nt" else ":"  # on Windows, that after the drive's letter is tested
    odd = tmp_path / f"a{colon}b'c, d[e];f=g"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    assert np.abs(np.subtract(bars_in_sdr(hdr_video(tmp_path / "in.mkv", PQ)), AS_ZIMG)).max() <= 2


def test_sdr_stays_as_it_is(tmp_path: Path) -> None:
    path = hdr_video(tmp_path / "in.mkv", 1)
    with open_source(path, options=SourceOptions(tonemap=True)) as source:
        assert not source.info.reading.is_filtered


RPU = bytes.fromhex("190809004061b6504f003ff801ffc00fffd0000008000006800000400000340000030200000300e8afe09e80")
"""What Dolby Vision attaches to a frame: here straight lines for all three components, in profile 5."""


def dolby_video(path: Path, transfer: int) -> Path:
    """A picture in HEVC with the data of Dolby Vision."""
    encoder: Any = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, "yuv420p10le", Fraction(1, 25)
    encoder.options = {"x265-params": "log-level=none"}
    frame = av.VideoFrame(64, 48, "yuv420p10le")
    encoder.color_trc = frame.color_trc = transfer
    data = b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))
    path.write_bytes(data + b"\0\0\0\1\x7c\1" + RPU)
    return path


def test_dolby_vision_in_colours_of_its_own_is_refused_with_what_helps(tmp_path: Path) -> None:
    """Profile 5 has no colour tags. Taken for BT.709, it is green and purple."""
    path = dolby_video(tmp_path / "in.hevc", 2)
    for options in (SourceOptions(), SourceOptions(tonemap=True), SourceOptions(vf="hflip")):
        with pytest.raises(MediaError, match=r"Dolby Vision .*profile 5.*nor --tonemap knows: .*libplacebo") as error:
            open_source(path, options=options)
        assert "\n" not in str(error.value)
    open_source(path, options=SourceOptions(assume_sdr=True)).close()
    open_source(dolby_video(tmp_path / "sdr.hevc", 1)).close()
    with pytest.raises(MediaError, match=r"is HDR \(PQ\).*--tonemap"):
        open_source(dolby_video(tmp_path / "pq.hevc", PQ))


def joined(folder: Path, *transfers: int) -> Path:
    """A recording of three frames with each of these transfer functions, one after another."""
    parts = []
    for number, transfer in enumerate(transfers):

        def tagged(_: Any, stream: Any, transfer: int = transfer) -> None:
            stream.codec_context.color_trc = transfer

        times = [(3 * number + index) * STEP for index in range(3)]
        parts.append(make_video(folder / f"{number}.ts", times, prepare=tagged, preset="ultrafast").read_bytes())
    (folder / "in.ts").write_bytes(b"".join(parts))
    return folder / "in.ts"


@pytest.mark.parametrize(
    ("transfers", "options", "said"),
    [
        ((1, 1), SourceOptions(), []),
        ((1, HLG), SourceOptions(), ["HDR (HLG)"]),
        ((1, HLG), SourceOptions(tonemap=True), ["HDR (HLG)"]),
        ((1, HLG), SourceOptions(vf="hflip"), ["HDR (HLG)"]),
        ((HLG, 1), SourceOptions(tonemap=True), ["SDR"]),
        ((PQ, HLG, 1), SourceOptions(assume_sdr=True), ["HDR (HLG)", "SDR"]),
    ],
)
def test_other_dynamics_that_begin_after_the_first_frame_are_said(
    tmp_path: Path, transfers: tuple[int, ...], options: SourceOptions, said: list[str]
) -> None:
    with open_source(joined(tmp_path, *transfers), options=options) as source:
        lost = [item.stamp.lost for item in source if isinstance(item, Picture)]
    assert len(lost) == 3 * len(transfers)
    assert not any(lost[:3])
    words = sorted(text.partition(" that begins after the first frame")[0] for text in frozenset().union(*lost))
    assert words == said


def test_a_part_says_so_as_well(tmp_path: Path) -> None:
    with open_source(make_video(tmp_path / "in.mkv", [0, STEP, 2 * STEP])) as source:
        info, index = source.info, index_video(source.info)
    assert isinstance(index, VideoIndex)
    for transfer, said in ((13, ""), (PQ, "SDR that begins after the first frame")):
        changed = replace(info, colour=replace(info.colour, transfer=transfer))
        with VideoRange(changed, index, 1, 3) as part:
            assert all(
                said in " ".join(picture.stamp.lost) and bool(said) == bool(picture.stamp.lost) for picture in part
            )


def test_chroma_lies_on_the_left_afterwards(tmp_path: Path) -> None:
    """Of the two samples beside an edge of luma, one lies half a pixel behind it, the other one and a half before."""
    path = hdr_video(tmp_path / "in.mkv", PQ, chroma_sample_location="topleft")
    with open_source(path, options=SourceOptions(tonemap=True, planes=True)) as source:
        assert source.info.form.colour.siting == LEFT
        (picture,) = (item for item in source if isinstance(item, Picture))
    assert isinstance(picture.frame, Planes)
    blue = picture.frame.layers[1][16, :, 0].astype(float)
    edge = 4 * BAR // 2
    before, behind = blue[edge - BAR // 4], blue[edge + BAR // 4]
    shares = (blue[edge - 1 : edge + 1] - behind) / (before - behind)
    assert shares[0] >= 1
    assert 0.2 < shares[1] < 0.5
