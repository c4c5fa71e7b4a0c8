"""A stand-in for NVDEC on the emulated driver: software decodes, and FFmpeg uploads to frames of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from av.filter.graph import Graph
from av.video.frame import VideoFrame

from swiftvr_trt.runtime.media import probe
from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.media.decoder import VideoDecoder
from swiftvr_trt.runtime.media.planes import bits_of


class Upload:
    """Copies frames to the GPU as FFmpeg does it, in the format in which NVDEC gives them."""

    def __init__(self) -> None:
        self._graphs: dict[tuple[str, int, int], Graph] = {}

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        kind = frame.format.name, frame.width, frame.height
        if kind not in self._graphs:
            graph = self._graphs[kind] = Graph()
            size = f"video_size={frame.width}x{frame.height}:pixel_aspect=1/1"
            source = graph.add("buffer", f"{size}:pix_fmt={frame.format.name}:time_base={frame.time_base or '1/25'}")
            stored = graph.add("format", f"pix_fmts={'p010le' if bits_of(frame) > 8 else 'nv12'}")
            graph.link_nodes(source, stored, graph.add("hwupload_cuda"), graph.add("buffersink")).configure()
        graph = self._graphs[kind]
        graph.vpush(frame)
        uploaded = graph.vpull()
        assert isinstance(uploaded, VideoFrame)
        return uploaded


class Nvdec(VideoDecoder):
    """Decodes in software, and uploads what it decodes if NVDEC was asked to leave it on the GPU.

    stays: the numbers of frames that it hands out on the host all the same.
    """

    stays: Callable[[int], bool] = staticmethod(lambda _number: False)

    def __init__(self, path: Any, hardware: Any = None, options: Any = None) -> None:
        super().__init__(path, None, options)
        self._uploads = hardware is not None and hardware.is_hw_owned
        self._upload, self._decoded = Upload(), 0

    def _decode(self, packet: Any) -> list[VideoFrame]:
        frames = super()._decode(packet)
        if not self._uploads:
            return frames
        first, self._decoded = self._decoded, self._decoded + len(frames)
        return [
            converted(frame, format="nv12") if self.stays(number) else self._upload(frame)
            for number, frame in enumerate(frames, first)
        ]


def decode_with_stand_in(monkeypatch: pytest.MonkeyPatch, stays: Callable[[int], bool] | None = None) -> None:
    """From now on, NVDEC is that of this module."""
    monkeypatch.setattr(probe, "VideoDecoder", Nvdec)
    if stays is not None:
        monkeypatch.setattr(Nvdec, "stays", staticmethod(stays))
