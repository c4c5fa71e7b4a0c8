"""Surfaces: frames in GPU memory, copied into the memory of a session and out of it.

Both copies are over when a call returns, so a decoder may use its surface again at once, and an encoder may read the
one that it gets. They take microseconds, and run beside the stages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import MisuseError
from ...text import first_line
from ..stream.buffers import View
from ..stream.frames import FrameForm, Planes, Surface
from .cuda_memory import SessionMemory
from .gpu import Gpu, explain_cuda_errors
from .surface_memory import Loan, SurfaceMemory


@dataclass(frozen=True)
class _Rows:
    """Rows in GPU memory: where they begin, how many, and bytes from one to the next."""

    begin: int
    count: int
    pitch: int


class SurfaceCopies:
    """Copies surfaces into and out of the memory of one session, on a CUDA stream of its own."""

    def __init__(self, gpu: Gpu, memory: SessionMemory, stream: Any) -> None:
        self._gpu, self._memory, self._stream = gpu, memory, stream
        self._blocks: SurfaceMemory | None = None

    def take(self, frame: Surface | Planes, places: Sequence[View]) -> None:
        """Copy a frame into places of buffers. Raises `MisuseError` if a surface is not what it says."""
        if isinstance(frame, Planes):
            self._take_planes(frame, places)
            return
        views = [_view_of(plane, self._gpu) for plane in frame.planes]  # which hold it until the copy is over
        row_bytes = frame.size[1] * _item_bytes(frame.form)
        sources = [_rows_of(each, rows, frame) for each, (_, rows) in zip(views, _layout(frame), strict=True)]
        with explain_cuda_errors("a surface could not be copied"), self._over():
            self._stream.wait(self._gpu.core.LEGACY_DEFAULT_STREAM)  # where DLPack says that it is complete
            for begin in map(self._memory.address, places):
                for source, (offset, rows) in zip(sources, _layout(frame), strict=True):
                    _copy_rows(source, _Rows(begin + offset, rows, row_bytes), row_bytes, self._stream)

    def _take_planes(self, planes: Planes, places: Sequence[View]) -> None:
        """From memory of the host that is not pinned: the driver takes it in small pieces."""
        from cuda.bindings import driver

        with explain_cuda_errors("a frame could not be copied to the GPU"), self._over():
            for begin in map(self._memory.address, places):
                source = planes.data.ctypes.data
                _check(*driver.cuMemcpyHtoDAsync(begin, source, planes.nbytes, self._stream.handle))

    def give(self, view: View, form: FrameForm, size: tuple[int, int]) -> Surface:
        """A new surface with a copy of one place of a buffer. Its memory is used again after the last of its planes.

        Luma and chroma lie in one block, without a gap: NVENC gets the address and the pitch of luma alone.
        """
        height, width = size
        source = self._memory.on_device(view)
        if self._blocks is None:
            self._blocks = SurfaceMemory(self._gpu, source.size)
        loan = self._blocks.lend()
        with explain_cuda_errors("a restored surface could not be copied"), self._over():
            self._stream.wait(self._gpu.core.LEGACY_DEFAULT_STREAM)  # where its last reader may still be at work
            self._buffer(loan, 0, source.size).copy_from(source, stream=self._stream)
        luma = height * width * _item_bytes(form)
        planes = (
            _plane(self._buffer(loan, 0, luma), (height, width), form),
            _plane(self._buffer(loan, luma, source.size - luma), (height // 2, width // 2, 2), form),
        )
        return Surface(planes, form, size, loan.block)

    @contextmanager
    def _over(self) -> Iterator[None]:
        """Wait for the copies in this block, also if one of them fails: their memory may be used again then."""
        try:
            yield
        except BaseException:
            with suppress(Exception):
                self._stream.sync()
            raise
        self._stream.sync()

    def _buffer(self, loan: Loan, offset: int, nbytes: int) -> Any:
        """A part of a block, which keeps the loan."""
        return self._gpu.core.Buffer.from_handle(loan.block.address + offset, nbytes, owner=loan)

    def close(self) -> None:
        """Release the memory of restored surfaces that nobody holds any more."""
        if self._blocks is not None:
            self._blocks.close()


class _Unsynchronised:
    """A plane whose memory is complete on the default stream. Some exporters know no other."""

    def __init__(self, plane: Any) -> None:
        self._plane = plane

    def __dlpack__(self, **_: Any) -> Any:
        return self._plane.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self._plane.__dlpack_device__()


_ON_GPU = 2
"""DLPack's number for CUDA devices."""


@dataclass(frozen=True)
class _View:
    """What DLPack says of a plane. strides: in items. held: keeps its memory."""

    begin: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    held: Any


def _view_of(plane: Any, gpu: Gpu) -> _View:
    """What a plane is. Raises `MisuseError` if it does not lie on this GPU, or its exporter does not say."""
    if not (hasattr(plane, "__dlpack__") and hasattr(plane, "__dlpack_device__")):
        raise MisuseError(f"a plane of a surface is a {type(plane).__name__}, expected one that speaks DLPack")
    with _naming_exporter(plane):
        kind, index = (int(number) for number in plane.__dlpack_device__())
    if (kind, index) != (_ON_GPU, gpu.index):
        place = f"GPU {index}" if kind == _ON_GPU else f"DLPack's device {kind}"
        raise MisuseError(f"a surface lies on {place}, expected GPU {gpu.index}, where the bundle runs")
    with _naming_exporter(plane):
        return _exported(plane)


def _exported(plane: Any) -> _View:
    from cuda.core.utils import StridedMemoryView

    view = StridedMemoryView.from_dlpack(_Unsynchronised(plane), stream_ptr=-1)
    shape, dtype = tuple(view.shape), np.dtype(view.dtype)
    usual = _contiguous(shape)
    # Over a side of 1, exporters choose strides as they like.
    steps = zip(shape, view.strides or usual, usual, strict=True)
    strides = tuple(own if side > 1 else expected for side, own, expected in steps)
    return _View(int(view.ptr), dtype, shape, strides, view)


@contextmanager
def _naming_exporter(plane: Any) -> Iterator[None]:
    """Turn whatever an exporter raises, or cuda-core at what it exports, into a `MisuseError` that names it."""
    try:
        yield
    except Exception as error:
        raise MisuseError(
            f"a plane of a surface is a {type(plane).__name__} that DLPack cannot export ({first_line(error)})"
        ) from error


def _item_bytes(form: FrameForm) -> int:
    return 1 + form.format.wide


def _layout(surface: Surface) -> Iterator[tuple[int, int]]:
    """Where luma and chroma begin in a frame of the session, in bytes, and their rows."""
    height, width = surface.size
    yield 0, height
    yield height * width * _item_bytes(surface.form), height // 2


def _rows_of(plane: _View, rows: int, surface: Surface) -> _Rows:
    """The rows of a plane. Raises `MisuseError` if it has another shape or type."""
    width, dtype = surface.size[1], np.dtype(surface.form.format.host_dtype)
    fits = plane.dtype == dtype and plane.shape in ((rows, width), (rows, width // 2, 2))
    if not fits or plane.strides[1:] != _contiguous(plane.shape)[1:] or plane.strides[0] < width:
        raise MisuseError(
            f"a plane of a surface is {plane.dtype} {list(plane.shape)} with strides {list(plane.strides)}, expected "
            f"{dtype} [{rows}, {width}] in rows without gaps inside"
        )
    return _Rows(plane.begin, rows, plane.strides[0] * dtype.itemsize)


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for side in reversed(shape):
        strides.append(step)
        step *= side
    return tuple(reversed(strides))


def _plane(buffer: Any, shape: tuple[int, ...], form: FrameForm) -> Any:
    from cuda.core.utils import StridedMemoryView

    return StridedMemoryView.from_buffer(buffer, shape, dtype=np.dtype(form.format.host_dtype))


def _copy_rows(source: _Rows, target: _Rows, row_bytes: int, stream: Any) -> None:
    from cuda.bindings import driver

    on_device = driver.CUmemorytype.CU_MEMORYTYPE_DEVICE
    copy = driver.CUDA_MEMCPY2D()
    copy.srcMemoryType = copy.dstMemoryType = on_device
    copy.srcDevice, copy.srcPitch = source.begin, source.pitch
    copy.dstDevice, copy.dstPitch = target.begin, target.pitch
    copy.WidthInBytes, copy.Height = row_bytes, source.count
    _check(*driver.cuMemcpy2DAsync(copy, stream.handle))


def _check(error: Any) -> None:
    if int(error):
        raise RuntimeError(error.name)
