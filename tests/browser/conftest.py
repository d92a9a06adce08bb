"""A real headless Chromium. EVERGREEN_CHROMIUM names it (default: the one on PATH), EVERGREEN_SCREENSHOTS a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
Scheme = Literal["light", "dark"]


@dataclass
class Visit:
    """A page in the browser, and what it said and asked for."""

    page: Page
    errors: list[str] = field(default_factory=list)  # of the console and of scripts
    requests: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # requests that were answered with an error

    def __post_init__(self) -> None:
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("response", lambda r: self.failed.append(r.url) if r.status >= 400 else None)

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def count(self, selector: str) -> int:
        """How many elements are there."""
        return self.page.locator(selector).count()

    def photograph(self, name: str, whole: bool = True) -> None:
        """Keep a picture, if a folder for pictures was given."""
        if folder := os.environ.get("EVERGREEN_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=whole)


Open = Callable[..., "contextmanager[Visit]"]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path."""
    given = os.environ.get("EVERGREEN_CHROMIUM")
    found = given or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("no Chromium on PATH: apt-get install chromium, or make test-browser CHROMIUM=/path/to/it")
    return found


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to be sandboxed as root
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield running
        running.close()


@pytest.fixture
def visiting(browser: Browser) -> Callable[..., object]:
    """Open an address: `with visiting(url, width, scheme) as visit`; `before`: a script of the page's first moment."""

    @contextmanager
    def opened(url: str, width: int = 1280, scheme: Scheme = "light", before: str | None = None) -> Iterator[Visit]:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        visit = Visit(page)
        if before is not None:
            page.add_init_script(before)
        page.goto(url)
        yield visit
        page.close()

    return opened
