"""What an output keeps of its input beside pictures and streams, and a line for everything that it loses.

Two things are asked: what FFmpeg attached to the frames, judged by the table below, and what the finished file says of
itself when it is read back, compared with what it was told.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import MediaError
from ...text import counted
from .contents import open_container
from .pyav import fraction, readable
from .side_data import side_data

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

CARRIED = ""
"""Of side data that the output has, or that the pictures show."""

STEREOSCOPIC = "the mark of stereoscopic pictures (3D)"

_STEREO_MODES = {(1, 0): "left_right", (1, 1): "right_left", (2, 0): "top_bottom", (2, 1): "bottom_top"}
"""Matroska's names for two pictures in one, by FFmpeg's numbers of the layout and of the order."""

SIDE_DATA: Mapping[str, str] = {
    "A53_CC": CARRIED,  # closed captions: `captions`
    "DISPLAYMATRIX": CARRIED,  # pictures are turned
    "ICC_PROFILE": "the colour profile",
    "STEREO3D": STEREOSCOPIC,
    "SPHERICAL": "the projection of a spherical video (360 degrees)",
    "PANSCAN": "the part to show on narrow screens (pan and scan)",
    "AFD": "the active picture area (AFD)",
    "S12M_TIMECODE": "time codes of frames",
    "MASTERING_DISPLAY_METADATA": "HDR metadata",
    "CONTENT_LIGHT_LEVEL": "HDR metadata",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "AMBIENT_VIEWING_ENVIRONMENT": "HDR metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "SEI_UNREGISTERED": "data of the camera or the encoder (unregistered SEI)",
    "FILM_GRAIN_PARAMS": CARRIED,  # decoders draw the grain
    "GOP_TIMECODE": CARRIED,  # this and the rest describe the old encoding; time code tracks are tags
    "MOTION_VECTORS": CARRIED,
    "VIDEO_ENC_PARAMS": CARRIED,
    "VIDEO_HINT": CARRIED,
    "REGIONS_OF_INTEREST": CARRIED,
}
"""What becomes of side data, by FFmpeg's names: carried, or words for what is lost. What is not here is lost, too."""

HDR_METADATA = {
    "CONTENT_LIGHT_LEVEL": "content light levels",
    "MASTERING_DISPLAY_METADATA": "mastering display colours",
    "DYNAMIC_HDR_PLUS": "HDR10+ curves",
    "DOVI_METADATA": "Dolby Vision data",
    "DOVI_RPU_BUFFER": "Dolby Vision data",
}
"""What the note on an HDR input calls side data that describes the picture before it was restored."""

_ENCODER_MARKS = (bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef"), bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e"))
"""How x264 and x265 begin the unregistered data that names their settings."""

_PANSCAN_POSITION = 12
"""Where the positions begin in FFmpeg's data of pan and scan, which its MPEG-2 decoder attaches to every frame."""

_DESCRIBES_THE_FILE = frozenset({
    "encoder", "software", "handler_name", "vendor_id", "duration", "creation_time", "bps", "number_of_frames",
    "number_of_bytes", "stereo_mode",
})  # fmt: skip
"""Tags of streams that say nothing about their content. Their creation time is that of the file."""

_TIMECODE = "timecode"
"""The time code of the first picture: a tag of a stream, but in MXF of the file."""

_MARKS = ("forced", "hearing_impaired", "visual_impaired", "comment", "original", "dub")
"""Dispositions that matter to viewers."""

_WITH_STEREO_MODE = frozenset({"matroska", "webm"})

_VISIBLE = Fraction(1, 200)
"""A share by which a picture may be too wide or too high, unsaid."""

_NAMED = 4
"""Tags that a line names; it only counts the others."""


def lost_side_data(attached: Mapping[str, bytes], notes: Iterable[str] = ()) -> frozenset[str]:
    """What of a frame's side data the output lacks, in words. notes: on the input; they may say it of HDR's."""
    return frozenset(
        words
        for kind, data in attached.items()
        if (words := SIDE_DATA.get(kind, f"side data of the kind {kind}")) and not _is_empty(kind, data)
        if not (kind in HDR_METADATA and any(HDR_METADATA[kind] in note for note in notes))
    )


def _is_empty(kind: str, data: bytes) -> bool:
    """Whether side data says nothing: the mark of an encoder, or a part to show that is not moved from the middle."""
    return data.startswith(_ENCODER_MARKS) or (kind == "PANSCAN" and not any(data[_PANSCAN_POSITION:]))


def stereo_mode(frame: VideoFrame) -> dict[str, str]:
    """The tag by which Matroska marks a video as stereoscopic, for one whose frames say so; else nothing."""
    layout = struct.unpack_from("<ii", side_data(frame).get("STEREO3D", bytes(8)))
    return {"stereo_mode": _STEREO_MODES[layout]} if layout in _STEREO_MODES else {}


def about_side_data(lost: Iterable[str], told: Told, format_name: str) -> tuple[str, ...]:
    """A line about lost side data. told: what the container was told; it may say the same in a tag."""
    in_tags = {STEREOSCOPIC} if format_name in _WITH_STEREO_MODE and "stereo_mode" in told.streams[0][1] else set()
    return about_lost(set(lost) - in_tags)


def about_lost(lost: Iterable[str]) -> tuple[str, ...]:
    """A line about what an output lacks, in words as `lost_side_data` has them."""
    names = ", ".join(sorted(lost))
    return (f"not carried over from the input: {names}",) if names else ()


@dataclass(frozen=True)
class Look:
    """How a video is to be shown. aspect: of a pixel, its width by its height. tags: primaries, transfer, matrix."""

    codec: str
    aspect: Fraction
    tags: tuple[int, int, int]

    @classmethod
    def of(cls, stream: VideoStream) -> Look:
        context = stream.codec_context
        tags = (int(context.color_primaries), int(context.color_trc), int(context.colorspace))
        aspect = stream.sample_aspect_ratio or context.sample_aspect_ratio or Fraction(1)
        return cls(context.codec.canonical_name, fraction(aspect) or Fraction(1), tags)


@dataclass(frozen=True)
class Told:
    """What a container was told about a file. streams: kind, tags and dispositions of each, in their order."""

    tags: Mapping[str, str]
    chapters: int
    streams: tuple[tuple[str, Mapping[str, str], int], ...]
    look: Look

    @classmethod
    def of(cls, container: OutputContainer, chapters: int) -> Told:
        """What `container` is about to write into its header."""
        streams = [
            (stream.type, dict(stream.metadata), int(stream.disposition))
            for stream in container.streams
            if stream.type in ("video", "audio", "subtitle")
        ]
        return cls(dict(container.metadata), chapters, tuple(streams), Look.of(container.streams.video[0]))


def read_back(path: Path, told: Told, format_name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a finished file lacks of what its container was told: lines about streams, and lines about the rest."""
    try:
        with open_container(path) as container:
            tags = readable(container.metadata)
            chapters = len(container.chapters())
            looks = [Look.of(stream) for stream in container.streams.video[:1]]
            found: dict[str, list[Any]] = {}
            for stream in container.streams:
                found.setdefault(stream.type, []).append((readable(stream.metadata), int(stream.disposition)))
    except MediaError:
        return (), ()
    lost = [f"the tag {name}" for name in _absent(told.tags, tags, frozenset({"encoder", "software"}))]
    streams = []
    for kind in ("video", "audio", "subtitle"):
        wanted = [each for each in told.streams if each[0] == kind]
        there = found.get(kind, [])
        if len(there) < len(wanted):
            missing, all_of_them = len(wanted) - len(there), counted(len(wanted), f"{kind} stream")
            which = f"{missing} of {all_of_them}" if len(wanted) > 1 else f"the {kind} stream"
            streams.append(f"{format_name} files have no name for the format of {which}, so players do not find it")
        for number, (one, other) in enumerate(zip(wanted, there, strict=False)):
            name = kind if len(wanted) == 1 else f"{kind} {number + 1}"
            kept = {_TIMECODE: tags[_TIMECODE], **other[0]} if _TIMECODE in tags else other[0]
            lost += [f"the {tag} of the {name}" for tag in _absent(one[1], kept, _DESCRIBES_THE_FILE)]
            lost += [f"the mark {mark!r} of the {name}" for mark in _unmarked(one[2], other[1])]
    lost += [counted(told.chapters, "chapter")] * (chapters < told.chapters)
    lost += ["the colour tags of the video"] * any(look.tags != told.look.tags for look in looks)
    return tuple(streams), (
        *(line for each in looks for line in misshapen(told.look.aspect, each.aspect, each.codec, format_name)),
        *_listed(format_name, lost),
    )


def misshapen(told: Fraction, found: Fraction, codec: str, format_name: str) -> Iterator[str]:
    """A line about pixels of another shape: FFmpeg's Python interface does not write every one into every container."""
    stretch = found / told
    if abs(stretch - 1) > _VISIBLE:
        wider = (
            f"{100 * float(stretch - 1):.1f} % too wide"
            if stretch > 1
            else f"{100 * float(1 / stretch - 1):.1f} % too high"
        )
        yield (
            f"players show the picture {wider}: this program cannot write into {format_name} with {codec} that pixels "
            f"are {told.numerator}:{told.denominator}; use .mp4 or .mov, or libx264 in .mkv"
        )


def _absent(told: Mapping[str, str], found: Mapping[str, str], ignored: frozenset[str]) -> Iterator[str]:
    """The tags that are neither found under their name nor by what they say."""
    names, texts = {name.casefold() for name in found}, set(found.values())
    for name, text in told.items():
        plain = name.casefold().split("-")[0]
        if name.startswith("_STATISTICS") or text == "und":
            continue
        if text and plain not in ignored and not {name.casefold(), plain} & names and text not in texts:
            yield name


def _unmarked(told: int, found: int) -> Iterator[str]:
    from av.stream import Disposition

    missing = told & ~found
    return (name for name in _MARKS if missing & Disposition[name])


def _listed(format_name: str, lost: Sequence[str]) -> tuple[str, ...]:
    if not lost:
        return ()
    more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
    return (f"{format_name} files do not keep {', '.join(lost[:_NAMED])}{more}",)
