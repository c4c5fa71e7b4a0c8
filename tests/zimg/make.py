"""Write `truth.npz` with zimg, which FFmpeg's filter `zscale` is: python -m tests.zimg.make

Needs an `ffmpeg` with zscale in the path, for example Debian's.
"""

from __future__ import annotations

import subprocess

import numpy as np

from . import HEIGHT, TRUTH, WIDTH, Case, Codes, bars, cases, yuv_codes


def convert(data: bytes, before: str, zscale: str, after: str) -> bytes:
    """One frame through zscale. before, after: pixel formats."""
    command = ["ffmpeg", "-v", "error", "-f", "rawvideo", "-s", f"{WIDTH}x{HEIGHT}", "-pix_fmt", before, "-i", "-"]
    command += ["-vf", f"zscale={zscale}:filter=bilinear:dither=none,format={after}", "-frames:v", "1"]
    command += ["-pix_fmt", after, "-f", "rawvideo", "-"]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def level(case: Case) -> str:
    return "full" if case.full else "limited"


def to_rgb(case: Case) -> Codes:
    """RGB in 12 bits [HEIGHT, WIDTH, 3] of `yuv_codes`."""
    luma, chroma = yuv_codes(case)
    dtype = np.uint8 if case.bits == 8 else np.uint16
    data = b"".join(plane.astype(dtype).tobytes() for plane in (luma, *chroma))
    options = f"matrixin={case.matrix}:rangein={level(case)}:chromalin={case.siting}:matrix=gbr:range=full"
    made = convert(data, "yuv420p" if case.bits == 8 else "yuv420p10le", options, "gbrp12le")
    planes = np.frombuffer(made, np.uint16).reshape(3, HEIGHT, WIDTH)
    return np.stack([planes[2], planes[0], planes[1]], axis=-1)


def to_yuv(case: Case) -> Codes:
    """The planes of `bars`, one after another."""
    rgb = bars()
    data = b"".join(rgb[..., k].tobytes() for k in (1, 2, 0))
    options = f"matrixin=gbr:rangein=full:matrix={case.matrix}:range={level(case)}:chromal={case.siting}"
    made = convert(data, "gbrp12le", options, "yuv420p" if case.bits == 8 else "yuv420p10le")
    return np.frombuffer(made, np.uint8 if case.bits == 8 else np.uint16).astype(np.uint16)


def main() -> None:
    arrays = {f"{case.key} rgb": to_rgb(case) for case in cases()}
    arrays |= {f"{case.key} yuv": to_yuv(case) for case in cases()}
    np.savez_compressed(TRUTH, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
