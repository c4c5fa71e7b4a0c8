"""A user without a GPU, who has installed the wheel with its extras `cpu` and `export` and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clips import write_clip

from .conftest import Venv, Watch

pytestmark = pytest.mark.slow

PLACE = "import pathlib, swiftvr_trt; print(pathlib.Path(swiftvr_trt.__file__).parent)"
SIZE = """
import sys, av
with av.open(sys.argv[1]) as file:
    frames = [(frame.width, frame.height) for frame in file.decode(video=0)]
print(len(frames), *frames[0])
"""


def test_the_demonstration_restores_the_sample(export_venv: Venv, tmp_path: Path, elsewhere: Path) -> None:
    """`--checkpoint demo` and the sample come with the wheel. Only the output and the cache are written."""
    place = Path(export_venv.run("python", "-c", PLACE, cwd=tmp_path).out.strip())
    assert export_venv.path in place.parents
    sample = place / "export" / "sample.mp4"
    watch = Watch(export_venv, elsewhere)
    frames = 9  # one chunk, and the end
    line = (sample, "out.mp4", "--checkpoint", "demo", "--upscale", "2", "--frames", frames)
    said = export_venv.run("swiftvr-run", *line, cwd=tmp_path, timeout_s=300, **watch.environment)
    assert said.code == 0, said.err
    assert "Traceback" not in said.err
    _, width, height = map(int, export_venv.run("python", "-c", SIZE, sample, cwd=tmp_path).out.split())
    restored = export_venv.run("python", "-c", SIZE, "out.mp4", cwd=tmp_path).out.split()
    assert restored == [str(frames), str(2 * width), str(2 * height)]
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    written = watch.written()
    assert written
    assert not [place for place in written if not place.startswith("home/.cache/swiftvr-trt/")]


def test_without_the_exporter_the_demonstration_says_what_to_install(runtime_venv: Venv, tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4", frames=3)
    said = runtime_venv.run("swiftvr-run", "in.mp4", "out.mp4", "--checkpoint", "demo", cwd=tmp_path)
    assert said.code in (1, 2)
    assert "export" in said.error
    assert "pip install" in said.error
    assert not (tmp_path / "out.mp4").exists()
