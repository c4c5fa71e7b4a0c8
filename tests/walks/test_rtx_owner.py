"""The owner of an RTX card, who builds on a machine without a GPU: the wheel with its extras `rtx` and `export`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clips import write_clip

from .conftest import Once, Venv, Watch, install_wheel, make_nothing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def rtx_venv(once: Once, wheel: Path) -> Venv:
    """The wheel with the extras `rtx` and `export`, and torch for the CPU."""
    made = once("rtx-venv", lambda path: install_wheel(path, wheel, "[rtx,export]", link=True))
    return Venv(made, once("rtx-home", make_nothing))


def test_engines_are_built_described_and_refused_where_no_gpu_is(
    rtx_venv: Venv, tmp_path: Path, elsewhere: Path
) -> None:
    watch = Watch(rtx_venv, elsewhere)
    line = ("--checkpoint", "demo", "--resolution", "128x96", "--target", "RTX 4070", "-o", "bundle")
    built = rtx_venv.run("swiftvr-export", "build-engine", *line, cwd=tmp_path, timeout_s=900, **watch.environment)
    assert built.code == 0, built.err
    assert "precision fp8, the usual one for target RTX 4070" in built.err
    assert "of the 12 GB of an RTX 4070" in built.err
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert not [place for place in watch.written() if not place.startswith("home/.cache/swiftvr-trt/")]

    again = rtx_venv.run("swiftvr-export", "build-engine", *line, cwd=tmp_path)
    assert again.code == 2
    assert again.err.endswith("a bundle is there already; choose another name, or replace it with -y\n")

    described = rtx_venv.run("swiftvr-export", "inspect", "bundle", "--card", "rtx4070", "--json", cwd=tmp_path)
    assert described.code == 0, described.err
    (projected,) = json.loads(described.out)["engines"]["projected"]
    assert (projected["gpu"], projected["memory_bytes"]) == ("RTX 4070", 12e9)

    write_clip(tmp_path / "in.mp4")
    refused = rtx_venv.run("swiftvr-run", "in.mp4", "out.mp4", "--bundle", "bundle", cwd=tmp_path)
    assert refused.code == 1
    assert refused.err.startswith("error: no NVIDIA driver was found")
    assert len(refused.err.splitlines()) == 1
    assert not (tmp_path / "out.mp4").exists()
