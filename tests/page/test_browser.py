"""Pages in a real browser: headless Chromium, through Playwright.

Skipped where there is no Chromium (Debian: `apt-get install chromium-headless-shell`). CHROMIUM names another program.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from swiftvr_trt.benchmarks.page.benchmark_page import write_page
from swiftvr_trt.page.write import write_html
from tests.benchmarks.suite.sample import sample_run

from .examples import HOSTILE, charts, example_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium-headless-shell") or shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, e.g. apt-get install chromium-headless-shell"),
]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, which the extra dev installs")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield started
        started.close()


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_html(example_page(HOSTILE), path)
    return path


@pytest.fixture(scope="module")
def benchmark_html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    write_page(sample_run(folder), folder / "run.html")
    return folder / "run.html"


@pytest.fixture
def open_page(browser: Browser, html: Path) -> Iterator[Open]:
    """Opens the page with settings of a browser context. At the end: nothing was requested, nothing went wrong."""
    faults: list[str] = []
    with ExitStack() as stack:

        def open_it(html: Path = html, **settings: Any) -> Page:
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.on("console", lambda message: faults.append(f"console: {message.text}"))
            page.on("pageerror", lambda error: faults.append(f"error: {error}"))
            page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
            page.on("request", lambda request: None if _is_own(request.url, html) else faults.append(request.url[:200]))
            page.goto(html.as_uri())
            return page

        yield open_it
    assert faults == []


def _is_own(url: str, html: Path) -> bool:
    return url == html.as_uri() or url.startswith("data:")


def _box(place: Locator) -> tuple[float, float, float, float]:
    box = place.bounding_box()
    assert box is not None
    return box["x"], box["y"], box["width"], box["height"]


def _stage(page: Page) -> tuple[float, float, float, float]:
    """Bring the two pictures into the window. Returns where they are."""
    page.locator(".stage").evaluate("stage => stage.scrollIntoView({block: 'center', behavior: 'instant'})")
    return _box(page.locator(".stage"))


def _split(page: Page) -> float:
    """Where the divider is, from 0 at the left to 100."""
    return float(page.locator(".stage").evaluate("stage => parseFloat(stage.style.getPropertyValue('--split'))"))


def _scale(page: Page) -> float:
    """CSS pixels per pixel of the picture."""
    return float(page.locator(".after img").evaluate("image => image.getBoundingClientRect().width / image.width"))


def _wait_until(page: Page, happened: Callable[[], bool]) -> None:
    """Playwright does not wait for what a wheel does, and its own way to wait is refused by the page's policy."""
    for _ in range(400):
        if happened():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not happen")


def _colours(page: Page, *places: tuple[float, float]) -> list[str]:
    """The main colour of the stage at places, as parts of its width and height: what is really painted."""
    picture = page.locator(".stage").screenshot()
    read = """async ([data, places]) => {
        const image = await createImageBitmap(await (await fetch(data)).blob());
        const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
        canvas.drawImage(image, 0, 0);
        return places.map(([x, y]) => [...canvas.getImageData(x * image.width, y * image.height, 1, 1).data]);
    }"""
    import base64

    blank = page.context.new_page()  # the page itself may load nothing
    pixels = blank.evaluate(read, [f"data:image/png;base64,{base64.b64encode(picture).decode()}", places])
    blank.close()
    return ["red" if red > green + 50 else "green" if green > red + 50 else "other" for red, green, *_ in pixels]


def check_that_everybody_can_read(page: Page, width: int) -> None:
    """Nothing sticks out, no text is tiny, and axe-core finds no fault."""
    from axe_playwright_python.sync_playwright import Axe

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    smallest = """() => Math.min(...[...document.querySelectorAll("body *")].filter(each => each.checkVisibility() &&
        [...each.childNodes].some(child => child.nodeType === 3 && child.data.trim()))
        .map(each => parseFloat(getComputedStyle(each).fontSize)))"""
    assert page.evaluate(smallest) >= 12
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["impact"], each["nodes"][0]["html"][:200]) for each in found] == []


def test_the_divider_follows_the_mouse(open_page: Open) -> None:
    page = open_page()
    x, y, width, height = _stage(page)
    assert _colours(page, (0.25, 0.3), (0.75, 0.3)) == ["red", "green"]
    page.mouse.move(x + width / 2, y + height * 0.3)
    page.mouse.down()
    page.mouse.move(x + width * 0.9, y + height * 0.3, steps=4)
    page.mouse.up()
    assert _split(page) == pytest.approx(90, abs=0.5)
    assert _colours(page, (0.25, 0.3), (0.75, 0.3)) == ["red", "red"]
    page.mouse.click(x + width * 0.2, y + height * 0.3)
    assert _split(page) == pytest.approx(20, abs=0.5)


def test_the_divider_follows_a_finger_and_two_fingers_zoom(open_page: Open) -> None:
    page = open_page(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    x, y, width, height = _stage(page)
    touch = page.context.new_cdp_session(page)
    times = itertools.count(time.time(), 0.05)  # seconds: as fast as a hand, however busy the machine is

    def fingers(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x + width * right, "y": y + height * down, "id": n} for n, (right, down) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points, "timestamp": next(times)})

    fingers("touchStart", (0.5, 0.5))
    fingers("touchMove", (0.4, 0.5))
    fingers("touchMove", (0.25, 0.5))
    fingers("touchEnd")
    assert _split(page) == pytest.approx(25, abs=1)
    before = _scale(page)
    fingers("touchStart", (0.45, 0.5), (0.55, 0.5))
    fingers("touchMove", (0.35, 0.5), (0.65, 0.5))
    fingers("touchMove", (0.25, 0.5), (0.75, 0.5))
    fingers("touchEnd")
    assert _scale(page) == pytest.approx(5 * before, rel=0.1)
    assert page.evaluate("visualViewport.scale") == 1, "the picture is zoomed, not the page"
    for _ in range(2):
        fingers("touchStart", (0.7, 0.5))
        fingers("touchEnd")
    assert _scale(page) == pytest.approx(before), "a double tap shows the whole frame again"
    assert _split(page) == pytest.approx(25, abs=1)


def test_everything_can_be_done_with_keys(open_page: Open) -> None:
    page = open_page()
    slider = page.get_by_role("slider", name="Divider between Input and Output")
    slider.focus()
    for key, split in (("ArrowLeft", 49), ("ArrowRight", 50), ("Home", 0), ("End", 100), ("PageDown", 90)):
        page.keyboard.press(key)
        assert _split(page) == split
    assert slider.get_attribute("aria-valuetext") == "90 % Input, 10 % Output"
    whole = _scale(page)
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert _scale(page) == pytest.approx(2.25 * whole, rel=0.01)
    left = _box(page.locator(".after img"))[0]
    page.keyboard.press("Shift+ArrowRight")
    assert _box(page.locator(".after img"))[0] < left
    assert _split(page) == 90
    page.keyboard.press("1")
    assert _scale(page) == pytest.approx(1 if whole < 1 else whole, rel=0.01)
    page.keyboard.press("0")
    assert _scale(page) == pytest.approx(whole)
    page.keyboard.press(".")
    assert page.locator(".about").text_content() == "0:01"
    assert page.locator(".strip [aria-current=true]").count() == 1


def test_zoom_keeps_the_place_under_the_pointer_and_the_edges_outside(open_page: Open) -> None:
    page = open_page()
    x, y, width, height = _stage(page)
    page.mouse.move(x + width * 0.8, y + height * 0.6)
    whole, place = _scale(page), _box(page.locator(".after img"))
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    _wait_until(page, lambda: _scale(page) > 1.5 * whole)
    page.keyboard.up("Control")
    zoomed = _box(page.locator(".after img"))
    for start, now, extent, grown, at in ((place[0], zoomed[0], place[2], zoomed[2], x + width * 0.8),):
        assert (at - start) / extent == pytest.approx((at - now) / grown, abs=0.01)
    page.mouse.move(x + width * 0.3, y + height * 0.3)
    page.mouse.down()
    page.mouse.move(x + width * 3, y + height * 3, steps=3)
    page.mouse.up()
    corner = _box(page.locator(".after img"))
    assert corner[:2] == pytest.approx((x, y), abs=0.5), "the picture is not dragged off its frame"
    assert _split(page) == 50, "dragging a zoomed picture moves it, not the divider"
    page.get_by_role("button", name="Show the whole frame (0)").click()
    assert _scale(page) == pytest.approx(whole)


def test_a_plain_wheel_scrolls_the_page(open_page: Open) -> None:
    page = open_page()
    x, y, width, height = _stage(page)
    page.mouse.move(x + width / 3, y + height / 3)
    whole = _scale(page)
    before = page.evaluate("scrollY")
    page.mouse.wheel(0, 300)
    _wait_until(page, lambda: bool(page.evaluate("scrollY") > before))
    assert _scale(page) == whole


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1920])
def test_it_can_be_read_on_small_and_large_screens_by_everybody(open_page: Open, width: int, scheme: str) -> None:
    page = open_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    check_that_everybody_can_read(page, width)
    assert page.locator(".plot svg").count() == len(charts()) + 1, "one of them has two groups"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 19, 17)"
    assert dark == (scheme == "dark")


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1920, "light")])
def test_the_page_of_a_benchmark_can_be_read_too(
    open_page: Open, benchmark_html: Path, width: int, scheme: str
) -> None:
    page = open_page(benchmark_html, viewport={"width": width, "height": 900}, color_scheme=scheme)
    check_that_everybody_can_read(page, width)
    assert page.locator(".plot svg").count() == page.locator(".plot").count() + 2, "speed has three sizes"


def test_without_scripts_all_pictures_and_figures_are_there(open_page: Open) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator(".pair img").count() == 6
    assert page.locator(".pair img").first.is_visible()
    assert page.locator("details table").first.is_visible()
