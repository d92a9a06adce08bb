"""The report as a person sees it: in a real browser, wide and narrow, light and dark."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from store.ledger import Ledger
from store.report import REPORT_FILE, render
from tests.store.report.runs import Shape, written
from tests.store.report.test_page import HOSTILE, MANY, all_over

pytestmark = pytest.mark.browser

LOOKS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
SHAPES = {
    "hostile": all_over(" ".join(HOSTILE.values())),
    "many": MANY,
    "long": Shape(environments=["codebook_of_colours_a", "greatest_common_divisors", "words"], stages=27, steps=9),
    "begun": Shape(boundaries=0),
    "flat": Shape(is_flat=True),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of made-up runs."""
    folder = tmp_path_factory.mktemp("pages")
    made = {name: folder / f"{name}.html" for name in SHAPES}
    with Ledger.open("sqlite://") as ledger:
        for name, path in made.items():
            written(ledger, SHAPES[name], name)
            path.write_text(render(ledger, folder, name), "utf-8")
    return made


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
@pytest.mark.parametrize("name", ["small", "flat"])
def test_the_page_of_a_real_run(finished: Path, visiting: Any, name: str, width: int, scheme: str) -> None:
    address = (finished / name / REPORT_FILE).as_uri()
    with visiting(address, width, scheme) as visit:
        assert (visit.errors, visit.requests) == ([], [address])
        assert visit.overflow <= 0
        assert visit.count("h1") == 1
        # 2 of accuracy, 3 panels of categories, entropy, 3 of turnover; a scheduler and 3 bandits, or one bandit
        assert visit.count("figure.chart svg[role=img]") == {"small": 13, "flat": 10}[name]
        assert visit.count("table.heat") == {"small": 3, "flat": 2}[name]  # in flat mode no transfer
        assert all(visit.page.locator("figure.chart").nth(i).bounding_box()["height"] > 100 for i in range(3))
        visit.photograph(f"report-{name}-{width}-{scheme}")


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
@pytest.mark.parametrize("name", SHAPES)
def test_pages_of_odd_runs(pages: dict[str, Path], visiting: Any, name: str, width: int, scheme: str) -> None:
    with visiting(pages[name].as_uri(), width, scheme) as visit:
        assert (visit.errors, len(visit.requests)) == ([], 1)
        assert visit.overflow <= 0
        for fold in visit.page.locator("summary").all():
            fold.click()
        assert visit.overflow <= 0
        assert visit.count("script, img, a") == 0
        visit.photograph(f"report-{name}-{width}-{scheme}-unfolded")


# Boxes of texts in a row, by their chart: those that touch the next one, and those outside the page.
COLLISIONS = """() => {
    document.querySelectorAll('details').forEach(one => one.open = true);
    const found = [];
    for (const chart of document.querySelectorAll('figure.chart'))
        for (const texts of ['text.x', '.band text', 'g > text']) {
            const boxes = [...chart.querySelectorAll(texts)].map(one => [one.getBoundingClientRect(), one.textContent])
                .filter(([box]) => box.width > 0).sort(([a], [b]) => a.left - b.left);
            boxes.forEach(([box, text], i) => {
                const [next, its] = boxes[i + 1] || [];
                if (next && texts !== 'g > text' && box.right > next.left) found.push(`${text} touches ${its}`);
                if (box.left < 0 || box.right > innerWidth) found.push(`${text} is outside`);
            });
        }
    return found;
}"""


@pytest.mark.parametrize("width", [1280, 400])
def test_with_many_stages_and_long_names_no_label_of_an_axis_touches_another(
    pages: dict[str, Path], visiting: Any, width: int
) -> None:
    with visiting(pages["long"].as_uri(), width) as visit:
        assert visit.count(".band text") > 24
        assert visit.page.evaluate(COLLISIONS) == []
        visit.photograph(f"report-long-{width}")


@pytest.mark.parametrize("name", ["many", "hostile"])
def test_the_schemes_differ_and_text_has_contrast(pages: dict[str, Path], visiting: Any, name: str) -> None:
    """WCAG AA asks for 4.5:1; what is checked is every colour that text is written in."""
    grounds = set()
    for scheme in ("light", "dark"):
        with visiting(pages[name].as_uri(), 1280, scheme) as visit:
            ratios = visit.page.evaluate(CONTRASTS)
            grounds.add(visit.page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
            assert len(ratios) > 50
            assert [one for one in ratios if one["ratio"] < 4.5] == []
    assert len(grounds) == 2


def test_what_scrolls_can_be_reached_by_keyboard(pages: dict[str, Path], visiting: Any) -> None:
    with visiting(pages["many"].as_uri(), 390) as visit:
        wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
        assert visit.page.evaluate(f"{wide}.length") >= 3
        assert visit.page.evaluate(f"{wide}.every(e => e.tabIndex === 0 && e.getAttribute('aria-label'))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_wider_than_its_place_has_a_shadow_where_it_goes_on(finished: Path, visiting: Any, scheme: str) -> None:
    address = (finished / "small" / REPORT_FILE).as_uri()
    with visiting(address, 390, scheme) as visit:
        assert shadows(visit, 0) == (False, True)
        assert shadows(visit, 40) == (True, True)
        assert shadows(visit, 10_000) == (True, False)
    with visiting(address, 1280, scheme) as visit:
        assert shadows(visit, 0) == (False, False)


def shadows(visit: Any, left: int) -> tuple[bool, bool]:
    """Whether the table of the top is shaded at its left and its right edge, scrolled to `left` px."""
    table = visit.page.locator(".scroll").first
    table.evaluate("(e, x) => { e.firstElementChild.style.visibility = 'hidden'; e.scrollLeft = x; }", left)
    picture = Image.open(BytesIO(table.screenshot())).convert("L")
    middle = picture.height // 2
    edges = (picture.getpixel((x, middle)) for x in (1, picture.width - 2))
    paper = picture.getpixel((picture.width // 2, middle))
    first, last = (abs(edge - paper) > 10 for edge in edges)
    return first, last


def test_a_print_shows_tables_whole(pages: dict[str, Path], visiting: Any) -> None:
    with visiting(pages["many"].as_uri()) as visit:
        visit.page.emulate_media(media="print")
        assert visit.page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
        assert len(visit.page.pdf()) > 10_000


CONTRASTS = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * x + .7152 * y + .0722 * z;
  };
  const ground = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(rgb(getComputedStyle(e).backgroundColor));
    return layers.reduceRight(
      (below, [r, g, b, alpha]) => [r, g, b].map((v, i) => (v * alpha + below[i] * (255 - alpha)) / 255),
      [255, 255, 255]);
  };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.tagName === 'title') continue;
    const style = getComputedStyle(e);
    const text = rgb(e.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(text), light(ground(e))].sort((p, q) => q - p);
    found.push({text: e.textContent.trim().slice(0, 30), ratio: (a + .05) / (b + .05)});
  }
  return found;
}
"""
