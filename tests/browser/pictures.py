"""Make the pictures of the docs from a home folder: the report of its first run, and MLflow's pages on all of them.

evergreen run examples/demo.yaml --home DEMO
python -m tests.browser.pictures report DEMO docs/images

evergreen study STUDY.yaml --home STUDY    # of three objectives and three seeds
python -m tests.browser.pictures mlflow STUDY docs/images
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from store.home import Home
from store.ledger import Ledger
from store.report import write
from tests.browser.mlflow_pages import addresses, serving, settle

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MLFLOW = {"runs": 0, "charts": 2, "run": 6}  # charts in sight to wait for; parallel coordinates are none of them
WINDOW = {"width": 1280, "height": 860}
REPORT = {"width": 1280, "height": 1035}  # its beginning: sentences, table, the first charts


def report_picture(browser: Browser, home: Home, folder: Path) -> None:
    """Photograph the beginning of a report."""
    with Ledger.open(home.ledger_url, create=False) as ledger:
        name = ledger.reading.runs()[0].name
        written = write(ledger, home.run_folder(name), name)
    page = browser.new_page(viewport=REPORT)
    page.goto(written.as_uri())
    page.screenshot(path=str(folder / "report.png"))
    page.close()


def mlflow_pictures(browser: Browser, home: Home, folder: Path) -> None:
    """Photograph MLflow's own pages."""
    with serving(home.path) as base:
        pages = addresses(base)
        for title, charts in MLFLOW.items():
            page = browser.new_page(viewport=WINDOW)
            page.goto(pages[title])
            settle(page, charts)
            page.wait_for_timeout(5000)  # its tables fill after its charts
            page.screenshot(path=str(folder / f"mlflow-{title}.png"))
            page.close()


def main(what: str, home: str, folder: str) -> None:
    """Make the pictures of a kind."""
    from playwright.sync_api import sync_playwright

    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        make = {"report": report_picture, "mlflow": mlflow_pictures}[what]
        make(browser, Home(home, create=False), place)


if __name__ == "__main__":
    main(*sys.argv[1:])
