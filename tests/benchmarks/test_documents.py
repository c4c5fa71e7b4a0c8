"""What README and docs say is what the files in the repository say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import documents as documents_module
from benchmarks.documents import PARTS, ROOT, documents, renewed


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_a_generated_part_is_up_to_date(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == renewed(text), "run python -m benchmarks.documents"


def test_every_part_has_a_place() -> None:
    assert ROOT / "README.md" in documents()
    text = "".join(path.read_text(encoding="utf-8") for path in documents())
    assert [name for name in PARTS if f"<!-- generated: {name} -->" not in text] == []


def test_a_stale_part_is_seen_and_mended() -> None:
    stale = "before\n<!-- generated: protocols -->\nold\n<!-- end -->\nafter\n"
    fresh = renewed(stale)
    assert "old" not in fresh
    assert fresh.startswith("before\n<!-- generated: protocols -->\n| protocol |")
    assert fresh.endswith("|\n<!-- end -->\nafter\n")
    assert renewed(fresh) == fresh


def test_an_unknown_part_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        renewed("<!-- generated: nothing -->\n<!-- end -->\n")


def test_what_was_compiled_before_graphs_changed_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents_module, "is_current", lambda build: build["precision"] != "fp8")
    marked = [row for row in documents_module.expected() if "older graphs" in row]
    assert [row.split(" |")[0] for row in marked] == [
        f"| {size}, fp8 (older graphs)" for size in ("1920x1080", "2560x1440", "3840x2160")
    ]
    assert next(documents_module.compiled()).split(" | ")[2:] == ["fp16", "fp8 (older graphs)", "int8", "nvfp4 |"]
    assert next(documents_module.counted()).split(" | ")[2:] == ["fp16", "fp8 (older graphs) |"]
    marked = [row for row in documents_module.matrix() if "older graphs" in row]
    assert [row.split(" |")[0] for row in marked] == [f"| {sm}, fp8 (older graphs)" for sm in ("SM120", "SM89")]
