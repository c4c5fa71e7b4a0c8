"""Builds the pages of documentation into build/site/site: `make docs`.

Warnings are errors, and so is a link or an anchor that leads nowhere. The built pages load nothing from other servers;
links to other servers are not followed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "site"
_LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")


def nav_pages(entries: object) -> Iterator[str]:
    """The files that a navigation names."""
    if isinstance(entries, str):
        yield entries
    elif isinstance(entries, list | dict):
        for entry in entries.values() if isinstance(entries, dict) else entries:
            yield from nav_pages(entry)


def linked(page: Path) -> Iterator[Path]:
    """The files of this repository that a page links to."""
    for match in _LINK.findall(page.read_text(encoding="utf-8")):
        name = urlsplit(match[0] or match[1])
        target = (page.parent / unquote(name.path)).resolve()
        if not name.scheme and name.path and target.is_file():
            yield target


def collect(pages: list[Path]) -> set[Path]:
    """These pages and whatever they link to, directly or not."""
    found: set[Path] = set()
    waiting = list(pages)
    while waiting:
        page = waiting.pop()
        if page not in found:
            found.add(page)
            waiting += linked(page) if page.suffix == ".md" else []
    return found


def stage(work: Path) -> None:
    """Copy the pages, and the package without tests: the reference is read from it, and a clone holds far more."""
    shutil.rmtree(work, ignore_errors=True)
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    for source in collect([ROOT / name for name in nav_pages(config["project"]["nav"])]):
        target = work / "pages" / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    for package in packages:
        room = Path(*package.split(".")[1:])
        target = work / "package" / "swiftvr_trt" / room
        target.mkdir(parents=True, exist_ok=True)
        for module in (ROOT / room).glob("*.py"):
            shutil.copy(module, target)
    shutil.copy(ROOT / "zensical.toml", work)


class Links(HTMLParser):
    """ids: anchors of a page. links: where it leads. loaded: what a browser loads with it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in ("script", "img", "iframe", "source", "video"):
            self.loaded.append(values.get("src", ""))
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loaded.append(values.get("href", ""))


def problems(site: Path) -> list[str]:
    """What is wrong with built pages: links that lead nowhere, and what is loaded from elsewhere."""
    pages = {page: Links(page) for page in site.rglob("*.html")}
    found = []
    for page, links in pages.items():
        if page.name == "404.html":  # its addresses start at the server's root
            continue
        where = page.relative_to(site).as_posix()
        found += [f"{where} loads {name}" for name in links.loaded if urlsplit(name).netloc]
        for link in (*links.links, *links.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            anchors = pages[target].ids if target in pages else {parts.fragment}
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in anchors):
                found.append(f"{where} links to {link}")
    return found


def main() -> None:
    """Build and check. Exits with 1 if anything is wrong."""
    stage(WORK)
    built = subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=WORK, check=False)
    if built.returncode:
        raise SystemExit(built.returncode)
    site = WORK / "site"
    found = problems(site)
    print("\n".join(found) or f"{len(list(site.rglob('*.html')))} pages in {site}")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
