"""Opens files by what they contain, never by their names, and opens nothing else.

FFmpeg guesses from names, too: text named `.ans` becomes a video, `img%03d.png` a pattern of names. A playlist makes it
open the files that it lists, wherever they are. So only demuxers that read one file are allowed, and only files.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ...errors import MediaError
from .ffmpeg_log import ffmpeg_errors, first_error
from .image_names import conversion, is_image, is_other_image
from .pipes import PipeReader, input_name
from .playlists import kind_of_playlist, read_playlist
from .pyav import open_input, refuse_without_memory
from .source_options import SourceOptions

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer

VIDEOS = (
    "3dostr,4xm,amv,anm,apng,apv,argo_avs,asf,asf_o,av1,avi,avs,avs2,avs3,bethsoftvid,bfi,bink,bmv,c93,cavsvideo,"
    "cdxl,cine,dhav,dirac,dnxhd,dsicin,dv,dxa,ea,ea_cdata,evc,filmstrip,film_cpk,flic,flv,fits,gdv,gif,gxf,h261,"
    "h263,h264,hevc,hnm,idcin,ifv,iff,ingenient,ipmovie,ipu,iss,iv8,ivf,ivr,jpegxl_anim,jv,kux,live_flv,lmlm4,"
    "lvf,lxf,m4v,matroska,mgsts,mjpeg,mjpeg_2000,mlv,mm,moflex,mov,mp4,mpeg,mpegts,mpegvideo,msnwctcp,mtv,mv,mvi,"
    "mxf,mxg,nc,nsv,nut,nuv,obu,ogg,paf,pdv,pmp,psxstr,pva,r3d,rl2,rm,roq,rpl,ser,sga,siff,smjpeg,smk,smush,swf,"
    "thp,tiertexseq,tmv,ty,usm,v210,vc1,vc1test,vid,vividas,vivo,vmd,vvc,wc3movie,webm,wsvqa,wtv,wv,xmv,yop,"
    "yuv4mpegpipe,aac,aiff,au,caf,flac,mp3,w64,wav"
)
"""Demuxers of videos (and of sound, for a better message) that open no other file: no playlists, patterns or text."""

_STILLS = (
    "avif,bmp_pipe,dds_pipe,dpx_pipe,exr_pipe,gif,hdr_pipe,ico,j2k_pipe,jpeg_pipe,jpegls_pipe,jpegxl_pipe,mov,"
    "pbm_pipe,pcx_pipe,pgm_pipe,png_pipe,ppm_pipe,psd_pipe,qoi_pipe,sgi_pipe,sunrast_pipe,tiff_pipe,webp_pipe,"
    "xwd_pipe"
)
"""Demuxers of images. AV1 images are in `mov`."""

IMAGE_KINDS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "bmp": ".bmp", "tiff": ".tif"}
"""The suffix for each kind of picture that is read, by the beginning of its demuxer's name."""

_JOINERS = {"hls": "ffmpeg -allowed_extensions ALL -i", "concat": "ffmpeg -f concat -i", "dash": "ffmpeg -i"}
"""The command that reads each kind of playlist."""

_RAW = {"format_whitelist": "rawvideo"}
"""Named by the user; contents never lead to it."""

_NOT_ALLOWED = "Format not on whitelist"
"""How FFmpeg's words begin for a format that is none of `VIDEOS`, such as text."""

_HEAD = 4096
"""Bytes at the beginning of a file that show what it is."""


def open_container(
    path: Path,
    hardware: HWAccel | None = None,
    options: SourceOptions | None = None,
    pipe: PipeReader | None = None,
    heard: list[str] | None = None,
) -> InputContainer:
    """Open a video. Raises `MediaError` if it is none, or is one that would open files without being allowed to.

    pipe: where `path` leads, if it is a pipe; waits for its first bytes. heard: gets the errors that FFmpeg logs.
    """
    import av

    if pipe is None:
        _check_file(path)
    said: list[str] = []
    try:
        with ffmpeg_errors() as said:
            return _open(path, hardware, options or SourceOptions(), pipe)
    except (av.FFmpegError, MemoryError) as error:
        refuse_without_memory(error, path)
        reason = first_error(said[-1:], error)
        if reason.startswith(_NOT_ALLOWED):  # and a list of a hundred that are
            reason = "FFmpeg finds none in it"
        raise MediaError(
            _why_refused(path, reason) if pipe is None else _why_pipe_refused(path, reason, pipe)
        ) from error
    finally:
        if heard is not None:
            heard += said


def _open(path: Path, hardware: HWAccel | None, options: SourceOptions, pipe: PipeReader | None) -> InputContainer:
    raw = options.raw
    allowed = {"format_whitelist": VIDEOS, "protocol_whitelist": "file"}
    if raw is not None:
        return open_input(pipe or f"file:{path}", None, {**allowed, **_RAW, **raw.demuxer_options}, "rawvideo")
    if pipe is not None:
        return open_input(pipe, hardware, allowed)
    if options.allow_playlist and (playlist := read_playlist(path)):
        allowed["format_whitelist"] += f",{playlist.demuxer}"
        return open_input(f"file:{path}", None, {**allowed, **playlist.demuxer_options}, playlist.demuxer)
    # Without "file:", FFmpeg takes a name with a colon for a URL. It takes one with a % for a pattern.
    if "%" in path.name:
        return open_input(_Nameless(path.open("rb")), hardware, allowed)
    return open_input(f"file:{path}", hardware, allowed)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise MediaError(f"the input {path} does not exist or is not a file, expected a video or a folder of images")
    if path.stat().st_size == 0:
        raise MediaError(f"the input {path} is empty (0 bytes), expected a video: copy it again")


def open_image(data: bytes) -> InputContainer:
    """Open an image file. Raises an `av.FFmpegError` if FFmpeg knows no image like that."""
    allowed = {"format_whitelist": _STILLS, "protocol_whitelist": "file"}
    return open_input(io.BytesIO(data), None, allowed)


def is_animated(head: bytes) -> bool:
    """True if these first bytes of a file begin an animated PNG or WebP."""
    png = head.startswith(b"\x89PNG\r\n\x1a\n") and b"acTL" in head[: head.find(b"IDAT")]
    return png or (head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2))


def holds_video(path: Path) -> bool:
    """True if a file that is named like an image is a video or an animation that FFmpeg can read."""
    import av

    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if is_animated(head):
            return True
        try:
            with ffmpeg_errors(), open_image(path.read_bytes()) as image:
                is_still = image.format.name.endswith("_pipe") or image.format.name == "ico" or b"avif" in head[:32]
                return not is_still
        except (av.FFmpegError, ValueError):
            pass
        with ffmpeg_errors(), open_container(path) as container:
            return bool(container.streams.video)
    except (OSError, ValueError, MediaError):
        return False


class _Nameless:
    """A file without a name, as FFmpeg's Python interface reads it."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell, self._close = file.read, file.seek, file.tell, file.close

    def __del__(self) -> None:
        self._close()


def _why_refused(path: Path, reason: str) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        head = b""
    if kind := kind_of_playlist(head):
        allow = "" if kind == "dash" else "allow it with --allow-playlist if they are in its folder, or "
        return (
            f"{path} is a playlist, which names other files, and only the file itself is read: {allow}join them first, "
            f'e.g. {_JOINERS[kind]} "{path.name}" -c copy joined.mkv'
        )
    if is_animated(head) and head[8:12] == b"WEBP":
        return (
            f"{path} is an animated WebP, which FFmpeg cannot decode: convert it to an animated PNG first, e.g. "
            f'magick "{path.name}" "apng:{path.stem}.png"'
        )
    if (kind := _kind_of_picture(path)) in IMAGE_KINDS and not is_image(path):
        suffix = IMAGE_KINDS[kind]
        return f"{path} is a picture, which its name does not say: rename it, e.g. to {path.stem}{suffix}"
    if kind or is_other_image(path):
        wanted = "PNG, JPEG, WebP, BMP or TIFF"
        return f"{path} is a picture in a format that is not read, expected {wanted}: {conversion([path])}"
    return f"{path} cannot be read as a video ({reason}): check that it is a video and that it is complete"


def _kind_of_picture(path: Path) -> str:
    """Which kind of picture FFmpeg finds in a file, such as `png`; empty if it finds none."""
    import av

    try:
        with ffmpeg_errors(), open_input(f"file:{path}", None, {"format_whitelist": _STILLS}) as picture:
            name, mark, _ = picture.format.name.partition("_pipe")
            return name if mark else ""
    except (av.FFmpegError, ValueError, MemoryError):
        return ""


def _why_pipe_refused(path: Path, reason: str, pipe: PipeReader) -> str:
    name = input_name(path)
    if not pipe.count:
        return f"{name} is empty (0 bytes), expected a video: see what the program before it says"
    return (
        f"{name} cannot be read as a video ({reason}): send one in a format that needs no seeking, e.g. "
        "ffmpeg -i old.mp4 -f nut -c copy -; raw video needs --in-format"
    )
