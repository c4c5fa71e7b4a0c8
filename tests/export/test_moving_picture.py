"""The moving test picture."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np

from swiftvr_trt.export.moving_picture import synthetic_frame


def test_frames_are_pictures_that_move() -> None:
    frames = [synthetic_frame(index, 33, 57) for index in range(3)]
    assert {(frame.dtype, frame.shape) for frame in frames} == {(np.dtype(np.uint8), (33, 57, 3))}
    steps = [np.abs(a.astype(int) - b).mean() for a, b in itertools.pairwise(frames)]
    assert all(step > 5 for step in steps)
    assert np.array_equal(frames[1], synthetic_frame(1, 33, 57))


def test_it_needs_no_torch() -> None:
    code = "import sys; import swiftvr_trt.export.moving_picture; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
