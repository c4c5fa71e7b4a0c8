"""How an input is read: what its name and its contents do not say."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from fractions import Fraction

from ...errors import MisuseError
from .filter_graph import parse_graph

DEINTERLACE = ("auto", "bwdif", "no")
"""What a user may ask for."""
ALPHA = ("keep", "drop")
"""What becomes of transparency."""
SCENE_CUTS = ("keep", "reset")
"""What becomes of the network's memory where a scene begins: it is kept, or the scene is a video of its own."""
_MAX_SIDE = 32768


@dataclass(frozen=True)
class RawFormat:
    """Frames without a header: FFmpeg's name of the pixel format, the size in pixels, frames per second."""

    pix_fmt: str
    width: int
    height: int
    rate: Fraction

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """From text such as yuv420p:720x576:25. Raises `MisuseError` for anything else."""
        from av.video.format import VideoFormat

        try:
            pix_fmt, size, rate = text.split(":")
            width, height = map(int, size.lower().split("x"))
            raw = cls(VideoFormat(pix_fmt).name, width, height, Fraction(rate))
        except (ValueError, ZeroDivisionError):
            raise _not_raw(text) from None
        if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE and 0 < raw.rate <= 1000):
            raise _not_raw(text)
        return raw

    @property
    def demuxer_options(self) -> dict[str, str]:
        """As options of FFmpeg's demuxer for raw video."""
        return {
            "pixel_format": self.pix_fmt,
            "video_size": f"{self.width}x{self.height}",
            "framerate": f"{self.rate.numerator}/{self.rate.denominator}",
        }


def _not_raw(text: str) -> MisuseError:
    return MisuseError(
        f"--in-format is {text!r}, expected pixel format, size and frame rate of raw video, e.g. yuv420p:720x576:25; "
        "other formats are recognised by their contents"
    )


@dataclass(frozen=True)
class SourceOptions:
    """How to read an input. Raises `MisuseError` for values that mean nothing.

    in_format       what raw video consists of, as `RawFormat.parse` takes it; None for inputs that say what they are
    deinterlace     "auto": if flags and a short look say that the video is interlaced, unless `vf` does it; "bwdif":
                    all frames; "no": none.
                    Once "auto" is decided: "flagged", "tff" or "bff", see `filters`
    vf              a filter graph as in FFmpeg's `-vf`, applied before restoring; see `filter_graph.SAFE`
    allow_playlist  read a playlist (.m3u8, ffconcat), and the files in its own folder that it names
    assume_sdr      restore HDR as if it were SDR; otherwise it is refused
    tonemap         convert HDR to SDR before restoring
    alpha           "keep" or "drop" transparency; None refuses it if the frames are to be restored
    planes          give the frames in the form that fits the video, see `SourceInfo.form`
    deep            instead: as uint16 RGB if they have more than 8 bits; with neither, as uint8 RGB, to be shown only
    again           it was open before, so its frames fit into memory; the same input otherwise
    """

    in_format: str | None = None
    deinterlace: str = "auto"
    vf: str | None = None
    allow_playlist: bool = False
    assume_sdr: bool = False
    tonemap: bool = False
    alpha: str | None = None
    planes: bool = field(default=False, compare=False)
    deep: bool = field(default=False, compare=False)
    again: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if self.deinterlace not in (*DEINTERLACE, "flagged", "tff", "bff"):
            raise MisuseError(f"deinterlace is {self.deinterlace!r}, expected one of {', '.join(DEINTERLACE)}")
        if self.vf is not None:
            parse_graph(self.vf)
        if self.alpha is not None and self.alpha not in ALPHA:
            raise MisuseError(f"alpha is {self.alpha!r}, expected one of {', '.join(ALPHA)}")
        if self.tonemap and self.assume_sdr:
            raise MisuseError("--tonemap and --assume-sdr exclude each other: leave one of them out")
        if self.in_format is not None:
            RawFormat.parse(self.in_format)

    def __str__(self) -> str:
        values = ((each.name, getattr(self, each.name)) for each in fields(self) if each.compare)
        told = (f"{name} {value}" for name, value in values if value not in (None, False, "auto", "no"))
        return ", ".join(told) or "as it is"

    @property
    def restores(self) -> bool:
        """True if the frames are to be restored, so that their depth and their transparency count."""
        return self.planes or self.deep

    @property
    def is_filtered(self) -> bool:
        """True if frames go through filters, once it is decided whether they are deinterlaced."""
        return self.vf is not None or self.tonemap or self.deinterlace not in ("auto", "no")

    @property
    def raw(self) -> RawFormat | None:
        """What raw video consists of."""
        return None if self.in_format is None else RawFormat.parse(self.in_format)
