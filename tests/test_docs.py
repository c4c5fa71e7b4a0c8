"""What documents refer to exists: links, paths, modules; and the architecture names every module."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import swiftvr_trt

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("benchmarks", "cli", "docs", "engines", "export", "page", "runtime", "scripts", "tests")
DOCUMENTS = sorted(
    document.relative_to(ROOT)
    for document in (*ROOT.glob("*.md"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.md")))
)

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(ROOMS)})/[\w./*-]*\w")
_MODULE = re.compile(r"\b(?:swiftvr_trt|benchmarks)(?:\.[a-z_]\w*)+")
_TREE = re.compile(r"^( *)(\S.*?)(?:  .*)?$")


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_resolve(document: Path) -> None:
    for link in _LINK.findall((ROOT / document).read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / document).parent / name if name else ROOT / document
        assert target.exists(), f"{document} links to {link}"
        if anchor:
            assert anchor in _anchors(target), f"{document} links to {link}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_paths_exist(document: Path) -> None:
    for path in _PATH.findall((ROOT / document).read_text(encoding="utf-8")):
        found = any(ROOT.glob(path)) if "*" in path else (ROOT / path).exists() or (ROOT / f"{path}.py").exists()
        assert found, f"{document} names {path}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_modules_exist(document: Path) -> None:
    for module in _MODULE.findall((ROOT / document).read_text(encoding="utf-8")):
        place = ROOT.joinpath(*module.removeprefix("swiftvr_trt.").split("."))
        public = module.removeprefix("swiftvr_trt.").split(".")[0] in swiftvr_trt.__all__
        assert public or place.is_dir() or place.with_suffix(".py").exists(), f"{document} names {module}"


PACKAGE_ROOMS = ("benchmarks/suite", "benchmarks/page", "cli", "engines", "export", "page", "runtime")


def test_the_tree_in_the_architecture_is_the_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = text.split("## Rooms")[1].split("```")[1]
    listed: set[str] = set()
    rooms: list[tuple[int, str]] = []
    for line in tree.splitlines():
        match = _TREE.match(line)
        if match is None:
            continue
        indent, names = len(match[1]), re.split(r",\s*|\s+", match[2])
        rooms = [room for room in rooms if room[0] < indent]
        if names[0].endswith("/"):
            rooms.append((indent, names[0]))
        else:
            listed |= {"".join(room for _, room in rooms) + name for name in names}
    modules = {
        path.relative_to(ROOT).with_suffix("").as_posix()
        for path in (
            *ROOT.glob("*.py"),
            *(path for room in PACKAGE_ROOMS for path in (ROOT / room).rglob("*.py")),
        )
        if not path.stem.startswith("__")
    }
    assert listed == modules


def _anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
