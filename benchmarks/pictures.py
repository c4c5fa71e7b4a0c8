"""Write a picture with PyAV, which every test installs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from swiftvr_trt.runtime.media.colour import converted

Picture = NDArray[np.uint8]
"""[H, W, 3] in RGB."""
_CODECS = {".png": "png", ".jpg": "mjpeg"}
_PIXELS = {"png": "rgb24", "mjpeg": "yuvj444p"}


def write_picture(path: Path, picture: Picture) -> None:
    """Write a PNG or a JPEG of high quality."""
    codec = _CODECS[path.suffix]
    pixels = _PIXELS[codec]
    options = {"qmin": "2", "qmax": "2"} if codec == "mjpeg" else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w", format="image2", options={"update": "1"}) as container:
        stream: Any = container.add_stream(codec, rate=1, options=options)
        stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], pixels
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        container.mux(stream.encode(converted(frame, format=pixels)))
        container.mux(stream.encode(None))
