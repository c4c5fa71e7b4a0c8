"""A stand-in for NVENC: the library `libnvidia-encode.so.1`, whose work x264 does, without loss.

FFmpeg loads it as it loads NVIDIA's, so its own code for NVENC runs: it registers surfaces, keeps them until a picture
is complete, and unregisters them. Only what FFmpeg calls is here. A picture is read as late as FFmpeg allows, when its
packet is fetched, so that a surface that was released or written again meanwhile shows.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from collections.abc import Callable
from ctypes import POINTER, c_int, c_uint32, c_uint64, c_void_p
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from swiftvr_trt.runtime.media.colour import converted
from tests.cuda_emulator import Emulator

_LIBRARY = """
#include <stdint.h>
#include <string.h>
static void *functions[64];
void set_functions(void **given) { memcpy(functions, given, sizeof functions); }
int NvEncodeAPIGetMaxSupportedVersion(uint32_t *version) { *version = 0xffff; return 0; }
int NvEncodeAPICreateInstance(void *list) { memcpy((char *)list + 8, functions, sizeof functions); return 0; }
"""
_NV12, _YV12, _P010 = 0x1, 0x10, 0x10000
_END, _IDR, _P = 8, 3, 0
_KEPT: list[object] = []
"""FFmpeg may call them as long as the process lives."""


class _Guid(ctypes.Structure):
    _fields_ = [("a", c_uint32), ("b", ctypes.c_uint16), ("c", ctypes.c_uint16), ("d", ctypes.c_uint8 * 8)]


_H264 = _Guid(0x6BC82762, 0x4E63, 0x4CA4, (ctypes.c_uint8 * 8)(0xAA, 0x85, 0x1E, 0x50, 0xF3, 0x21, 0xF6, 0xBF))


class _Open(ctypes.Structure):
    _fields_ = [("version", c_uint32), ("kind", c_uint32), ("device", c_void_p)]


class _Initialize(ctypes.Structure):
    _fields_ = [("version", c_uint32), ("codec", _Guid), ("preset", _Guid), ("width", c_uint32), ("height", c_uint32)]


class _Buffer(ctypes.Structure):
    _fields_ = [("version", c_uint32), ("unused", c_uint32 * 3), ("handle", c_void_p)]


class _Header(ctypes.Structure):
    _fields_ = [
        ("version", c_uint32),
        ("room", c_uint32),
        ("ids", c_uint32 * 2),
        ("buffer", c_void_p),
        ("size", POINTER(c_uint32)),
    ]


class _Input(ctypes.Structure):
    _fields_ = [
        ("version", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("heap", c_uint32),
        ("format", c_uint32),
        ("unused", c_uint32),
        ("handle", c_void_p),
    ]


class _LockInput(ctypes.Structure):
    _fields_ = [
        ("version", c_uint32),
        ("flags", c_uint32),
        ("handle", c_void_p),
        ("data", c_void_p),
        ("pitch", c_uint32),
    ]


class _Register(ctypes.Structure):
    _fields_ = [
        ("version", c_uint32),
        ("kind", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("pitch", c_uint32),
        ("index", c_uint32),
        ("resource", c_void_p),
        ("handle", c_void_p),
        ("format", c_uint32),
    ]


class _Map(ctypes.Structure):
    _fields_ = [
        ("version", c_uint32),
        ("index", c_uint32),
        ("unused", c_void_p),
        ("registered", c_void_p),
        ("mapped", c_void_p),
        ("format", c_uint32),
    ]


class _Picture(ctypes.Structure):
    _fields_ = [
        ("version", c_uint32),
        ("sizes", c_uint32 * 3),
        ("flags", c_uint32),
        ("index", c_uint32),
        ("pts", c_uint64),
        ("duration", c_uint64),
        ("input", c_void_p),
        ("output", c_void_p),
    ]


class _Lock(ctypes.Structure):
    _fields_ = [
        ("version", c_uint32),
        ("flags", c_uint32),
        ("output", c_void_p),
        ("slices", c_void_p),
        ("index", c_uint32),
        ("status", c_uint32),
        ("count", c_uint32),
        ("size", c_uint32),
        ("pts", c_uint64),
        ("duration", c_uint64),
        ("data", c_void_p),
        ("kind", c_uint32),
        ("structure", c_uint32),
    ]


class _Session:
    """An open encoder. resources: registered surfaces. inputs: frames on the host, in YV12. waiting: what each output
    buffer will hold."""

    def __init__(self) -> None:
        self.x264: VideoCodecContext | None = None
        self.resources: dict[int, _Register] = {}
        self.mapped: set[int] = set()
        self.inputs: dict[int, Any] = {}
        self.waiting: dict[int, tuple[int, int, int]] = {}
        self.packet = b""
        self.pictures = 0


class FakeNvenc:
    """What the library does. problems: what FFmpeg, or we, did wrong. pictures: that were encoded.

    most_registered: surfaces that one encoder knew at a time.
    """

    def __init__(self, emulator: Emulator) -> None:
        from cuda.core import Device

        Device(0).set_current()
        self._emulator, self._numbers = emulator, count(1)
        self._context = int(Device(0).context.handle)
        self._sessions: dict[int, _Session] = {}
        self.problems: list[str] = []
        self.pictures = self.most_registered = 0
        self._functions: list[Any] = [self._callback(*each) for each in self._table()]
        table = (c_void_p * 64)(*[ctypes.cast(self._functions[-1], c_void_p)] * 64)
        for (place, _, _), function in zip(self._table(), self._functions, strict=True):
            table[place] = ctypes.cast(function, c_void_p)
        _KEPT.append(self._functions)
        _library().set_functions(table)

    @property
    def open(self) -> int:
        """Encoders that are open."""
        return len(self._sessions)

    def _table(self) -> list[tuple[int, Callable[..., None], list[Any]]]:
        """Places in NVENC's list of functions, what is called, and its arguments."""
        session, ignored = c_void_p, (lambda *_: None)
        return [
            (1, self._count_codecs, [session, POINTER(c_uint32)]),
            (4, self._list_codecs, [session, POINTER(_Guid), c_uint32, POINTER(c_uint32)]),
            (7, self._ask, [session, _Guid, c_void_p, POINTER(c_int)]),
            (11, self._initialize, [session, POINTER(_Initialize)]),
            (12, self._create_input, [session, POINTER(_Input)]),
            (13, self._destroy_input, [session, c_void_p]),
            (14, self._create_buffer, [session, POINTER(_Buffer)]),
            (15, ignored, [session, c_void_p]),
            (16, self._encode, [session, POINTER(_Picture)]),
            (17, self._lock, [session, POINTER(_Lock)]),
            (18, ignored, [session, c_void_p]),
            (19, self._lock_input, [session, POINTER(_LockInput)]),
            (20, ignored, [session, c_void_p]),
            (22, self._header, [session, POINTER(_Header)]),
            (25, self._map, [session, POINTER(_Map)]),
            (26, self._unmap, [session, c_void_p]),
            (27, self._destroy, [session]),
            (29, self._open, [POINTER(_Open), POINTER(c_void_p)]),
            (30, self._register, [session, POINTER(_Register)]),
            (31, self._unregister, [session, c_void_p]),
            (38, ignored, [session, c_void_p, c_void_p]),
            (39, ignored, [session, _Guid, _Guid, c_uint32, c_void_p]),
            (63, self._unknown, [session]),
        ]

    def _callback(self, _place: int, function: Callable[..., None], arguments: list[Any]) -> Any:
        def called(*given: Any) -> int:
            try:
                function(*given)
            except Exception as error:  # noqa: BLE001 (nothing can be raised into FFmpeg)
                self.problems.append(f"{type(error).__name__}: {error}")
                return 20  # NVENC: generic error
            return 0

        return ctypes.CFUNCTYPE(c_int, *arguments)(called)

    def _open(self, given: Any, handle: Any) -> None:
        if given[0].device != self._context:
            raise ValueError(f"the encoder is opened in the context {given[0].device:#x}, not in {self._context:#x}")
        number = next(self._numbers)
        self._sessions[number] = _Session()
        handle[0] = number

    def _count_codecs(self, _session: int, found: Any) -> None:
        found[0] = 1

    def _list_codecs(self, _session: int, codecs: Any, _room: int, found: Any) -> None:
        codecs[0], found[0] = _H264, 1

    def _ask(self, _session: int, _codec: Any, _question: int, answer: Any) -> None:
        answer[0] = 4096

    def _initialize(self, session: int, given: Any) -> None:
        context: Any = VideoCodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = given[0].width, given[0].height, "yuv420p"
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.colorspace, context.color_range = 6, 1  # what small videos without tags get; NVENC is told by FFmpeg
        context.options = {"qp": "0", "preset": "ultrafast", "tune": "zerolatency", "x264-params": "log=1"}
        context.flags |= int(Flags.global_header)
        context.open()
        self._sessions[session].x264 = context

    def _header(self, session: int, payload: Any) -> None:
        context = self._sessions[session].x264
        assert context is not None
        header = bytes(context.extradata or b"")
        assert len(header) <= payload[0].room
        ctypes.memmove(payload[0].buffer, header, len(header))
        payload[0].size[0] = len(header)

    def _create_buffer(self, _session: int, buffer: Any) -> None:
        buffer[0].handle = next(self._numbers)

    def _create_input(self, session: int, given: Any) -> None:
        assert given[0].format == _YV12, f"frames on the host have the format {given[0].format:#x}"
        given[0].handle = number = next(self._numbers)
        self._sessions[session].inputs[number] = np.zeros((given[0].height * 3 // 2, given[0].width), np.uint8)

    def _destroy_input(self, session: int, number: int) -> None:
        del self._sessions[session].inputs[number]

    def _lock_input(self, session: int, given: Any) -> None:
        pixels = self._sessions[session].inputs[given[0].handle]
        given[0].data, given[0].pitch = pixels.ctypes.data, pixels.shape[1]

    def _unknown(self, _session: int) -> None:
        raise NotImplementedError("a function of NVENC was called that is not here")

    def _register(self, session: int, given: Any) -> None:
        number, own = next(self._numbers), _Register()
        ctypes.pointer(own)[0] = given[0]
        assert own.format in (_NV12, _P010), f"surfaces have the format {own.format:#x}"
        self._sessions[session].resources[number] = own
        self.most_registered = max(self.most_registered, len(self._sessions[session].resources))
        given[0].handle = number

    def _map(self, session: int, given: Any) -> None:
        number = given[0].registered
        given[0].mapped, given[0].format = number, self._sessions[session].resources[number].format
        self._sessions[session].mapped.add(number)

    def _unmap(self, session: int, mapped: int) -> None:
        self._sessions[session].mapped.remove(mapped)

    def _unregister(self, session: int, number: int) -> None:
        self._pixels(self._sessions[session].resources.pop(number))  # it must still be there

    def _encode(self, session: int, given: Any) -> None:
        picture = given[0]
        if not picture.flags & _END:
            own = self._sessions[session]
            assert picture.input in own.mapped or picture.input in own.inputs
            own.waiting[picture.output] = (picture.input, picture.pts, picture.duration)

    def _lock(self, session: int, given: Any) -> None:
        own, lock = self._sessions[session], given[0]
        number, lock.pts, lock.duration = own.waiting.pop(lock.output)
        if number in own.inputs:
            frame = VideoFrame.from_ndarray(_from_yv12(own.inputs[number]), format="yuv420p")
        else:
            name = "nv12" if own.resources[number].format == _NV12 else "p010le"
            frame = converted(
                VideoFrame.from_ndarray(self._pixels(own.resources[number]), format=name), format="yuv420p"
            )
        assert own.x264 is not None
        frame.pts = own.pictures
        (packet,) = own.x264.encode(frame)
        own.packet, own.pictures, self.pictures = bytes(packet), own.pictures + 1, self.pictures + 1
        lock.size, lock.data = len(own.packet), ctypes.cast(ctypes.c_char_p(own.packet), c_void_p)
        lock.kind, lock.structure = _IDR if packet.is_keyframe else _P, 1

    def _pixels(self, resource: _Register) -> Any:
        """As NVENC sees them: chroma follows luma, in rows of the same pitch."""
        dtype = np.dtype(np.uint8 if resource.format == _NV12 else np.uint16)
        shape = (resource.height * 3 // 2, resource.pitch // dtype.itemsize)
        return np.ascontiguousarray(self._emulator.array(resource.resource, shape, dtype)[:, : resource.width])

    def _destroy(self, session: int) -> None:
        own = self._sessions.pop(session)
        if own.resources or own.mapped:
            raise ValueError(f"an encoder was closed with {len(own.resources)} surfaces registered")


def _from_yv12(planes: Any) -> Any:
    """Cb before Cr."""
    luma = len(planes) * 2 // 3
    first, second = planes[luma:].reshape(2, -1)
    return np.concatenate([planes[:luma].ravel(), second, first]).reshape(planes.shape)


@functools.cache
def _library() -> ctypes.CDLL:
    """Loaded under the name by which FFmpeg looks for it."""
    folder = Path(tempfile.mkdtemp(prefix="swiftvr-nvenc-"))
    (folder / "nvenc.c").write_text(_LIBRARY)
    library = folder / "libnvidia-encode.so.1"
    command = ["gcc", "-shared", "-fPIC", "-Wl,-soname,libnvidia-encode.so.1", "-o", str(library)]
    subprocess.run([*command, str(folder / "nvenc.c")], check=True)
    loaded = ctypes.CDLL(str(library))
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return loaded
