"""Files besides the output are checked before a run begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftvr_trt.errors import SwiftVRError
from swiftvr_trt.runtime.restore.side_file import check_side_file


@pytest.mark.parametrize("option", ["--trace", "--report"])
@pytest.mark.parametrize(
    ("name", "overwrite", "expected"),
    [
        ("in.mp4", True, "is INPUT"),
        ("link", True, "is INPUT"),
        ("out.mp4", True, "is OUTPUT"),
        ("folder", True, "is a directory"),
        ("there", False, "already exists"),
        ("no/where", False, "does not exist"),
        ("there", True, None),
        ("new", False, None),
    ],
)
def test_a_side_file_replaces_nothing(
    tmp_path: Path, option: str, name: str, overwrite: bool, expected: str | None
) -> None:
    source, output = tmp_path / "in.mp4", tmp_path / "out.mp4"
    source.touch()
    (tmp_path / "there").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(source)
    if expected is None:
        check_side_file(option, tmp_path / name, source, output, overwrite=overwrite)
        return
    with pytest.raises(SwiftVRError, match=expected):
        check_side_file(option, tmp_path / name, source, output, overwrite=overwrite)
