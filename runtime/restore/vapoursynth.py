"""`swiftvr_trt.vapoursynth.restore`: a clip of VapourSynth, restored.

    import vapoursynth as vs
    import swiftvr_trt

    clip = vs.core.bs.VideoSource("old.mkv")
    swiftvr_trt.vapoursynth.restore(clip, "bundle-1080p").set_output()

Scripts that read on from any frame get the frames of an uninterrupted run; a jump costs the frames before it that the
network needs.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import MisuseError, cannot_import
from ..media.colour import UNSPECIFIED, usable_matrix
from ..stream.session import Frame
from .random_access import RandomAccess
from .restorer import Restorer

_KEPT_PROPS = ("_DurationNum", "_DurationDen", "_AbsoluteTime", "_SceneChangePrev", "_SceneChangeNext")


def restore(clip: Any, bundle: str | os.PathLike[str], *, device: str | None = None, threads: int | None = None) -> Any:
    """Restore a clip. Returns an RGB24 clip of the bundle's size with as many frames.

    clip: of any constant format and size. It is converted to RGB24 with the matrix that its frames name; without one,
    BT.709 from 1280 pixels of width or above 576 lines, BT.601 below, as players do. bundle, device, threads: as in
    `Restorer.open`. Raises `MisuseError` for a clip whose format or size varies, `MissingPackageError` without
    VapourSynth, or as `Restorer.open`.
    """
    try:
        import vapoursynth as vs
    except (ImportError, OSError) as error:
        raise cannot_import(error, "vapoursynth", "swiftvr_trt.vapoursynth", "vapoursynth") from error
    if not isinstance(clip, vs.VideoNode):
        raise MisuseError(f"the clip is a {type(clip).__name__}, expected a vapoursynth.VideoNode")
    if clip.format is None or not clip.width or not clip.height:
        raise MisuseError("the clip changes its format or size, expected a constant one: convert it with resize first")
    source = _as_rgb(clip, vs)
    restorer = Restorer.open(Path(bundle), device=device, threads=threads)
    recipe = restorer.manifest.recipe
    frames = RandomAccess(restorer, lambda number: _pixels(source.get_frame(number)), source.num_frames)
    blank = source.std.BlankClip(width=recipe.width, height=recipe.height, format=vs.RGB24, keep=True)

    def restored(n: int, f: Any) -> Any:
        return _filled(f[0].copy(), frames.frame(n), f[1].props)

    # The core keeps the function as long as a filter uses it; the node's Python object goes when the script chains on.
    weakref.finalize(restored, _close, frames, restorer)
    return blank.std.ModifyFrame([blank, source], restored)


def _close(frames: RandomAccess, restorer: Restorer) -> None:
    frames.close()
    restorer.close()


def _as_rgb(clip: Any, vs: Any) -> Any:
    if clip.format.id == vs.RGB24:
        return clip
    settings = {} if clip.format.color_family == vs.RGB else {"matrix_in": _matrix(clip)}
    return clip.resize.Bicubic(format=vs.RGB24, **settings)


def _matrix(clip: Any) -> int:
    """The matrix that the clip's first frame names, or the one that players assume."""
    named = int(clip.get_frame(0).props.get("_Matrix", 2))
    if named not in (0, 2, 3):
        return named
    return usable_matrix(UNSPECIFIED, clip.width, clip.height)


def _pixels(frame: Any) -> Frame:
    """A frame of VapourSynth as uint8 [h, w, 3] RGB."""
    return np.dstack([np.asarray(frame[plane]) for plane in range(3)])


def _filled(frame: Any, pixels: Frame, props: Any) -> Any:
    """A frame of VapourSynth with these pixels, and the times of the frame before."""
    for plane in range(3):
        np.copyto(np.asarray(frame[plane]), pixels[..., plane])
    for name in _KEPT_PROPS:
        if name in props:
            frame.props[name] = props[name]
    return frame
