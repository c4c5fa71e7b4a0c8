"""Frames that do not fit into memory are refused before one of them is decoded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

from swiftvr_trt.errors import MachineError
from swiftvr_trt.runtime.media import frame_memory, open_source
from swiftvr_trt.runtime.media.base import Item, Picture
from swiftvr_trt.runtime.media.index import VideoIndex, index_video
from swiftvr_trt.runtime.media.trimmed import reopen

from .images import folder
from .videos import EVEN, frames_of, make_video, one_line


def leave(monkeypatch: pytest.MonkeyPatch, free: int | None) -> None:
    monkeypatch.setattr(frame_memory, "available_memory", lambda: free)


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt", "per_pixel"),
    [
        (".mp4", "libx264", "yuv420p", 24),
        (".mkv", "libx265", "yuv420p10le", 42),
        (".mkv", "ffv1", "yuv444p", 18),
        (".mov", "prores_ks", "yuv422p10le", 22),
    ],
)
def test_the_estimate_decides(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str, codec: str, pix_fmt: str, per_pixel: int
) -> None:
    path = make_video(tmp_path / f"in{suffix}", EVEN[:3], codec, frames_of(640, 480, pix_fmt))
    leave(monkeypatch, per_pixel * 640 * 480)
    with open_source(path) as source:
        assert sum(isinstance(item, Picture) for item in source) == 3
    leave(monkeypatch, per_pixel * 640 * 480 - 1)
    with pytest.raises(
        MachineError, match=r"decoding 640x480 frames takes about .* MB of memory, .* are free"
    ) as error:
        open_source(path)
    assert one_line(error)
    assert f'ffmpeg -i "{path.name}" -vf scale=638:-2' in str(error.value)


def test_nothing_is_refused_where_the_free_memory_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    leave(monkeypatch, None)
    with open_source(make_video(tmp_path / "in.mkv", EVEN[:2])) as source:
        assert sum(isinstance(item, Picture) for item in source) == 2


def test_a_video_that_was_open_before_is_not_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Memory that the decoder has freed may still belong to this process, and so not be free."""
    path = make_video(tmp_path / "in.mkv", EVEN[:3])
    with open_source(path) as before:
        info = before.info
    leave(monkeypatch, 1000)
    with reopen(info, None) as source:
        assert sum(isinstance(item, Picture) for item in source) == 3
        assert isinstance(index_video(source.info), VideoIndex)


def test_an_image_is_refused_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    images = folder(tmp_path / "images", ["a.png"])
    leave(monkeypatch, 1000)
    with pytest.raises(MachineError, match="are free"), open_source(images) as source:
        list(source)


def test_frames_that_grow_on_the_way_are_refused_by_the_decoder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts = [make_video(tmp_path / f"{w}.h264", EVEN[:5], prepare=frames_of(w, w)) for w in (64, 1024)]
    (tmp_path / "in.h264").write_bytes(b"".join(part.read_bytes() for part in parts))
    leave(monkeypatch, 24 * 256 * 256)
    with open_source(tmp_path / "in.h264") as source:
        assert sum(isinstance(item, Picture) for item in source) == 5
        assert source.damage or source.shortfall


@pytest.mark.parametrize("height", [480, 482])
def test_frames_whose_format_takes_more_than_the_header_says_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, height: int
) -> None:
    """On the way; and if the height is one of interlaced video, when the first frames are looked at for fields."""
    forms = [("yuv420p", 64), ("yuv444p10le", 640)]
    parts = [make_video(tmp_path / f"{f}.h264", EVEN[:5], prepare=frames_of(w, height, f)) for f, w in forms]
    (tmp_path / "in.h264").write_bytes(b"".join(part.read_bytes() for part in parts))
    leave(monkeypatch, 24 * 640 * height)
    shown: list[Item] = []
    with (
        pytest.raises(MachineError, match=f"decoding 640x{height}") as error,
        open_source(tmp_path / "in.h264") as source,
    ):
        shown.extend(source)
    assert one_line(error)
    assert any(isinstance(item, Picture) for item in shown) == (height == 482)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process as Linux does")
def test_a_small_file_with_huge_frames_is_refused_in_one_line_in_a_small_machine(tmp_path: Path) -> None:
    """`RLIMIT_AS` is not among the limits that are known, so the child is told what a container would leave it."""
    huge = tmp_path / "huge.mkv"
    with av.open(str(huge), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 8192, 8192, "gray"
        container.mux(stream.encode(av.VideoFrame(8192, 8192, "gray")))
        container.mux(stream.encode(None))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from swiftvr_trt.runtime.media import frame_memory\n"
        "frame_memory.available_memory = lambda: 400_000_000\n"
        "from swiftvr_trt.errors import MachineError\n"
        "from swiftvr_trt.runtime.media import open_source\n"
        "try: open_source(sys.argv[1])\n"
        "except MachineError as error: print(error)\n"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, huge], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    assert "decoding 8192x8192 frames takes about 671.1 MB" in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_machine_with_much_memory_decodes(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg refuses limits that do not fit into 31 bits."""
    monkeypatch.setattr(frame_memory, "available_memory", lambda: 1 << 50)
    with open_source(clip) as source:
        assert next(iter(source)) is not None
