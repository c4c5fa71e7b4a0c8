"""In a container: not root, no home, and nothing can be written but the output folder and the temporary one.

No container engine is needed: the namespaces that make a container are made here, with the same files inside. That
takes root, on Linux.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swiftvr_trt.cli.trial import BUNDLE
from tests.cli.program import Said
from tests.clips import video_pts, write_clip

from .conftest import Venv

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None,
        reason="making namespaces takes root on Linux, with util-linux",
    ),
]

USER = 65532
# Everything read-only; then the output folder, and an empty temporary folder as `docker run --tmpfs /tmp` makes it.
CONTAINER = """
set -e
mount --bind "$OUT" "$OUT"
mount --bind "$TEMPORARY" "$TEMPORARY"
mount -o remount,bind,ro /
mount -o remount,bind,rw "$OUT"
mount -o remount,bind,rw "$TEMPORARY"
cd "$OUT"
exec unshare --user --map-user=$UID_INSIDE --map-group=$UID_INSIDE env -i PATH=/usr/bin:/bin TMPDIR="$TEMPORARY" "$@"
"""


def in_container(out: Path, *command: object) -> Said:
    """Run a program as a user without a name and a home."""
    temporary = out.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    line = ["unshare", "--mount", "sh", "-c", CONTAINER, "sh", *map(str, command)]
    environment = os.environ | {"OUT": str(out), "TEMPORARY": str(temporary), "UID_INSIDE": str(USER)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_the_walls_hold(runtime_venv: Venv, out: Path) -> None:
    """Otherwise the tests below would show nothing."""
    code = """
import os, pathlib
assert os.getuid() == 65532, os.getuid()
assert "HOME" not in os.environ and not pathlib.Path(os.path.expanduser("~")).is_absolute()
pathlib.Path("here").touch()
try:
    (pathlib.Path(os.__file__).parent / "there").touch()
except OSError as error:
    print(error.strerror)
"""
    said = in_container(out, runtime_venv.python, "-c", code)
    assert (said.code, said.out, said.err) == (0, "Read-only file system\n", "")


def test_a_bundle_restores_a_file(runtime_venv: Venv, out: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=5, width=48, height=32)
    run = runtime_venv.program("swiftvr-run")
    said = in_container(out, run, clip, "out.mp4", "--bundle", BUNDLE)
    assert said.code == 0, said.err
    assert [path.name for path in out.iterdir()] == ["out.mp4"]
    assert len(video_pts(out / "out.mp4")) == 5


def test_the_trial_passes(runtime_venv: Venv, out: Path) -> None:
    said = in_container(out, runtime_venv.program("swiftvr-export"), "doctor", "--try")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("this installation works")
    assert not list(out.iterdir())


def test_the_cache_is_where_the_container_can_write(runtime_venv: Venv, out: Path) -> None:
    said = in_container(out, runtime_venv.program("swiftvr-export"), "doctor")
    assert said.code == 0, said.err
    assert f"bundle cache: {out.parent / 'temporary' / f'swiftvr-trt-{USER}'}" in said.out.replace("\n", "")


def test_the_demonstration_is_built_and_cached(export_venv: Venv, out: Path, tmp_path: Path) -> None:
    """torch works without a name and a home, too."""
    clip = write_clip(tmp_path / "in.mp4", frames=5, width=48, height=32)
    run = export_venv.program("swiftvr-run")
    said = in_container(out, run, clip, "out.mp4", "--checkpoint", "demo", "--upscale", "2")
    assert said.code == 0, said.err
    assert [path.name for path in out.iterdir()] == ["out.mp4"]
    assert (out.parent / "temporary" / f"swiftvr-trt-{USER}" / "bundles").is_dir()
