"""Frames in the memory of an NVIDIA GPU, as FFmpeg has them: surfaces of a decoder, and for an encoder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from ..stream.frames import FrameForm, Surface
from .colour import converted
from .nvcodec import shared_context

if TYPE_CHECKING:
    from av.video.frame import CudaContext, VideoFrame

_ENCODED_AS = {"yuv420p": "nv12", "nv12": "nv12", "yuv420p10le": "p010le", "p010le": "p010le"}
"""Pixel formats of an encoder, and that of surfaces with the same pictures. In the video they are the same."""


def surface_formats(pix_fmts: Iterable[str], width: int, height: int) -> list[str]:
    """The formats of surfaces in place of those that an encoder would try on the host, best first.

    They end where no surface has the same pictures: the video is to be the same.
    """
    if width % 2 or height % 2:
        return []
    usable = takewhile(_ENCODED_AS.__contains__, pix_fmts)
    return list(dict.fromkeys(map(_ENCODED_AS.__getitem__, usable)))


def is_on_gpu(frame: VideoFrame) -> bool:
    """True if the pixels of a frame lie on a GPU."""
    return frame.format.name == "cuda"


def on_host(frame: VideoFrame) -> VideoFrame:
    """The frame with its pixels on the host, as FFmpeg gives it if it does not leave frames on the GPU."""
    stored = frame.sw_format
    return frame if stored is None else converted(frame, format=stored.name)


def kind_of(frame: VideoFrame) -> tuple[object, ...]:
    """All that decides how a frame on a GPU is read; frames of one stream agree in it."""
    stored = frame.sw_format.name if frame.sw_format else ""
    return stored, frame.width, frame.height, int(frame.colorspace), int(frame.color_range)


@dataclass(frozen=True)
class Residence:
    """Where the frames of a video are decoded, and what has to look at them on the host.

    on_gpu: NVDEC decodes them. filtered, turned: before they are restored. alpha: they come with transparency. form: of
    the pictures. in_order: read from the beginning of the file; NVDEC does not begin in the middle.
    """

    on_gpu: bool
    filtered: bool
    turned: bool
    alpha: bool
    form: FrameForm
    in_order: bool = True

    @property
    def hindrance(self) -> str | None:
        """Why frames have to come to the host; None if they may stay on the GPU."""
        if not self.on_gpu:
            return "the video is decoded in software"
        if not self.in_order:
            return "--start leads into the middle of the file, where software decodes"
        if self.filtered:
            return "filters change them before they are restored"
        if self.turned:
            return "the video is stored turned"
        if self.alpha:
            return "the video has transparency"
        if not self.form.format.interleaved:
            return f"they are restored as {self.form}"
        return None


def surface_of(frame: VideoFrame, form: FrameForm) -> Surface:
    """A decoder's frame as a stream takes it, whose planes keep it."""
    luma, chroma = frame.planes
    return Surface((luma, chroma), form, (frame.height, frame.width))


class SurfaceFrames:
    """Makes frames for an encoder of restored surfaces. They share one CUDA context, and keep the surfaces."""

    def __init__(self) -> None:
        self._context: CudaContext | None = None
        self._memory: dict[int, Any] = {}

    def frame(self, surface: Surface, pix_fmt: str) -> VideoFrame:
        """A frame without a copy. pix_fmt: FFmpeg's name of its format. Call it in one thread."""
        from av.video.frame import VideoFrame

        if surface.memory is not None:
            self._memory[id(surface.memory)] = surface.memory
        _, gpu = (int(number) for number in surface.planes[0].__dlpack_device__())
        return VideoFrame.from_dlpack(surface.planes, pix_fmt, cuda_context=self._opened(gpu))

    def _opened(self, gpu: int) -> CudaContext:
        from av.video.frame import CudaContext

        if self._context is None:
            shared_context(gpu)
            self._context = CudaContext(device_id=gpu, primary_ctx=False, current_ctx=True)
        return self._context
