"""An engineer with habits from ffmpeg, an owner of tapes whose batch is interrupted, and a caller from Python."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from swiftvr_trt import Bundle
from tests.clips import video_pts, write_clip
from tests.conftest import BundleFactory

from .conftest import WINDOWS, Venv

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle()


def files_in(*places: Path) -> set[Path]:
    return {path for place in places for path in place.rglob("*")}


def test_an_engineer_types_what_ffmpeg_takes_and_pastes_the_answer(
    runtime_venv: Venv, bundle: Bundle, tmp_path: Path
) -> None:
    write_clip(tmp_path / "in.mp4")
    line = ["-i", "in.mp4", "-c:v", "libx265", "-crf", "24", "-c:a", "copy", "out.mp4", "--bundle", bundle.path]
    said = runtime_venv.run("swiftvr-run", *line, cwd=tmp_path)
    assert said.code == 2
    _, _, pasted = said.error.partition("; type: ")
    program, *arguments = shlex.split(pasted, posix=not WINDOWS)
    said = runtime_venv.run(program, *arguments, "--json", cwd=tmp_path)
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out.splitlines()[-1]) == {"version": 1, "event": "end", "exit_code": 0}
    assert video_pts(tmp_path / "out.mp4") == video_pts(tmp_path / "in.mp4")


def test_an_interrupted_batch_is_continued(runtime_venv: Venv, bundle: Bundle, tmp_path: Path) -> None:
    tapes, out = tmp_path / "tapes", tmp_path / "restored"
    (tapes / "1987").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4", "1987/c.mp4"):
        write_clip(tapes / name, frames=20 if name == "a.mp4" else 400)
    (tapes / "Thumbs.db").write_text("")
    line = ["tapes", "restored", "--recursive", "--bundle", bundle.path, "--threads", "1"]
    program = [str(runtime_venv.program("swiftvr-run")), *map(str, line)]
    process = subprocess.Popen(program, cwd=tmp_path, env=runtime_venv.environment(), stderr=subprocess.PIPE, text=True)
    while not (out / "a.mp4").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM if WINDOWS else signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    finished = {path.relative_to(out).as_posix() for path in files_in(out) if path.is_file()}
    assert "a.mp4" in finished
    assert finished < {"a.mp4", "b.mp4", "1987/c.mp4"}
    written = (out / "a.mp4").stat().st_mtime_ns
    said = runtime_venv.run("swiftvr-run", *line, "--skip-existing", cwd=tmp_path)
    assert said.code == 0, said.err
    assert f"a.mp4: skipped, {Path('restored', 'a.mp4')} is there already" in said.err
    assert "1 file left out, neither video nor picture: Thumbs.db" in said.err
    assert (out / "a.mp4").stat().st_mtime_ns == written
    for name in ("a.mp4", "b.mp4", "1987/c.mp4"):
        assert video_pts(out / name) == video_pts(tapes / name)


def test_a_caller_from_python_gets_a_file_and_nothing_is_written_elsewhere(
    runtime_venv: Venv, bundle: Bundle, tmp_path: Path
) -> None:
    write_clip(tmp_path / "in.mp4")
    code = (
        "import sys; from swiftvr_trt import restore_file\n"
        "restored = restore_file('in.mp4', 'out.mp4', bundle=sys.argv[1])\n"
        "print(restored.path, restored.frames, restored.notes)"
    )
    before = files_in(tmp_path, runtime_venv.home, bundle.path)
    said = runtime_venv.run("python", "-c", code, bundle.path, cwd=tmp_path)
    assert (said.code, said.out, said.err) == (0, "out.mp4 30 ()\n", "")
    assert files_in(tmp_path, runtime_venv.home, bundle.path) - before == {tmp_path / "out.mp4"}


def test_a_buyer_measures_this_machine_and_shows_the_page(runtime_venv: Venv, bundle: Bundle, tmp_path: Path) -> None:
    line = ["--bundle", bundle.path, "--suite", "core,file", "--protocol", "trial", "-o", "run.json"]
    said = runtime_venv.run("swiftvr-bench", *line, cwd=tmp_path)
    assert said.code == 0, said.err
    record = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert [case["state"] for case in record["cases"]] == ["done", "done"]
    assert {figure["how"] for case in record["cases"] for figure in case["figures"]} >= {"measured"}
    said = runtime_venv.run("swiftvr-bench", "--show", "run.json", "--page", "again.html", cwd=tmp_path)
    assert said.code == 0, said.err
    assert (tmp_path / "run.html").stat().st_size > 100_000
    assert (tmp_path / "again.html").exists()
