"""The command for a missing extra installs it from where the package came from."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt import installing
from swiftvr_trt.installing import install_command

METADATA = """\
Metadata-Version: 2.4
Name: swiftvr-trt
Version: 0.1.0
Requires-Dist: numpy>=1.26
Requires-Dist: huggingface_hub<3,>=2.0; extra == "hub"
Requires-Dist: filelock>=3.16; extra == "hub"
Requires-Dist: filelock>=3.16; extra == 'export'
Requires-Dist: torch<2.14,>=2.13; extra == "export"
"""
CLONE = Path(installing.__file__).resolve().parent


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What pip has written about the package, in an otherwise empty site directory."""
    noted = tmp_path / "site" / "swiftvr_trt-0.1.0.dist-info"
    noted.mkdir(parents=True)
    (noted / "METADATA").write_text(METADATA)
    monkeypatch.syspath_prepend(noted.parent)
    monkeypatch.setattr(installing, "__file__", str(noted.parent / "swiftvr_trt" / "installing.py"))
    return noted


def note(installed: Path, url: str, **more: Any) -> None:
    (installed / "direct_url.json").write_text(json.dumps({"url": url, **more}))


def test_a_clone_installs_from_itself() -> None:
    assert (CLONE / "pyproject.toml").exists()
    assert install_command("rtx", "cuda") == f'pip install -e "{CLONE}[rtx,cuda]"'
    assert install_command() == ""
    assert install_command("tensorrt").endswith('[tensorrt]" --extra-index-url https://pypi.nvidia.com')


@pytest.mark.parametrize("name", ["swiftvr_trt-0.1.0-py3-none-any.whl", "my clone"])
def test_a_wheel_or_a_clone_is_named_while_it_exists(installed: Path, tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    source.touch()
    note(installed, source.as_uri(), archive_info={})
    assert install_command("hub") == f'pip install "{source}[hub]"'
    source.unlink()
    assert install_command("hub") == 'pip install "huggingface_hub<3,>=2.0" "filelock>=3.16"'


def test_an_address_is_named(installed: Path) -> None:
    note(installed, "https://example.org/a.whl", archive_info={})
    assert install_command("hub") == 'pip install "swiftvr-trt[hub] @ https://example.org/a.whl"'
    note(installed, "https://example.org/a.git", vcs_info={"vcs": "git", "commit_id": "0"})
    assert install_command("hub") == 'pip install "swiftvr-trt[hub] @ git+https://example.org/a.git"'


@pytest.mark.parametrize("noted", [None, "", "[]", "{", '{"url": 1}', '{"vcs_info": {}, "url": "https://x"}'])
def test_otherwise_the_packages_are_named_once_each(installed: Path, noted: str | None) -> None:
    if noted is not None:
        (installed / "direct_url.json").write_text(noted)
    expected = 'pip install "huggingface_hub<3,>=2.0" "filelock>=3.16" "torch<2.14,>=2.13"'
    assert install_command("hub", "export") == expected


def test_a_package_that_no_index_has_is_never_named(installed: Path) -> None:
    (installed / "METADATA").unlink()
    assert install_command("cuda12") == 'pip install "cuda-core" "cuda-bindings"'
    assert install_command("gpu") == 'pip install "onnxruntime-gpu"'


def test_onnx_runtime_is_found_under_either_name(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"onnxruntime-gpu": "1.24"}
    monkeypatch.setattr(installing, "installed_version", there.get)
    assert installing.onnxruntime_version() == "1.24"
    there.clear()
    assert installing.onnxruntime_version() is None


def test_the_version_is_that_of_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: f"{name} 7")
    assert installing.tool_version() == "swiftvr-trt 7"

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert installing.tool_version() == "unknown"
